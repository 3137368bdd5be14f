"""What every command shares: the application, its consoles, options, progress, tables."""

from __future__ import annotations

import contextlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

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


def settings_of(given: list[str], **named: Any) -> dict[str, Any]:
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


def names_of(files: list[Path]) -> list[str]:
    """What results call the files: the stem, where several share it the name, where they share that too the path."""
    names = [file.stem for file in files]
    for longer in (lambda file: file.name, str):
        count = Counter(names)
        names = [longer(file) if count[name] > 1 else name for file, name in zip(files, names, strict=True)]
    return names


@contextlib.contextmanager
def working(title: str) -> Iterator[Callable[[float, str], None]]:
    """A bar, and a word on interruption (typer ends the process with exit code 130)."""
    try:
        with bar(title) as progress:
            yield progress
    except KeyboardInterrupt:
        log.print("interrupted; give the same command again")
        raise


@contextlib.contextmanager
def bar(title: str) -> Iterator[Callable[[float, str], None]]:
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


def print_figures(results: dict[str, Any]) -> None:
    table = Table("class", "O-AUROC", "P-AUROC", "O-AP", "P-AP", "s/scan")
    figures = ("o_auroc", "p_auroc", "o_ap", "p_ap", "seconds_per_scan")
    for name, row in [*results["classes"].items(), ("mean", results["mean"])]:
        table.add_row(name, *("-" if row[f] is None else f"{row[f]:.3f}" for f in figures))
    console.print(table)
    for name, reason in results["skipped"].items():
        console.print(f"skipped {name}: {reason}", style="yellow", markup=False)
