"""Fixed launch configurations of the Triton kernels, per architecture: tile sizes, warps, pipeline stages. No tuning at run time.

``TABLE`` is written by ``benchmarks/tune.py``; an architecture without a row of its own takes the newest older one.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton


@dataclass(frozen=True)
class Configuration:
    """Launch configuration: constexpr tile sizes by name, warps of a program, stages of the software pipeline."""

    sizes: dict[str, int]
    warps: int
    stages: int


TABLE: dict[tuple[str, str], dict[int, Configuration]] = {
    ("reverse_diffusion", "bfloat16"): {
        80: Configuration({"POINTS": 64, "CHUNK": 32, "SLICE_IN": 64, "SLICE_OUT": 64}, 8, 2),
        90: Configuration({"POINTS": 64, "CHUNK": 32, "SLICE_IN": 64, "SLICE_OUT": 32}, 8, 2),
    },
    ("reverse_diffusion", "float32"): {
        80: Configuration({"POINTS": 32, "CHUNK": 32, "SLICE_IN": 32, "SLICE_OUT": 32}, 8, 2),
    },
    ("layer_forward", "bfloat16"): {
        80: Configuration({"POINTS": 64, "OUT": 128, "IN": 64}, 8, 3),
    },
    ("layer_forward", "float32"): {
        80: Configuration({"POINTS": 64, "OUT": 64, "IN": 32}, 8, 3),
    },
    ("layer_backward_input", "bfloat16"): {
        80: Configuration({"POINTS": 64, "OUT": 128, "IN": 64}, 8, 3),
    },
    ("layer_backward_input", "float32"): {
        80: Configuration({"POINTS": 64, "OUT": 64, "IN": 32}, 8, 3),
    },
    ("layer_backward_weight", "bfloat16"): {
        80: Configuration({"POINTS": 64, "OUT": 64, "IN": 64, "SPLITS": 16}, 8, 3),
    },
    ("layer_backward_weight", "float32"): {
        80: Configuration({"POINTS": 32, "OUT": 64, "IN": 32, "SPLITS": 16}, 8, 3),
    },
    ("encode", "float32"): {
        80: Configuration({"POINTS": 32, "SLICE": 32, "CHUNK": 16}, 8, 2),
    },
    ("knn_candidates", "float32"): {
        80: Configuration({"QUERIES": 8}, 4, 2),
    },
    ("knn_select", "float32"): {
        80: Configuration({"QUERIES": 2}, 4, 1),
    },
    ("cluster_shortlist", "float32"): {
        80: Configuration({"QUERIES": 64, "REFERENCES": 64, "IN": 32}, 8, 3),
    },
}


def padded(width: int) -> int:
    """The width that a layer has in a kernel: a power of two, at least 16; what is added is zero throughout."""
    return max(16, triton.next_power_of_2(width))


def of(kernel: str, precision: str, capability: int) -> Configuration:
    """The row for an architecture (80, 90 ...): its own, or that of the newest older one."""
    rows = TABLE[kernel, precision]
    return rows[max((arch for arch in rows if arch <= capability), default=min(rows))]


@functools.lru_cache(maxsize=16)
def _capability(device: torch.device) -> int:
    if device.type != "cuda":
        return 80  # the interpreter
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Triton launches on the current device: make it that of the first tensor for the length of a call."""

    @functools.wraps(function)
    def guarded(*args: Any) -> Any:
        flat = (x for arg in args for x in (arg if isinstance(arg, (list, tuple)) else (arg,)))
        with torch.cuda.device_of(next(x for x in flat if isinstance(x, torch.Tensor))):
            return function(*args)

    return guarded


def choose(kernel: str, precision: str, device: torch.device) -> Configuration:
    """The configuration of a kernel on a device."""
    return of(kernel, precision, _capability(device))


def why_not_device(device: torch.device) -> str | None:
    """Why a GPU is too old for the kernels, or None."""
    capability = _capability(device)
    return None if capability >= 80 else f"needs compute capability 8.0, got {capability / 10}"
