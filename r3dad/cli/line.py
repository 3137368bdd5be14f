"""``r3dad watch | serve | repeatability``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from r3dad.cli.common import Device, app, console, log
from r3dad.errors import InputError

Tolerance = Annotated[
    str | None, typer.Option(help="Limits of the deviation in mm beside the learned ones, e.g. +0.2,-0.1.")
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of one inspection.")]
Model = Annotated[Path, typer.Argument(help="A model file of `r3dad fit`.")]


@app.command()
def watch(
    model: Model,
    inbox: Annotated[Path, typer.Argument(help="Folder that scans are put into.")],
    out: Annotated[Path, typer.Option(help="Folder for results, pages, parts.csv and index.html.")],
    tolerance: Tolerance = None,
    accept: Annotated[
        str | None, typer.Option(help="Suffixes to take, e.g. ply,pcd; all that are read but txt and csv unless given.")
    ] = None,
    settle: Annotated[float, typer.Option(min=0.1, help="Seconds without change after which a file is whole.")] = 1.0,
    pages: Annotated[str, typer.Option(help="A page with a 3D view for: bad (every part not OK), all, none.")] = "bad",
    once: Annotated[bool, typer.Option("--once", help="Inspect what is there, then end.")] = False,
    threads: Threads = 1,
    device: Device = None,
) -> None:
    """Inspect every scan that comes into a folder, once each, also after a crash. Ctrl-C or SIGTERM ends it after the scan at hand."""
    import torch

    from r3dad.detector import Detector
    from r3dad.inspection import Tolerance as Limits
    from r3dad.line.inbox import Inbox
    from r3dad.line.journal import Journal
    from r3dad.line.one import inspect_file
    from r3dad.line.watch import Stop, Watcher, accepted

    if not inbox.is_dir():
        raise InputError(f"{inbox}: expected a folder that scans are put into; make it first")
    if out.resolve() == inbox.resolve():
        raise InputError(f"{out}: results cannot go where scans come in; give another --out")
    torch.set_num_threads(threads)
    limits = Limits.parse(tolerance) if tolerance else None
    suffixes = accepted(accept)
    detector = Detector.load(model, device=device)
    settings = {"model": str(model), "threshold": f"{detector.threshold:.4g}"}
    if limits:
        settings["tolerance"] = limits.to_text()
    journal = Journal(out, title=model.stem, settings=settings, pages=pages)
    watcher = Watcher(
        lambda file: inspect_file(detector, file, tolerance=limits),
        Inbox(inbox, suffixes, settle),
        journal,
        title=f"{model.stem}: inspections",
        say=lambda line: log.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    stop = Stop()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.ask())
    before = sum(journal.counts.values())
    log.print(
        f"watching {inbox}; {before} results are there. Page: {out / 'index.html'}", markup=False, highlight=False
    )
    try:
        watcher.run(stop, once=once)
    finally:
        journal.close()
    counts = ", ".join(f"{n} {verdict}" for verdict, n in journal.counts.items()) or "none"
    console.print(f"{sum(journal.counts.values()) - before} scans inspected now; all results: {counts}", markup=False)
