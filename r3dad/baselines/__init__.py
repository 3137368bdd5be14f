"""The rivals: other detectors on the same scans, one file each, by name (``r3dad evaluate --method NAME``; docs/baselines.md)."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from r3dad.baselines.method import Method
from r3dad.errors import InputError

METHODS: dict[str, str] = {
    "registered-nn": "r3dad.baselines.registered_nn:RegisteredNN",
    "btf-raw": "r3dad.baselines.btf:BTFRaw",
    "btf-fpfh": "r3dad.baselines.btf:BTFFPFH",
    "patchcore-raw": "r3dad.baselines.patchcore:PatchCoreRaw",
    "patchcore-fpfh": "r3dad.baselines.patchcore:PatchCoreFPFH",
    "patchcore-pointmae": "r3dad.baselines.patchcore:PatchCorePointMAE",
    "m3dm-pointmae": "r3dad.baselines.m3dm:M3DM",
    "cpmf-resnet": "r3dad.baselines.cpmf:CPMF",
    "reg3d-ad": "r3dad.baselines.reg3d:Reg3DAD",
    "imrnet": "r3dad.baselines.imrnet:IMRNet",
    "simple3d": "r3dad.baselines.simple3d:Simple3D",
}


def create(name: str, *, seed: int = 0, device: str = "cpu", **settings: Any) -> Method:
    """The method ``name`` of ``METHODS``, not fitted yet.

    Raises:
        InputError: the name or a setting is unknown, or what the method needs is not installed.
    """
    if name not in METHODS:
        raise InputError(f"method {name!r} is unknown: expected one of {', '.join(METHODS)}")
    module, _, kind = METHODS[name].partition(":")
    cls = getattr(importlib.import_module(module), kind)
    known = [p for p in inspect.signature(cls).parameters if p not in ("seed", "device")]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InputError(f"method {name}: unknown setting {', '.join(unknown)}; expected some of {', '.join(known)}")
    return cls(seed=seed, device=device, **settings)


__all__ = ["METHODS", "Method", "create"]
