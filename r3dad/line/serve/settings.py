"""Settings of the server, and the checks that need nothing of the web."""

from __future__ import annotations

import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path

from r3dad.errors import InputError

LEAST_TOKEN = 16
"""Characters."""


@dataclass(frozen=True)
class ServeConfig:
    """Of one server.

    Attributes:
        workers: processes that inspect, each with every model and ``threads`` CPU threads. batch: waiting scans that one
            takes at once. queue: scans that may wait; more get 503.
        most_bytes: of one upload. most_points: of one scan. rate: requests per second and client address, bursts of twice as many.
        timeout: seconds for one inspection, and to receive one upload. keep: latest results that are kept, with their scans.
        keep_bytes: of scans and pages kept together. token: of the clients; None: everyone on this machine.
    """

    workers: int = 1
    threads: int = 1
    batch: int = 1
    queue: int = 32
    most_bytes: int = 64 << 20
    most_points: int = 2_000_000
    rate: float = 50.0
    timeout: float = 60.0
    keep: int = 200
    keep_bytes: int = 2 << 30
    token: str | None = None


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: Path | None) -> str | None:
    """Token of a file's first line, else of the variable R3DAD_TOKEN, else None.

    Raises:
        InputError: the file cannot be read, or the token is short or no plain text.
    """
    if file is None:
        token = os.environ.get("R3DAD_TOKEN")
        if token is None:
            return None
        place = "R3DAD_TOKEN"
    else:
        place = str(file)
        try:
            token = file.read_text().split("\n", 1)[0].strip()
        except (OSError, UnicodeDecodeError):
            raise InputError(f"{file}: the token cannot be read; put it into the first line of a text file") from None
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(
            f"{place}: expected a token of at least {LEAST_TOKEN} letters, digits and signs, without blanks"
        )
    return token


def named_models(files: list[Path]) -> dict[str, Path]:
    """Models by their files' stems.

    Raises:
        InputError: two of the same name.
    """
    models: dict[str, Path] = {}
    for file in files:
        if file.stem in models:
            raise InputError(f"{file}: a model of the name {file.stem} is given already; rename one of the files")
        models[file.stem] = file
    return models
