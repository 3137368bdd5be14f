"""Whether the kernels of ``r3dad._cuda`` can run on a device."""

from __future__ import annotations

import torch

from r3dad import _cuda

_LEAST = (8, 0)  # compute capability


def why_not_device(device: torch.device) -> str | None:
    """Why a GPU is not for the kernels, or None."""
    if not _cuda.devices():
        return "finds no usable GPU"
    major, minor = torch.cuda.get_device_capability(device)
    return None if (major, minor) >= _LEAST else f"needs compute capability 8.0, got {major}.{minor}"
