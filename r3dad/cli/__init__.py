"""The command line: one module per group of commands, this one puts them together."""

from __future__ import annotations

import signal
import sys
from typing import Annotated

import typer

from r3dad import __version__
from r3dad.cli import inspection, line, model, reproduce, research  # noqa: F401  (they add their commands)
from r3dad.cli.common import app, console, log
from r3dad.errors import InputError


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
