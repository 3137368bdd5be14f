"""``r3dad reproduce``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from r3dad.cli.common import Device, app, console, settings_of, working
from r3dad.errors import InputError

Protocol = Annotated[
    str, typer.Option(help="last, or paper-best-epoch: the best of evaluations on the test set, as the public code.")
]


@app.command()
def reproduce(
    name: Annotated[str, typer.Argument(help="table1 ... table7, fig4 or fig6.")],
    real3d: Annotated[Path | None, typer.Option(help="Folder of Real3D-AD, or of scans in its layout.")] = None,
    shapenet: Annotated[
        Path | None, typer.Option(help="Folder of Anomaly-ShapeNet, or of scans in its layout.")
    ] = None,
    out: Annotated[
        Path, typer.Option(help="Folder for the tables, and for what an interrupted run goes on from.")
    ] = Path("reproduced"),
    quick: Annotated[bool, typer.Option("--quick", help="A far shorter schedule, printed with the table.")] = False,
    seeds: Annotated[str, typer.Option(help="Repetitions, separated by commas.")] = "0",
    classes: Annotated[str | None, typer.Option(help="Only these classes, separated by commas.")] = None,
    methods: Annotated[str | None, typer.Option(help="Only these methods (tables 1, 2, 7, fig4).")] = None,
    setting: Annotated[
        list[str], typer.Option("--set", help="A setting of a method, METHOD.NAME=VALUE (weights, say); repeatedly.")
    ] = [],  # noqa: B006
    protocol: Protocol = "last",
    every: Annotated[
        int | None,
        typer.Option(help="Iterations between evaluations of the paper's recipe; without it, of the schedule.", min=1),
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            help="Finished runs, the --out of r3dad evaluate: tables 1, 2, 7 and fig4 of those; nothing is run."
        ),
    ] = None,
    engine: Annotated[str, typer.Option(help="local, or ray: the same on a Ray cluster.")] = "local",
    address: Annotated[
        str | None, typer.Option(help="Of a running Ray cluster; without it one is started here.")
    ] = None,
    device: Device = None,
) -> None:
    """A table or figure of the paper: its own figures beside ours. What is done is kept, so an interrupted run goes on."""
    from rich.box import SIMPLE
    from rich.console import Console
    from rich.table import Table as Grid

    from r3dad.reproduce import Run
    from r3dad.reproduce import reproduce as run
    from r3dad.reproduce.protocols import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise InputError(f"--protocol {protocol}: expected one of {', '.join(PROTOCOLS)}")
    try:
        repetitions = tuple(dict.fromkeys(int(seed) for seed in seeds.split(",")))
    except ValueError:
        raise InputError(f"--seeds {seeds}: expected whole numbers separated by commas, as 0,1,2") from None
    settings: dict[str, dict[str, Any]] = {}
    for key, value in settings_of(setting).items():
        method, dot, what = key.partition(".")
        if not dot:
            raise InputError(f"--set {key}: expected METHOD.NAME=VALUE")
        settings.setdefault(method, {})[what] = value
    with working(name) as progress:
        table = run(
            name,
            Run(
                out=out / "quick" if quick else out,
                real3d=real3d,
                shapenet=shapenet,
                quick=quick,
                seeds=repetitions,
                classes=tuple(classes.split(",")) if classes else None,
                methods=tuple(methods.split(",")) if methods else None,
                settings=settings,
                protocol=protocol,
                every=every,
                results=results,
                device=device,
                engine=engine,
                address=address,
                progress=progress,
            ),
        )
    wide = Console(width=max(console.width, 200))  # lines of a narrow terminal wrap; no figure is cut
    console.print(f"{name}: {table.title}", markup=False, highlight=False)
    for part in table.parts():
        grid = Grid(*map(_head, part.columns), box=SIMPLE, pad_edge=False)
        for column in grid.columns:
            column.no_wrap = True
        for row in part.cells:
            grid.add_row(*row)
        if part.title:
            console.print(f"\n{part.title}", highlight=False)
        wide.print(grid)
    for line in table.remarks():
        console.print(line, markup=False, highlight=False)
    console.print(f"written: {out / 'quick' if quick else out}/{name}.md, .csv, .json", markup=False, highlight=False)


def _head(column: str) -> str:
    """A column's name on more lines where it is long."""
    words = "\n".join(column.rsplit(" ", 1))
    return "\n".join(w if len(w) <= 12 else "-\n".join(w.rsplit("-", 1)) for w in words.split("\n"))
