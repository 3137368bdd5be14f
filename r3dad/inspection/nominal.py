"""A part from its drawing: points of a mesh in the place of good scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from r3dad.errors import InputError

POINTS = 60_000
LOST = (
    "fitted to a nominal mesh, no good scan: how good parts and the sensor vary is unknown, so threshold and "
    "learned tolerance are guesses; give --tolerance"
)
"""What a model without good scans lacks, for people."""


def nominal_points(path: str | Path, *, count: int = POINTS, seed: int = 0) -> np.ndarray:
    """Points ``[count, 3]`` float64 (mm) drawn evenly from the faces of a mesh (STL, PLY, OBJ, OFF).

    Raises:
        InputError: the file cannot be read, or has no faces.
    """
    from r3dad.scans import read_scan

    read_scan(path)  # checks the file, and says what is wrong with it
    import trimesh

    mesh = trimesh.load(path, process=False, force="mesh")
    if not isinstance(mesh, trimesh.Trimesh) or not len(mesh.faces) or not mesh.area > 0:
        raise InputError(f"{path}: expected a mesh with faces as the nominal shape; export the part as STL")
    drawn, _ = trimesh.sample.sample_surface_even(mesh, count, seed=seed)
    return np.asarray(drawn, np.float64)
