"""Data sets on disk: Anomaly-ShapeNet's and Real3D-AD's layout, or a plain folder of good scans.

|       | shapenet                                      | real3d                                   |
|-------|-----------------------------------------------|------------------------------------------|
| train | `<class>/train/*template*`                    | `<class>/train/*template*`               |
| test  | `<class>/test/*`, good: `positive` in the name | `<class>/test/*`, good: `good` in the name |
| truth | `<class>/GT/<stem>.txt`, `x,y,z,label`        | `<class>/gt/<stem>.txt`, `x y z label`   |
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from r3dad.errors import InputError
from r3dad.scans.readers import find_scans, natural, scans_in
from r3dad.scans.scan import Unreadable
from r3dad.scans.text import read_table

Layout = Literal["shapenet", "real3d", "folder"]

_TRUTH: dict[str, str] = {"shapenet": "GT", "real3d": "gt"}
_GOOD: dict[str, str] = {"shapenet": "positive", "real3d": "good"}
#: Label files round coordinates to 4 decimals; float32 scans round to 1e-7 of the coordinate.
_ROUNDING = (1e-4, 1e-6)


@dataclass(frozen=True)
class LabelledScan:
    """A test scan: its file, whether it is good, and the file of its point labels (None: good, or not there)."""

    path: Path
    good: bool
    truth: Path | None


@dataclass(frozen=True)
class DatasetClass:
    """One class of parts: good training scans, and test scans (none in a plain folder)."""

    name: str
    train: list[Path]
    test: list[LabelledScan]


def detect_layout(root: str | os.PathLike[str]) -> Layout:
    """Layout of a data set's folder. Raises InputError where it is none of the three."""
    folder = Path(root)
    classes = _class_folders(folder)
    for layout, name in _TRUTH.items():
        if any(name in _names(child) for child in classes):
            return layout  # type: ignore[return-value]
    for layout, word in _GOOD.items():  # good test scans only, or labels left out
        if any(_is_good(scan, child.name, word) for child in classes for scan in scans_in(child / "test")):
            return layout  # type: ignore[return-value]
    if not classes and scans_in(folder):
        return "folder"
    below = [name for name in _names(folder) if (folder / name).is_dir() and _class_folders(folder / name)]
    remedy = f"give {folder / below[0]}" if below else "name the folder that holds the classes, or set the layout"
    raise InputError(
        f"{folder}: expected folders <class>/train and <class>/test, or scans; found neither kind of data set; {remedy}"
    )


def class_folders(
    root: str | os.PathLike[str], layout: str = "auto", classes: Sequence[str] | None = None
) -> dict[str, Path]:
    """Folder of every class by name, in natural order, or of those named in `classes` in that order; nothing is read.

    Arguments as of `list_classes`. Raises InputError: unknown layout or class, or none there.
    """
    folder = Path(root)
    kind = detect_layout(folder) if layout == "auto" else layout
    if kind == "folder":
        found = {folder.resolve().name: folder}
    elif kind in _TRUTH:
        found = {child.name: child for child in _class_folders(folder)}
    else:
        raise InputError(f"layout {layout!r}: expected auto, shapenet, real3d or folder; choose one of them")
    missing = [name for name in classes or () if name not in found]
    if missing:
        raise InputError(
            f"{folder}: no class {', '.join(missing)}; expected some of {', '.join(found) or '(none)'}; check the names"
        )
    if not found:
        raise InputError(
            f"{folder}: expected folders <class>/train and <class>/test, found none; name the folder of the classes"
        )
    return {name: found[name] for name in dict.fromkeys(found if classes is None else classes)}


