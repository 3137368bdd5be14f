"""``r3dad fit | predict | demo | doctor``."""

from __future__ import annotations

import math
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from r3dad import __version__
from r3dad.cli.common import (
    Device,
    Iterations,
    Recipe,
    Settings,
    app,
    console,
    names_of,
    print_figures,
    settings_of,
    working,
)
from r3dad.errors import InputError


@app.command()
def fit(
    out: Annotated[Path, typer.Option(help="The model file to write, e.g. part.safetensors.")],
    scans: Annotated[list[Path] | None, typer.Argument(help="Good scans: files or folders.")] = None,
    nominal: Annotated[Path | None, typer.Option(help="A mesh of the part (STL, mm) instead of good scans.")] = None,
    recipe: Recipe = "aligned",
    iterations: Iterations = None,
    setting: Settings = [],  # noqa: B006 - typer reads the default, nobody changes it
    device: Device = None,
) -> None:
    """Learn a part from good scans. An interrupted fit goes on when the same command is given again."""
    from r3dad.detector import Detector
    from r3dad.scans import find_scans

    if nominal is None and not scans:
        raise InputError("fit: expected good scans, or --nominal part.stl")
    if out.is_dir():  # told before the work, not after it
        raise InputError(f"{out}: a folder; expected the model file to write, as {out / 'part.safetensors'}")
    files = find_scans(scans) if scans else []
    detector = Detector(recipe, device=device, **settings_of(setting, iterations=iterations))
    started = time.perf_counter()

    def named(words: str) -> str:
        """With the file of each good scan that is told by its number."""
        return re.sub(
            r"good scan (\d+)\b", lambda m: f"good scan {m[1]} ({files[int(m[1]) - 1]})" if files else m[0], words
        )

    with working("fit") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # the recipe's note says it below
        try:
            detector.fit(files, nominal=nominal, progress=progress, resume=out.with_name(out.name + ".training"))
        except InputError as error:
            raise InputError(named(str(error))) from None
    detector.save(out)
    r = detector.recipe
    given = nominal.name if nominal else f"{len(files)} good scan{'s' * (len(files) > 1)}"
    console.print(
        f"{given}, {time.perf_counter() - started:.0f} s; "
        f"threshold {r.threshold:.4g} "
        f"(false-alarm rate {r.false_alarm_rate:.0%} on good scans, {r.found:.0%} of synthetic defects found). Model: {out}"
    )
    if note := getattr(r, "note", ""):
        console.print(named(note), style="yellow", markup=False)


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A model file of `r3dad fit`.")],
    scans: Annotated[list[Path], typer.Argument(help="Scans: files or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for scores.csv, heat-coloured PLYs and report.html.")],
    device: Device = None,
) -> None:
    """Score scans: a verdict per part, a heat map per point, a report. A scan that cannot be read is named; the others run on."""
    from r3dad.detector import Detector
    from r3dad.outcome import predict_file
    from r3dad.report import ReportItem, write_report
    from r3dad.scans import find_scans

    detector, files = Detector.load(model, device=device), find_scans(scans)
    errors: list[InputError] = []
    with working("predict") as progress:

        def items() -> Iterator[ReportItem]:
            for i, (file, name) in enumerate(zip(files, names_of(files), strict=True)):
                progress(i / len(files), file.name)
                try:
                    yield predict_file(detector, file).report_item(name)
                except InputError as error:
                    errors.append(error)
                    if len(errors) == len(files):  # nothing to report on
                        raise
                    yield ReportItem(name, np.zeros((0, 3)), np.zeros(0), math.nan, None, note=str(error))
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
def demo(
    out: Annotated[Path, typer.Option(help="Folder for scans, models, figures and the report.")] = Path("r3dad-demo"),
    recipe: Recipe = "aligned",
    setting: Settings = [],  # noqa: B006
    device: Device = None,
) -> None:
    """Make parts with and without defects, learn the good ones, find the bad ones, write the report."""
    from r3dad.demo import run

    with working("demo") as progress:
        results, page = run(out, recipe=recipe, settings=settings_of(setting), device=device, progress=progress)
    print_figures(results)
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
