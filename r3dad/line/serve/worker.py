"""A process that inspects. It gets jobs as JSON through a pipe, a list at a time, and answers each with a message; nothing else is
shared."""

from __future__ import annotations

import contextlib
import json
import math
import signal
from collections.abc import Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from r3dad.errors import InputError


def work(pipe: Connection, models: dict[str, str], threads: int, most_points: int, device: str | None) -> None:
    """Load the models, say so (``{"ready": ...}``), then answer lists of jobs until the pipe closes.

    A job is ``{"model", "file"}``, with ``"page": folder`` where the report is wanted too. Each has an answer ``{"job": its place in the
    list}`` with ``"inspection": JSON``, ``"error": line`` or, where the fault is ours, ``"fault": line``; an error's line says ``{file}``
    where the scan's path stood.
    """
    import torch

    from r3dad.detector import Detector

    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C goes to the whole group; the server closes the pipe when it is done
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(threads)
    try:
        detectors = {name: Detector.load(path, device=device) for name, path in models.items()}
    except InputError as error:
        _send(pipe, {"error": str(error)})
        return
    for detector in detectors.values():
        _warm(detector)
    _send(pipe, {"ready": {name: _about(detector) for name, detector in detectors.items()}})
    while True:
        try:
            jobs = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        for job, answer in _answers(detectors, jobs, most_points):
            _send(pipe, {"job": job, **answer})


def _send(pipe: Connection, message: dict[str, Any]) -> None:
    try:
        text = json.dumps(message, allow_nan=False)
    except ValueError as error:  # a figure that is not finite, which no client could read
        text = json.dumps({"job": message.get("job"), "fault": str(error)})
    pipe.send_bytes(text.encode())


def _warm(detector: Any) -> None:
    """Inspect the good surface itself: the first inspection of a process loads libraries for seconds, and scans would pile up behind it."""
    recipe = detector.recipe
    if hasattr(recipe, "surface"):
        points = recipe.surface.points * recipe.frame.scale + recipe.frame.centre.numpy()
        with contextlib.suppress(InputError):
            detector.inspect(points)


def _about(detector: Any) -> dict[str, Any]:
    recipe = detector.recipe
    threshold = float(recipe.threshold)  # inf: a public checkpoint brings none
    return {
        "recipe": recipe.name,
        "threshold": threshold if math.isfinite(threshold) else None,
        "false_alarm_rate": float(recipe.false_alarm_rate),
    }


def _answers(
    detectors: dict[str, Any], jobs: list[dict[str, Any]], most_points: int
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Scans of one model are inspected together; where that fails each by itself, so that the one at fault is the one that is told."""
    alone = []
    for name, detector in detectors.items():
        mine = [i for i, job in enumerate(jobs) if job["model"] == name]
        scans = [i for i in mine if "page" not in jobs[i]]
        together = _together(detector, [Path(jobs[i]["file"]) for i in scans], most_points) if len(scans) > 1 else []
        yield from zip(scans, together, strict=False)
        alone += [i for i in mine if i not in scans or not together]
    for i in alone:
        yield i, _answer(detectors[jobs[i]["model"]], jobs[i], most_points)


def _together(detector: Any, files: list[Path], most_points: int) -> list[dict[str, Any]]:
    """An answer for each of the files, or none at all."""
    from r3dad.inspection import inspect_many
    from r3dad.scans import read_scan

    try:
        made = inspect_many(detector.recipe, [read_scan(file, most_points=most_points) for file in files])
    except Exception:
        return []
    return [{"inspection": inspection.to_json()} for inspection in made]


def _answer(detector: Any, job: dict[str, Any], most_points: int) -> dict[str, Any]:
    from r3dad.inspection import write
    from r3dad.line.one import inspect_file, reason

    file = Path(job["file"])
    try:
        inspection = inspect_file(detector, file, most_points=most_points)
        if "page" in job:
            write(
                Path(job["page"]),
                [inspection],
                title=f"{job['model']}: {inspection.name}",
                settings={"model": job["model"]},
            )
        return {"inspection": inspection.to_json()}
    except InputError as error:
        return {"error": str(error).replace(str(file), "{file}")}
    except MemoryError:
        return {"error": "{file}: does not fit into the memory of a worker; thin the scan and send it again"}
    except Exception as error:  # the pipe answers whatever happens; the server logs what it was
        return {"fault": reason(error)}
