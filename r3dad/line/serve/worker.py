"""A process that inspects. It gets JSON lines through a pipe and answers each with one; nothing else is shared."""

from __future__ import annotations

import contextlib
import json
import math
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from r3dad.errors import InputError


def work(pipe: Connection, models: dict[str, str], threads: int, most_points: int, device: str | None) -> None:
    """Load the models, say so (``{"ready": ...}``), then answer jobs until the pipe closes.

    A job is ``{"model", "file"}``, with ``"page": folder`` where the report is wanted too. An answer is ``{"inspection": JSON}`` or
    ``{"error": line}``; the line says ``{file}`` where the scan's path stood.
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
            job = json.loads(pipe.recv_bytes())
        except EOFError:
            return
        _send(pipe, _answer(detectors[job["model"]], job, most_points))


def _send(pipe: Connection, message: dict[str, Any]) -> None:
    try:
        text = json.dumps(message, allow_nan=False)
    except ValueError as error:  # a figure that is not finite, which no client could read
        text = json.dumps({"fault": str(error)})
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
