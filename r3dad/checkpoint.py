"""One ``.safetensors`` file per model or training state: tensors, and the rest as JSON in the metadata. No pickle, ever."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from r3dad.errors import InputError
from r3dad.scans import write_atomic

FORMAT = 1  # raised when older readers could misread the file


def save(path: str | Path, kind: str, tensors: dict[str, Tensor], settings: dict[str, Any]) -> None:
    """Write a file, whole or not at all.

    Args:
        path: of the file; missing folders are made.
        kind: what the file holds (``"model"``, ``"training"``), checked by :func:`load`.
        tensors: by name. settings: JSON values.
    """
    from safetensors.torch import save as to_bytes

    metadata = {"r3dad_format": str(FORMAT), "r3dad_kind": kind, "settings": json.dumps(settings)}
    write_atomic(Path(path), to_bytes({n: t.detach().cpu().contiguous().clone() for n, t in tensors.items()}, metadata))


def load(path: str | Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and settings of a file that :func:`save` wrote.

    Raises:
        InputError: the file is missing, damaged, of another kind or another version.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such {kind} file; write one with `r3dad fit SCANS --out {path}`")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            found, version = metadata.get("r3dad_kind"), metadata.get("r3dad_format", "")
            if found != kind:
                raise InputError(f"{path}: not an r3dad {kind} file; expected one written by `r3dad fit`")
            if version != str(FORMAT):
                raise InputError(
                    f"{path}: written in format {version}, this version reads {FORMAT}; fit the model again"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - safe_open is no mapping
        return tensors, json.loads(metadata["settings"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: damaged {kind} file ({reason}); copy it again or fit the model again") from None
