"""What is built, which backend each operation takes and why not the others, and the machine: ``r3dad doctor``."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

import torch

from r3dad import __version__, backends

_LIBRARIES = ("torch", "triton", "pykeops", "numpy", "scipy", "scikit-learn", "trimesh", "safetensors")


def environment() -> dict[str, Any]:
    """Versions, processor, threads and GPU, for results files and reports."""
    versions = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return {
        "r3dad": __version__,
        "python": platform.python_version(),
        "libraries": versions,
        "processor": _processor(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "native": native(),
    }


def _processor() -> str:
    try:
        with open("/proc/cpuinfo") as file:
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def native() -> dict[str, str]:
    """Per compiled module: how it was built, or why it is not there."""
    found = {}
    for name in ("_cpu", "_cuda"):
        try:
            module = importlib.import_module(f"r3dad.{name}")
            found[name] = str(module.build_info())
            if name == "_cpu":
                found[name] += f"; here: {', '.join(module.available_isas())}; in use: {module.isa()}"
        except ImportError as error:
            found[name] = f"not built ({error})"
    return found


def choices() -> list[dict[str, str]]:
    """One row per operation and device: the backend taken, and why each other is not (``"can"`` for one that stands behind)."""
    rows = []
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for op, args in _examples(device).items():
            try:
                taken = backends.choose(op, *args)[0]
            except backends.BackendError as error:
                taken = f"error: {error}"
            others = {b: backends.why_not(op, b, *args) or "can" for b in backends.TABLE[op] if b != taken}
            rows.append(
                {
                    "op": op,
                    "device": device,
                    "backend": taken,
                    "others": "; ".join(f"{b}: {reason}" for b, reason in others.items()),
                }
            )
    return rows


def _examples(device: str) -> dict[str, tuple[Any, ...]]:
    """Arguments of the sizes that the recipes use, per operation."""

    def zeros(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, device=device)

    cloud, seeds = zeros(1, 2048, 3), torch.zeros(1, dtype=torch.int64, device=device)
    near = torch.zeros(2048, 16, dtype=torch.int64, device=device)
    widths = (3, 128, 256, 512, 256, 128, 3)
    layers = [zeros(m, k) for k, m in zip(widths, widths[1:])]
    biases = [zeros(m) for m in widths[1:]]
    tables = [zeros(1, sum(widths[1:])) for _ in range(4)]
    encoder = (3, 128, 128, 256, 512, 256, 128, 256)
    squash = (zeros(1, 2048, 128), zeros(256, 128), zeros(256), zeros(1, 256))
    heard = (*[zeros(2048, 40)] * 2, zeros(40, 4), cloud[0], cloud[0], zeros(2048), near)
    return {
        "concat_squash": (*squash, zeros(1, 256), 0.01),
        "concat_squash_backward": (zeros(1, 2048, 256), *squash, zeros(1, 2048, 256), 0.01),
        "reverse_diffusion": (layers, biases, *tables, zeros(1, 3), cloud, seeds, None, 0.01, "float32"),
        "encode": (cloud, [zeros(m, k) for k, m in zip(encoder, encoder[1:])], [zeros(m) for m in encoder[1:]]),
        "knn": (cloud, cloud, 64),
        "knn_tree": (cloud[0],),
        "cluster_distance": (cloud, cloud, 64),
        "messages": heard,
        "messages_backward": (zeros(2048, 80), *heard),
        "neighbour_mean": (zeros(2048, 10), near, zeros(2048, 16)),
        "displace_patch": (cloud, seeds, 64, 0.1, "gaussian", None),
    }


def variables() -> dict[str, str]:
    """The environment variables of ENVS.md that are set."""
    return {name: value for name, value in os.environ.items() if name.startswith("R3DAD_")}
