"""Simulated scans of parts, with defects, manufacturing variation, sensors and labels; and a small data set of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from r3dad.errors import InputError
from r3dad.simulate.defects import DEFECTS, RIM, Defect, defect, displacement, flawed, lost
from r3dad.simulate.parts import Part, part, stream
from r3dad.simulate.sdf import Array, Ripple, Shape, unit
from r3dad.simulate.sensors import SENSORS, SEVERAL, SIDED, Capture, several

LABEL_AT = 0.0015  # a surface moved further than this is defective (share of the diagonal)
DEPTHS = (0.003, 0.04)  # depth of defects of severity 0 and 1, log-uniform between (share of the diagonal)
ATTEMPTS = 6  # a defect that hardly shows in the scan is drawn again this often
SHOWS = 0.0015  # ... when fewer than this share of the points are labelled


@dataclass(frozen=True)
class SimulatedScan:
    """One scan.

    points [M, 3] float64 (mm); labels [M] bool, defective; normals [M, 3] of the surface; depth_mm [M]: how far the
    defect moved the surface along its normal (+ material, - missing); pose [4, 4]: from the part's frame to the
    scan's; noise_mm: of the sensor; kind: of the defect, or "good"; missing [K, 3]: points of the good
    surface that are not there (mm, frame of the scan): in a missing patch those that this sensor would have seen, of
    a chip or broken end all.
    """

    points: Array
    labels: NDArray[np.bool_]
    normals: Array
    depth_mm: Array
    pose: Array
    noise_mm: float
    kind: str
    missing: Array


def scan(
    part: Part,
    *,
    seed: int,
    points: int = 10_000,
    defect: str | None = None,
    severity: float | None = None,
    sensor: str = "uniform",
    pose: str = "random",
    views: int | None = None,
    noise: float | None = None,
    stray: float | None = None,
    variation: bool = True,
) -> SimulatedScan:
    """Scan one instance of a part.

    defect: a kind of `DEFECTS`, None for a good part; severity: 0..1, None for a random one; sensor: one of `SENSORS`;
    pose: "random" or "fixed"; views: how many views of a sided sensor are merged (1; multiview: 2-4);
    noise: share of the diagonal (random, 0.05-0.15 %); stray: share of stray points (random, 0-0.3 %);
    variation: warp and scale this instance a little. Whole-surface scans have exactly `points` points (cmm: at most),
    sided ones about as many. Points whose surface moved by more than 0.15 % of the diagonal are labelled, and those within
    1.2 % of missing surface (hole, chip, break). Raises InputError for unknown kinds, sensors and poses.
    """
    for name, value, known in (("sensor", sensor, SENSORS), ("pose", pose, ("random", "fixed"))):
        if value not in known:
            raise InputError(f"{name} {value!r}: expected one of {', '.join(known)}")
    if points < 1 or (views is not None and views < 1):
        raise InputError(f"points {points}, views {views}: expected at least 1 each")
    if defect is not None and defect not in DEFECTS:
        raise InputError(f"defect {defect!r}: expected one of {', '.join(DEFECTS)}")
    best: SimulatedScan | None = None
    for attempt in range(ATTEMPTS):
        rng = stream("scan", part.family, part.seed, seed, defect or "good", sensor, attempt)
        found = _attempt(part, rng, points, defect, severity, sensor, pose, views, noise, stray, variation)
        if best is None or found.labels.mean() > best.labels.mean():
            best = found
        if defect is None or best.labels.mean() > SHOWS:
            break
    assert best is not None
    return best


def _attempt(
    part: Part, rng: np.random.Generator, points: int, kind: str | None, severity: float | None, sensor: str, pose: str,
    views: int | None, noise: float | None, stray: float | None, variation: bool,
) -> SimulatedScan:  # fmt: skip
    diagonal = part.diagonal
    flaw, shape = None, part.shape
    if kind is not None:
        level = rng.random() if severity is None else severity
        flaw = defect(part, kind, diagonal * DEPTHS[0] * (DEPTHS[1] / DEPTHS[0]) ** level, rng)
        shape = flawed(part, flaw)
    sigma = diagonal * (rng.uniform(0.0005, 0.0015) if noise is None else noise)

    count = (int(rng.integers(2, 5)) if sensor == SEVERAL else 1) if views is None else views
    count = count if sensor in SIDED else 1
    seen = several(SENSORS[sensor], shape, rng, points, sigma, _views(part, shape, flaw, rng, count))
    if len(seen.points) > points:
        seen = seen.take(np.sort(rng.permutation(len(seen.points))[:points]))
    depth, labels, hidden, missing = _truth(part, flaw, shape, seen, rng)
    seen, depth, labels = seen.take(~hidden), depth[~hidden], labels[~hidden]

    made = _variation(rng, diagonal, float(variation))
    p = made(seen.points) + seen.error
    lost = rng.random(len(p)) < (rng.uniform(0, 0.003) if stray is None else stray)
    p[lost] += diagonal * rng.uniform(0.005, 0.05, (int(lost.sum()), 1)) * unit(rng.normal(size=(int(lost.sum()), 3)))
    labels = labels & ~lost & ~seen.stray

    place = _pose(rng, diagonal) if pose == "random" else np.eye(4)
    turned, shift = place[:3, :3], place[:3, 3]
    return SimulatedScan(p @ turned.T + shift, labels, seen.normals @ turned.T, depth, place, sigma, kind or "good",
                         made(missing) @ turned.T + shift)  # fmt: skip


def _truth(
    part: Part, flaw: Defect | None, shape: Shape, seen: Capture, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_], Array]:
    """Depth (mm), label and "hidden by a missing patch" of each point; points of the surface that is gone."""
    from scipy.spatial import cKDTree

    nothing, none = np.zeros(len(seen.points), bool), np.zeros((0, 3))
    if flaw is None:
        return np.zeros(len(seen.points)), nothing, nothing, none
    depth = displacement(part, flaw, seen.points)
    labels = np.abs(depth) > LABEL_AT * part.diagonal
    if flaw.missing is not None:
        rim = flaw.missing(seen.points, seen.normals)
        return depth, labels | ((rim >= 0) & (rim < RIM * part.diagonal)), rim < 0, seen.points[rim < 0]
    gone = lost(part, flaw, shape, rng)
    if len(gone):
        labels |= np.isfinite(cKDTree(gone).query(seen.points, distance_upper_bound=RIM * part.diagonal)[0])
    return depth, labels, nothing, gone


def _views(part: Part, shape: Shape, flaw: Defect | None, rng: np.random.Generator, count: int) -> Array:
    """Directions [count, 3] to the sensor; the first sees the defect, the others stand around."""
    first = unit(rng.normal(size=3))
    if flaw is not None:
        tries = unit(flaw.normal + 0.7 * unit(rng.normal(size=(12, 3))))
        spots = np.repeat(flaw.spot[None], 12, axis=0)
        free = part.shape.visible(spots, np.repeat(flaw.normal[None], 12, axis=0), tries)
        first = tries[int(np.argmax(free))]
    axis = unit(np.cross(first, rng.normal(size=3)))
    angles = np.arange(count) * 2 * np.pi / max(count, 3) + rng.uniform(-0.2, 0.2, count) * (np.arange(count) > 0)
    return unit(np.cos(angles)[:, None] * first + np.sin(angles)[:, None] * np.cross(axis, first))


def _variation(rng: np.random.Generator, diagonal: float, share: float) -> Callable[[Array], Array]:
    """Manufacturing variation: a smooth warp of 0.1-0.3 % of the diagonal, finer ones of a fifth, scale +-0.2 %; `share` of it."""
    amount, size = share * diagonal * rng.uniform(0.001, 0.003), 1 + share * rng.uniform(-0.002, 0.002)
    slow = [Ripple(rng, 1.2 * diagonal) for _ in range(3)]
    fast = [Ripple(rng, 0.4 * diagonal) for _ in range(3)]

    def made(p: Array) -> Array:
        return size * (p + amount * np.stack([s(p) + 0.2 * f(p) for s, f in zip(slow, fast, strict=True)], 1))

    return made


def _pose(rng: np.random.Generator, diagonal: float) -> Array:
    """Any rotation (from a random quaternion), shift by up to a diagonal per axis."""
    w, x, y, z = unit(rng.normal(size=4))
    place = np.eye(4)
    place[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    place[:3, 3] = rng.uniform(-1, 1, 3) * diagonal
    return place


# ---------------------------------------------------------------- a data set on disk


def write_demo(
    folder: str | Path,
    families: Sequence[str] = ("bracket", "gear", "elbow", "sheet", "lever"),
    *,
    train: int = 4,
    good: int = 4,
    test: Sequence[str] = ("bump", "dent", "scratch", "crack", "hole", "chip", "burr", "bend"),
    points: int = 8_000,
    severity: float | None = None,
    seed: int = 0,
) -> list[Path]:
    """Write simulated scans of one design per family in the layout `shapenet`; returns the folders of the classes.

    Per class `train/<class>_template<i>.pcd`, `test/<class>_positive<i>.pcd`, one `test/<class>_<kind>0.pcd` per kind
    in `test` with `GT/<same stem>.txt` (`x,y,z,label`, 4 decimals, the points of the scan in its order).
    """
    classes = []
    for family in families:
        design, name, root = part(family, seed), f"{family}0", Path(folder) / f"{family}0"
        for sub in ("train", "test", "GT"):
            (root / sub).mkdir(parents=True, exist_ok=True)
        jobs: list[tuple[str, str, str | None]]
        jobs = [("train", f"{name}_template{i}", None) for i in range(train)]
        jobs += [("test", f"{name}_positive{i}", None) for i in range(good)]
        jobs += [("test", f"{name}_{kind}0", kind) for kind in test]
        for number, (split, stem, kind) in enumerate(jobs):
            made = scan(design, seed=1000 * seed + number, points=points, defect=kind, severity=severity)
            _write_pcd(root / split / f"{stem}.pcd", made.points)
            if kind is not None:
                rows = np.column_stack([made.points, made.labels])
                np.savetxt(root / "GT" / f"{stem}.txt", rows, fmt=["%.4f"] * 3 + ["%d"], delimiter=",")
        classes.append(root)
    return classes


def _write_pcd(path: Path, points: Array) -> None:
    """Write points as ascii PCD with fields x y z."""
    head = (
        "# .PCD v0.7 - Point Cloud Data file format\nVERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\n"
        f"WIDTH {len(points)}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {len(points)}\nDATA ascii"
    )
    np.savetxt(path, points, fmt="%.4f", header=head, comments="")
