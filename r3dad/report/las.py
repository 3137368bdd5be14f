"""A coloured LAS beside the PLY, for scans that came as one; through laspy (the extra `las`)."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from r3dad.scans import write_atomic

STEPS = 2e9
"""Of the int32 coordinates of a LAS, used over the largest extent."""


def write_las(path: Path, points: np.ndarray, *, scalars: Mapping[str, np.ndarray], colors: np.ndarray) -> Path:
    """Write points [M, 3] with colours uint8 [M, 3] and the scalars (names without `scalar_`, float32) as LAS 1.4, format 7.

    Coordinates are rounded to a millionth of a millimetre, or to extent / STEPS where that is more.
    """
    import laspy

    header = laspy.LasHeader(version="1.4", point_format=7)
    header.offsets = points.min(axis=0)
    header.scales = np.maximum(np.ptp(points, axis=0) / STEPS, 1e-6)
    header.add_extra_dims(
        [laspy.ExtraBytesParams(name=name.removeprefix("scalar_"), type=np.float32) for name in scalars]
    )
    cloud = laspy.LasData(header)
    cloud.xyz = points
    cloud.red, cloud.green, cloud.blue = colors.T.astype(np.uint16) * 257
    for name, values in scalars.items():
        cloud[name.removeprefix("scalar_")] = np.asarray(values, np.float32)
    buffer = io.BytesIO()
    cloud.write(buffer)
    return write_atomic(path, buffer.getvalue())
