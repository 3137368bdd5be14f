"""r3dad: find defects on 3D scans of manufactured parts, given a handful of good scans.

Public names are resolved on first use, so ``import r3dad`` stays light (no torch, no geometry library).
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Detector": "r3dad.detector",
    "Prediction": "r3dad.detector",
    "InputError": "r3dad.errors",
    "read_scan": "r3dad.scans",
    "use_backend": "r3dad.backends",
    "ops": "r3dad.ops",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'r3dad' has no attribute {name!r}")
    module = importlib.import_module(_PUBLIC[name])
    return module if module.__name__ == f"r3dad.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)


def _kernels_of_a_plain_checkout() -> None:
    """In a checkout the kernels stand beside the package; an installed wheel has them inside and needs nothing."""
    beside = Path(__file__).resolve().parent.parent / "kernels" / "__init__.py"
    if (Path(__file__).parent / "kernels").exists() or not beside.exists():
        return
    spec = importlib.util.spec_from_file_location(
        "r3dad.kernels", beside, submodule_search_locations=[str(beside.parent)]
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["r3dad.kernels"] = module
    spec.loader.exec_module(module)
    globals()["kernels"] = module


_kernels_of_a_plain_checkout()
