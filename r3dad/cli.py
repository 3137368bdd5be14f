"""The command line: ``r3dad demo | fit | predict | evaluate | doctor``."""

from __future__ import annotations

import contextlib
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from r3dad import __version__
from r3dad.errors import InputError

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Find defects on 3D scans of parts.",
)
console = Console()
log = Console(stderr=True)

Recipe = Annotated[str, typer.Option(help="aligned (the default) or paper.")]
Settings = Annotated[
    list[str], typer.Option("--set", help="A setting of the recipe, NAME=VALUE; may be given repeatedly.")
]
Iterations = Annotated[int | None, typer.Option(help="Training iterations of the paper recipe (its default is 40000).")]
Device = Annotated[str | None, typer.Option(help="cpu or cuda; a GPU is taken where there is one.")]


def _settings(given: list[str], **named: Any) -> dict[str, Any]:
    settings = {name: value for name, value in named.items() if value is not None}
    for item in given:
        name, equals, text = item.partition("=")
        if not equals:
            raise InputError(f"--set {item}: expected NAME=VALUE")
        try:
            settings[name] = json.loads(text)
        except json.JSONDecodeError:
            settings[name] = text
    return settings


@contextlib.contextmanager
def _working(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar, and a word on interruption (typer ends the process with exit code 130)."""
    try:
        with _bar(title) as progress:
            yield progress
    except KeyboardInterrupt:
        log.print("interrupted; give the same command again to go on")
        raise


@contextlib.contextmanager
def _bar(title: str) -> Iterator[Callable[[float, str], None]]:
    """Progress on stderr: a bar on a terminal, a line every ten seconds in a log. The function takes the share done and a few words."""
    if not log.is_terminal:
        said = -10.0

        def line(share: float, words: str) -> None:
            nonlocal said
            if time.monotonic() - said >= 10:
                log.print(f"{title}: {share:.0%} {words}", markup=False, highlight=False)
                said = time.monotonic()

        yield line
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"))
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=log) as progress:
        task = progress.add_task(title, total=1.0)
        yield lambda share, words: progress.update(task, completed=share, description=f"{title}: {words}")


@app.command()
def fit(
    scans: Annotated[list[Path], typer.Argument(help="Good scans: files or folders.")],
    out: Annotated[Path, typer.Option(help="The model file to write, e.g. part.safetensors.")],
    recipe: Recipe = "aligned",
    iterations: Iterations = None,
    setting: Settings = [],  # noqa: B006 - typer reads the default, nobody changes it
    device: Device = None,
) -> None:
    """Learn a part from good scans. An interrupted fit goes on when the same command is given again."""
    from r3dad.detector import Detector
    from r3dad.scans import find_scans

    files = find_scans(scans)
    detector = Detector(recipe, device=device, **_settings(setting, iterations=iterations))
    started = time.perf_counter()
    with _working("fit") as progress:
        detector.fit(files, progress=progress, resume=out.with_name(out.name + ".training"))
    detector.save(out)
    r = detector.recipe
    console.print(
        f"{len(files)} good scans, {time.perf_counter() - started:.0f} s; threshold {r.threshold:.4g} "
        f"(false-alarm rate {r.false_alarm_rate:.0%} on good scans, {r.found:.0%} of synthetic defects found). Model: {out}"
    )


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model file of `r3dad fit`.")],
    scans: Annotated[list[Path], typer.Argument(help="Scans: files or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.csv, heat-coloured PLYs and report.html.")],
    device: Device = None,
) -> None:
    """Score scans: a verdict per part, a heat map per point, a report. A scan that cannot be read is named; the others run on."""
    from r3dad.detector import Detector
    from r3dad.evaluate import predict_file
    from r3dad.report import ReportItem, write_report
    from r3dad.scans import find_scans

    detector, files = Detector.load(model, device=device), find_scans(scans)
    errors: list[InputError] = []
    with _working("predict") as progress:

        def items() -> Iterator[ReportItem]:
            for i, file in enumerate(files):
                progress(i / len(files), file.name)
                try:
                    yield predict_file(detector, file).report_item()
                except InputError as error:
                    errors.append(error)
                    if len(errors) == len(files):  # nothing to report on
                        raise
                    yield ReportItem(file.stem, np.zeros((0, 3)), np.zeros(0), math.nan, None, note=str(error))
            progress(1.0, "report")

        page = write_report(
            out, items(), title=model.stem, settings=_described(detector, model), threshold=detector.threshold
        )
    console.print(f"{len(files) - len(errors)} of {len(files)} scans scored. Report: {page}")
    if errors:
        raise InputError("\nerror: ".join(map(str, errors)))


def _described(detector: Any, model: Path) -> dict[str, str]:
    recipe = detector.recipe
    return {
        "model": str(model),
        "recipe": recipe.name,
        "threshold": f"{recipe.threshold:.4g}",
        "false-alarm rate": f"{recipe.false_alarm_rate:.0%} of good scans",
        "r3dad": __version__,
        "date": time.strftime("%Y-%m-%d %H:%M"),
    }


@app.command()
def evaluate(
    root: Annotated[Path, typer.Argument(help="Folder of a data set in the Anomaly-ShapeNet or Real3D-AD layout.")],
    out: Annotated[Path, typer.Option(help="Folder for results.csv, results.json and the models.")],
    classes: Annotated[str | None, typer.Option(help="Only these classes, separated by commas.")] = None,
    layout: Annotated[str, typer.Option(help="auto, shapenet or real3d.")] = "auto",
    recipe: Recipe = "aligned",
    iterations: Iterations = None,
    setting: Settings = [],  # noqa: B006
    device: Device = None,
) -> None:
    """Fit and test every class of a data set. Classes that are done are kept, so an interrupted run goes on."""
    from r3dad.evaluate import evaluate as run

    with _working("evaluate") as progress:
        results = run(
            root,
            out,
            recipe=recipe,
            settings=_settings(setting, iterations=iterations),
            classes=classes.split(",") if classes else None,
            layout=layout,
            device=device,
            progress=lambda name, share, words: progress(share, f"{name} {words}"),
        )
    _print_figures(results)


def _print_figures(results: dict[str, Any]) -> None:
    table = Table("class", "O-AUROC", "P-AUROC", "O-AP", "P-AP", "s/scan")
    figures = ("o_auroc", "p_auroc", "o_ap", "p_ap", "seconds_per_scan")
    for name, row in [*results["classes"].items(), ("mean", results["mean"])]:
        table.add_row(name, *("-" if row[f] is None else f"{row[f]:.3f}" for f in figures))
    console.print(table)
    for name, reason in results["skipped"].items():
        console.print(f"skipped {name}: {reason}", style="yellow", markup=False)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for scans, models, figures and the report.")] = Path("r3dad-demo"),
    recipe: Recipe = "aligned",
    setting: Settings = [],  # noqa: B006
    device: Device = None,
) -> None:
    """Make parts with and without defects, learn the good ones, find the bad ones, write the report."""
    from r3dad.demo import run

    with _working("demo") as progress:
        results, page = run(out, recipe=recipe, settings=_settings(setting), device=device, progress=progress)
    _print_figures(results)
    console.print(f"Report: {page}")


@app.command()
def doctor() -> None:
    """What is built, which backend each operation takes and why not the others, threads, instruction sets, GPU."""
    from r3dad import doctor as d

    facts = d.environment()
    for name in ("r3dad", "python", "processor", "threads", "gpu"):
        console.print(f"{name:10} {facts[name]}", markup=False, highlight=False)
    for group in (facts["native"], facts["libraries"], d.variables()):
        for name, text in group.items():
            console.print(f"{name:10} {text}", markup=False, highlight=False)
    table = Table("operation", "device", "backend", "the others")
    for row in d.choices():
        table.add_row(row["op"], row["device"], row["backend"], row["others"])
    console.print(table)


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        console.print(__version__)
        raise typer.Exit()


def main() -> None:
    """The ``r3dad`` command: errors for people, exit code 2."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill keeps the state too
    try:
        app()
    except InputError as error:
        log.print(f"error: {error}", style="red", markup=False, highlight=False, soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
