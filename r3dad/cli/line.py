"""``r3dad watch | serve | repeatability``."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from r3dad.cli.common import Device, app, console, log, working
from r3dad.errors import InputError

Tolerance = Annotated[
    str | None, typer.Option(help="Limits of the deviation in mm beside the learned ones, e.g. +0.2,-0.1.")
]
Coverage = Annotated[
    float,
    typer.Option(
        help="Share of the part, e.g. 0.9, that a scan must show; one that shows less is REVIEW at best.", min=0, max=1
    ),
]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads of one inspection.")]
Model = Annotated[Path, typer.Argument(help="A model file of `r3dad fit`.")]


@app.command()
def watch(
    model: Model,
    inbox: Annotated[Path, typer.Argument(help="Folder that scans are put into.")],
    out: Annotated[Path, typer.Option(help="Folder for results, pages, parts.csv and index.html.")],
    tolerance: Tolerance = None,
    coverage: Coverage = 0.0,
    accept: Annotated[
        str | None, typer.Option(help="Suffixes to take, e.g. ply,pcd; all that are read but txt and csv unless given.")
    ] = None,
    settle: Annotated[float, typer.Option(min=0.1, help="Seconds without change after which a file is whole.")] = 1.0,
    pages: Annotated[str, typer.Option(help="A page with a 3D view for: bad (every part not OK), all, none.")] = "bad",
    once: Annotated[
        bool, typer.Option("--once", help="Inspect what is there, then end: exit code 0 if all are OK, else 1.")
    ] = False,
    threads: Threads = 1,
    device: Device = None,
) -> None:
    """Inspect every scan that comes into a folder, once each, also after a crash. Ctrl-C or SIGTERM ends it after the scan at hand."""
    import torch

    from r3dad.detector import Detector
    from r3dad.inspection import Tolerance as Limits
    from r3dad.inspection import check_tolerance
    from r3dad.line.inbox import Inbox
    from r3dad.line.journal import Journal
    from r3dad.line.one import inspect_file
    from r3dad.line.watch import Stop, Watcher, accepted

    if not inbox.is_dir():
        raise InputError(f"{inbox}: expected a folder that scans are put into; make it first")
    if out.resolve() == inbox.resolve():
        raise InputError(f"{out}: results cannot go where scans come in; give another --out")
    torch.set_num_threads(threads)
    limits = Limits.parse(tolerance, coverage=coverage)
    suffixes = accepted(accept)
    detector = Detector.load(model, device=device)
    check_tolerance(detector.recipe, limits)
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
    before = journal.counts.copy()
    log.print(
        f"watching {inbox}; results so far: {before.total()}. Page: {out / 'index.html'}",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    try:
        watcher.run(stop, once=once)
    finally:
        journal.close()
    fresh = journal.counts - before
    said = ", ".join(f"{n} {verdict}" for verdict, n in fresh.most_common()) or "none"
    console.print(f"inspected: {said}; {journal.counts.total()} in all", markup=False)
    if once and fresh.total() > fresh["OK"]:
        raise typer.Exit(1)


@app.command()
def serve(
    models: Annotated[
        list[Path], typer.Argument(help="Model files of `r3dad fit`; a file's stem is the model's name.")
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen on; others than this machine's own need a token.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 8750,
    workers: Annotated[int, typer.Option(min=1, help="Processes that inspect; each holds every model.")] = 1,
    threads: Threads = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Waiting scans that a worker takes at once; only the paper recipe gains from it.")
    ] = 1,
    queue: Annotated[int, typer.Option(min=1, help="Scans that may wait; more are answered 503.")] = 32,
    most_mib: Annotated[float, typer.Option(min=0.001, help="MiB of one upload.")] = 64,
    most_points: Annotated[int, typer.Option(min=1, help="Points of one scan.")] = 2_000_000,
    rate: Annotated[float, typer.Option(min=0.001, help="Requests a second and client; bursts of twice as many.")] = 50,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds of one inspection and of one upload.")] = 60,
    keep: Annotated[int, typer.Option(min=1, help="Latest results that are kept, with their scans.")] = 200,
    token_file: Annotated[
        Path | None, typer.Option(help="File whose first line is the clients' token; else the variable R3DAD_TOKEN.")
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder for uploads; the system's temporary one unless given.")
    ] = None,
    device: Device = None,
) -> None:
    """Take scans over HTTP, answer with inspections. Ctrl-C or SIGTERM ends it after the scans at hand."""
    from r3dad.line.serve.settings import ServeConfig, named_models, read_token

    try:
        from r3dad.line.serve.app import serve as run
    except ImportError:
        raise InputError('serve needs FastAPI and uvicorn; run: pip install "r3dad[serve]"') from None
    config = ServeConfig(
        workers=workers,
        threads=threads,
        batch=batch,
        queue=queue,
        most_bytes=int(most_mib * (1 << 20)),
        most_points=most_points,
        rate=rate,
        timeout=timeout,
        keep=keep,
        token=read_token(token_file),
    )

    def started(url: str, about: dict[str, Any]) -> None:
        log.print(
            f"serving {', '.join(about)} at {url} ({'with' if config.token else 'without'} a token)", markup=False
        )

    run(named_models(models), config, host=host, port=port, work=work, device=device, started=started)


@app.command()
def repeatability(
    model: Model,
    scans: Annotated[list[Path], typer.Argument(help="Scans of one and the same part, in the order they were taken.")],
    out: Annotated[Path, typer.Option(help="Folder for repeatability.html, .json and .csv.")],
    tolerance: Tolerance = None,
    reference: Annotated[
        float | None, typer.Option(help="True deviation in mm at the places --at, for bias and Cgk.")
    ] = None,
    at: Annotated[
        list[str],
        typer.Option("--at", help="A place x,y,z in the part's frame (mm) to study; may be given repeatedly."),
    ] = [],  # noqa: B006 - typer reads the default, nobody changes it
    threads: Threads = 1,
    device: Device = None,
) -> None:
    """How far score, deviations and verdicts spread over scans of one part: a Type-1 gauge study (Cg, Cgk) as a page."""
    import torch

    from r3dad.detector import Detector
    from r3dad.inspection import Tolerance as Limits
    from r3dad.line.repeatability import repeatability as study
    from r3dad.line.repeatability import write
    from r3dad.scans import find_scans

    torch.set_num_threads(threads)
    limits = Limits.parse(tolerance).limits if tolerance else None
    if reference is not None and not at:
        raise InputError("--reference: expected a place that it holds for; add --at x,y,z")
    places = [_place(text) for text in at]
    files = find_scans(scans)
    with working("repeatability") as progress:
        result = study(
            Detector.load(model, device=device),
            files,
            model=model.stem,
            tolerance=limits[1] - limits[0] if limits else None,
            reference=reference,
            at=places,
            progress=progress,
        )
    page = write(out, result)
    for s in result.studies:
        unit = f" {s.unit}" * bool(s.unit)
        said = [f"mean {s.mean:.4g}{unit}", f"s {s.s:.3g}{unit}"]
        said += [f"{name} {value:.2f}" for name, value in (("Cg", s.cg), ("Cgk", s.cgk)) if value is not None]
        console.print(f"{s.name}: {', '.join(said)}", markup=False, highlight=False, soft_wrap=True)
    console.print(
        f"verdicts: {', '.join(f'{n} {v}' for v, n in result.verdicts.most_common())}. Page: {page}",
        markup=False,
        soft_wrap=True,
    )


def _place(text: str) -> tuple[float, float, float]:
    try:
        x, y, z = map(float, text.split(","))
    except ValueError:
        raise InputError(f"--at {text}: expected a place x,y,z in mm") from None
    return x, y, z