def list_classes(
    root: str | os.PathLike[str], layout: str = "auto", classes: Sequence[str] | None = None
) -> list[DatasetClass]:
    """Classes of a data set in natural order, or those named in `classes` in that order.

    root: the folder of the classes, or of one class. layout: "auto" (`detect_layout`), "shapenet", "real3d" or
    "folder" (one class, named like the folder, whose scans are all good). Raises InputError: unknown layout or class,
    a class without templates.
    """
    kind = detect_layout(Path(root)) if layout == "auto" else layout
    found = class_folders(root, layout, classes)
    if kind == "folder":
        return [DatasetClass(name, find_scans([folder]), []) for name, folder in found.items()]
    return [_read_class(folder, kind) for folder in found.values()]


def read_truth(labelled: LabelledScan, points: np.ndarray) -> np.ndarray:
    """Label of every point of a scan: bool [M], true where it is defective; all false for a good scan.

    points: [M, 3] as `read_scan` returns them for this file. Label rows with NaN or inf are left out like such points.
    Raises InputError, naming class and file, where labels are missing or are not of these points in this order.
    """
    if labelled.good:
        return np.zeros(len(points), dtype=bool)
    where = f"class {labelled.path.parent.parent.name}: "
    if labelled.truth is None:
        raise InputError(
            f"{where}{labelled.path}: no label file; expected {labelled.path.stem}.txt in GT or gt; add it"
        )
    where += f"{labelled.truth}: "
    try:
        table = read_table(labelled.truth, ("x", "y", "z", "label"))
    except Unreadable as error:
        raise InputError(f"{where}{error}") from None
    except OSError as error:
        raise InputError(f"{where}cannot be read ({error.strerror}); check the file and its permissions") from None
    table = table[np.isfinite(table[:, :3]).all(axis=1)]
    if len(table) != len(points):
        raise InputError(
            f"{where}expected {len(points):,} labels, one for each point of {labelled.path.name}, "
            f"found {len(table):,}; copy both files again"
        )
    largest = float(np.abs(points).max(initial=0))
    away = np.abs(table[:, :3] - points).max(axis=1)
    worst = int(away.argmax())
    if away[worst] > _ROUNDING[0] + _ROUNDING[1] * largest:
        raise InputError(
            f"{where}expected the points of {labelled.path.name} in their order, label {worst + 1} is "
            f"{away[worst]:.3g} away from its point; copy both files again"
        )
    labels = table[:, 3]
    if not (np.isfinite(labels).all() and (labels >= 0).all()):
        raise InputError(
            f"{where}expected labels 0 (good) or 1 (defective), found other values; correct the last column"
        )
    return labels > 0


def _read_class(folder: Path, layout: str) -> DatasetClass:
    train = [scan for scan in scans_in(folder / "train") if "template" in scan.stem.lower()]
    if not train:
        raise InputError(
            f"class {folder.name}: {folder / 'train'}: expected scans with 'template' in their name, found none; "
            "add the good scans"
        )
    test = []
    for scan in scans_in(folder / "test"):
        good = _is_good(scan, folder.name, _GOOD[layout])
        truth = folder / _TRUTH[layout] / f"{scan.stem}.txt"
        test.append(LabelledScan(scan, good, truth if not good and truth.is_file() else None))
    return DatasetClass(folder.name, train, test)


def _is_good(scan: Path, class_name: str, word: str) -> bool:
    return word in scan.stem.lower().removeprefix(class_name.lower())


def _class_folders(root: Path) -> list[Path]:
    """Folders with train and test in them: below root, or root itself where it is a class."""
    names = _names(root)
    if {"train", "test"} <= set(names):
        return [root.resolve()]
    return [root / name for name in names if (root / name).is_dir() and {"train", "test"} <= set(_names(root / name))]


def _names(folder: Path) -> list[str]:
    """Names in a folder as they are written on disk, in natural order."""
    try:
        return [path.name for path in sorted(folder.iterdir(), key=natural)]
    except NotADirectoryError:
        raise InputError(f"{folder}: expected a folder, this is a file; give the folder of the data set") from None
    except OSError as error:
        raise InputError(f"{folder}: cannot be listed ({error.strerror}); check its path and permissions") from None
