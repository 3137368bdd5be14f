"""``r3dad watch``: every scan that comes into a folder is inspected once, whatever happens meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from r3dad.errors import InputError
from r3dad.inspection import Inspection
from r3dad.line.inbox import Arrival, Inbox
from r3dad.line.index_page import index_page
from r3dad.line.journal import ATTEMPTS, Journal
from r3dad.line.one import inspect_anyway, reason
from r3dad.scans import SUFFIXES, write_atomic

TABLES = (".txt", ".csv")
"""Scanners write notes with these suffixes beside scans: taken only when asked for."""
REFRESH = 30.0
"""Seconds after which the index page is written anew although nothing came, so that it shows that the watcher lives."""
AGAIN = 5.0
"""Seconds of waiting where the inbox or the results' folder cannot be reached."""


def accepted(text: str | None) -> tuple[str, ...]:
    """Suffixes of ``ply,pcd``; None: all that are read but tables.

    Raises:
        InputError: a suffix that is not read.
    """
    if text is None:
        return tuple(s for s in SUFFIXES if s not in TABLES)
    given = tuple("." + part.strip().lower().lstrip(".") for part in text.split(","))
    unknown = [s for s in given if s not in SUFFIXES]
    if unknown:
        raise InputError(f"accept {text!r}: expected some of {' '.join(SUFFIXES)}, separated by commas")
    return given


class Stop:
    """A wish to stop that a signal handler may voice at any moment (an Event's lock could be held by the code it interrupts)."""

    asked = False

    def ask(self) -> None:
        """Stop soon."""
        self.asked = True

    def wait(self, seconds: float) -> None:
        """Sleep, at most 0.2 s longer than until it is asked."""
        end = time.monotonic() + seconds
        while not self.asked and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


class Watcher:
    """Looks into an inbox and writes what ``inspect`` says of each scan into a `Journal`.

    say: takes a line for the log.
    """

    def __init__(
        self,
        inspect: Callable[[Path], Inspection],
        inbox: Inbox,
        journal: Journal,
        *,
        title: str,
        say: Callable[[str], None] = print,
    ) -> None:
        self._inspect, self._inbox, self._journal, self._title, self._say = inspect, inbox, journal, title, say
        self._written = -REFRESH

    def run(self, stop: Stop, *, poll: float = 0.5, once: bool = False) -> None:
        """Watch until ``stop`` is asked (the scan at hand is finished), or with ``once`` until nothing is left to do.

        poll: seconds between looks at the inbox.
        """
        self._index()
        while not stop.asked:
            try:
                ready, waiting = self._inbox.look(self._journal.done)
                for arrival in ready:
                    self._one(arrival)
                    if stop.asked:
                        break
                if time.monotonic() - self._written >= REFRESH:
                    self._index()
            except (
                OSError,
                InputError,
            ) as error:  # a network folder that is away, a full disk: the scans stay to be done
                self._say(f"waiting: {error}")
                stop.wait(AGAIN)
                continue
            if once and not ready and not waiting:
                break
            if not ready:
                stop.wait(poll)
        self._index()

    def _one(self, arrival: Arrival) -> None:
        path = arrival.path
        if self._journal.begin(arrival):
            inspection = inspect_anyway(self._inspect, path)
        else:
            note = f"{path}: the program ended {ATTEMPTS} times while it read this scan; export it again"
            inspection = Inspection.unreadable(path.stem, note, source=path)
        try:
            if Arrival.of(path) != arrival:  # written to meanwhile: what was read may be half of it
                return
        except OSError:
            if inspection.verdict == "UNREADABLE":  # gone before it was read
                return
        try:
            row = self._journal.record(arrival, inspection)
        except (InputError, OSError):
            raise
        except Exception as error:
            note = f"{path}: its result could not be written ({reason(error)})"
            row = self._journal.record(arrival, Inspection.unreadable(path.stem, note, source=path))
        self._say(f"{row['verdict']} {row['file']} ({row['seconds']:.2f} s){': ' + row['note'] if row['note'] else ''}")
        self._index()

    def _index(self) -> None:
        state = f"watching {self._inbox.folder}"
        page = index_page(self._journal.latest, self._journal.counts, title=self._title, state=state)
        write_atomic(self._journal.out / "index.html", page)
        self._written = time.monotonic()
