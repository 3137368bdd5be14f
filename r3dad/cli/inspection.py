"""``r3dad inspect``."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from r3dad import __version__
from r3dad.cli.common import Device, app, bar, console, log, names_of
from r3dad.cli.line import Coverage, Threads
from r3dad.errors import InputError

if TYPE_CHECKING:
    from r3dad.inspection import Inspection

NAMED = 20
"""Parts that are not OK, and unreadable files, that the last lines name."""


@app.command()
def inspect(
    model: Annotated[Path, typer.Argument(help="A model file of `r3dad fit`.")],
    scans: Annotated[list[Path], typer.Argument(help="Scans: files or folders.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html, inspection.json, tables and coloured clouds.")],
    tolerance: Annotated[
        str | None, typer.Option(help="Allowed deviation in mm, e.g. +0.2,-0.1; beside the learned tolerance.")
    ] = None,
    region: Annotated[
        list[str],
        typer.Option(help="A place with limits of its own: x0,y0,z0,x1,y1,z1:+0.1,-0.1 or painted.ply:+0.1,-0.1."),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    coverage: Coverage = 0.0,
    pages: Annotated[
        str,
        typer.Option(
            help="Parts with a place in the page (the 500 worst at most), a picture and a coloured cloud: all, bad (not OK), none."
        ),
    ] = "all",
    pdf: Annotated[bool, typer.Option("--pdf", help=r'Write report.pdf too; needs pip install "r3dad\[pdf]".')] = False,
    engine: Annotated[
        str, typer.Option(help="local; ray: on a cluster, for lists too long for one machine.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of the Ray cluster (HOST:6379, ray://HOST:10001, auto); none: Ray on this machine."),
    ] = None,
    threads: Threads = 1,
    device: Device = None,
) -> None:
    """Judge parts: OK, NG, REVIEW or NOT THIS PART, with a list of defects in mm. Exit code 0: all OK, 1: some not, 2: an error."""
    import torch

    from r3dad.detector import Detector
    from r3dad.inspection import Tolerance, check_pages, check_tolerance, write
    from r3dad.inspection.pdf import needed, write_pdf
    from r3dad.line.ray_inspect import inspect_files
    from r3dad.scans import find_scans

    if pdf:
        needed()
    check_pages(pages)
    torch.set_num_threads(threads)
    given = Tolerance.parse(tolerance, region, coverage)
    detector, files = Detector.load(model, device=device), find_scans(scans)
    check_tolerance(detector.recipe, given)
    count: Counter[str] = Counter()
    errors: list[str] = []
    bad: list[str] = []
    stopped = False
    with bar("inspect") as progress:

        def inspections() -> Iterator[Inspection]:
            nonlocal stopped
            found = inspect_files(detector, files, engine=engine, address=address, tolerance=given, progress=progress)
            try:
                for name, made in zip(names_of(files), found, strict=True):
                    if made.verdict == "UNREADABLE" and len(errors) < NAMED:
                        errors.append(made.note)
                    if made.verdict not in ("OK", "UNREADABLE") and len(bad) < NAMED:
                        bad.append(_line(name, made))
                    count[made.verdict] += 1
                    yield replace(made, name=name)
            except KeyboardInterrupt:  # hours may lie behind it
                stopped = True
            progress(count.total() / len(files), "report")

        r = detector.recipe
        settings = {
            "model": str(model),
            "recipe": r.name,
            "threshold": f"{r.threshold:.4g}, from the good scans and variations of them, each against the others",
            "false-alarm rate": f"{r.false_alarm_rate:.0%} of good scans, as calibrated",
            "tolerance": given.to_text(),
            "r3dad": __version__,
            "date": time.strftime("%Y-%m-%d %H:%M"),
        }
        page = write(out, inspections(), title=model.stem, settings=settings, pages=pages)
        if pdf:
            write_pdf(out)
    table = Table("verdict", "parts")
    for verdict, parts in count.most_common():
        table.add_row(verdict, str(parts))
    console.print(table)
    for line in bad:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    if (more := count.total() - count["OK"] - count["UNREADABLE"] - len(bad)) > 0:
        console.print(f"and {more} more that are not OK; parts.csv has all")
    console.print(f"Report: {page}", markup=False, highlight=False, soft_wrap=True)
    if stopped:
        log.print(f"interrupted: the report holds {count.total()} of {len(files)} scans")
        raise typer.Exit(130)
    if errors:
        more = count["UNREADABLE"] - len(errors)
        errors += [f"and {more} more; parts.csv has their notes"] * (more > 0)
        raise InputError("\nerror: ".join(errors))
    if set(count) - {"OK"}:
        raise typer.Exit(1)


def _line(name: str, made: Inspection) -> str:
    """Verdict, score and worst defect of a part."""
    said = [f"{made.verdict} {name}"]
    if math.isfinite(made.score):
        said.append(f"score {made.score:.2f} (threshold {made.threshold:.2f})")
    if made.defects:
        worst, more = made.defects[0], len(made.defects) - 1
        depth = "" if worst.depth_mm is None else f" {worst.depth_mm:+.2f} mm"
        said.append(f"{worst.kind}{depth}{f' and {more} more' if more else ''}")
    return ", ".join(said + [made.note] * bool(made.note))
