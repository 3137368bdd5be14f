"""Scans of a list inspected here or on a Ray cluster: the same function, the same inspections in the same order."""

from __future__ import annotations

import functools
import hashlib
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from r3dad.detector import Detector
from r3dad.engine import Progress, run_units
from r3dad.errors import InputError
from r3dad.inspection import Inspection, Tolerance
from r3dad.line.one import inspect_anyway, inspect_file

_FILE = "model.safetensors"


@dataclass(frozen=True)
class Numbered:
    """A file and its place in the list, in which it may stand twice."""

    number: int
    path: Path

    def __str__(self) -> str:
        return self.path.name


@dataclass(frozen=True)
class InspectThere:
    """Inspects a file in whatever process it is called: it brings its model with it, so that a node needs the scans alone.

    model: the bytes of a model file, uint8; mark: of these bytes, by which a process knows that it has loaded them.
    """

    mark: str
    device: str
    model: np.ndarray = field(compare=False)
    tolerance: Tolerance | None = field(compare=False)

    @classmethod
    def of(cls, detector: Detector, tolerance: Tolerance | None) -> InspectThere:
        """What inspects as ``detector`` does."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / _FILE
            detector.save(path)
            data = path.read_bytes()
        return cls(hashlib.sha256(data).hexdigest(), detector.device, np.frombuffer(data, np.uint8), tolerance)

    def __call__(self, file: Numbered) -> Inspection:
        return _inspected(_loaded(self), file, self.tolerance)


def _inspected(detector: Detector, file: Numbered, tolerance: Tolerance | None) -> Inspection:
    return inspect_anyway(lambda path: inspect_file(detector, path, tolerance=tolerance), file.path)


@functools.lru_cache(maxsize=1)
def _loaded(work: InspectThere) -> Detector:
    """The model of this process: units come one by one, and loading it takes longer than inspecting one."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / _FILE
        path.write_bytes(work.model.tobytes())
        return Detector.load(path, device=work.device)


def inspect_files(
    detector: Detector,
    files: Sequence[Path],
    *,
    engine: str = "local",
    address: str | None = None,
    tolerance: Tolerance | None = None,
    gpus: float = 0.0,
    progress: Progress | None = None,
) -> Iterator[Inspection]:
    """Inspections of scan files, in the order of the files, as soon as they and those before them are there.

    A file that cannot be read, used or inspected is ``UNREADABLE`` with the reason in its note. On Ray (`r3dad.engine.run_units`) the
    files must lie under the same paths on every node (a network folder); the model travels. A scan whose worker is lost is inspected
    again elsewhere; what comes after it waits in memory meanwhile. gpus: of every scan there (0.5: two share one).

    Raises:
        InputError: nothing is fitted, an unknown engine, no Ray, or no cluster at ``address``.
    """

    def here(file: Numbered) -> Inspection:
        return _inspected(detector, file, tolerance)

    work = here if engine == "local" else InspectThere.of(detector, tolerance)
    # A worker of Ray has another working folder.
    units = [Numbered(i, file if engine == "local" else file.absolute()) for i, file in enumerate(files)]
    early: dict[int, Inspection] = {}
    turn = 0
    for unit, result in run_units(units, work, engine=engine, address=address, gpus=gpus, progress=progress):
        if isinstance(result, InputError):  # its workers died
            result = Inspection.unreadable(unit.path.stem, str(result), source=unit.path)
        early[unit.number] = result
        while turn in early:
            yield early.pop(turn)
            turn += 1
