"""From a scan to an inspection: the recipe's scores, the regions, their figures, the verdict."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from r3dad.align.frame import UNSURE
from r3dad.errors import InputError
from r3dad.inspection.inspection import Alignment, Defect, Inspection, Verdict
from r3dad.inspection.measure import Figures, measure
from r3dad.inspection.regions import LEAST, Region, area_of, find_regions
from r3dad.inspection.tolerance import Tolerance
from r3dad.recipes.result import RecipeResult
from r3dad.scans import Scan, as_scan, check_spread
from r3dad.scorer import top


def inspect(recipe: Any, scan: Any, *, tolerance: Tolerance | None = None) -> Inspection:
    """Inspect a scan with a fitted recipe.

    Args:
        scan: a path, `r3dad.scans.Scan`, array or tensor [M, 3], Open3D or trimesh object.
        tolerance: limits of the deviation that hold beside the learned ones; leaving them makes a part NG.

    Raises:
        InputError: the scan cannot be read or used, or ``tolerance`` is given to a recipe without deviations.
    """
    return inspect_many(recipe, [scan], tolerance=tolerance)[0]


def inspect_many(recipe: Any, scans: Sequence[Any], *, tolerance: Tolerance | None = None) -> list[Inspection]:
    """What `inspect` gives for each scan; a recipe whose kernels take batches gets them in one. ``seconds`` are
    those of all.

    Raises:
        InputError: as `inspect`, for the first scan that cannot be read or used.
    """
    started = time.perf_counter()
    check_tolerance(recipe, tolerance)
    read = [as_scan(scan) for scan in scans]
    for scan in read:
        check_spread(scan.points)
    with np.errstate(invalid="ignore", divide="ignore"):  # what comes of a scan without extent is looked at below
        results = recipe.predict_many([scan.points for scan in read])
    made = [_judged(recipe, scan, result, tolerance) for scan, result in zip(read, results, strict=True)]
    return [replace(inspection, seconds=time.perf_counter() - started) for inspection in made]


def check_tolerance(recipe: Any, tolerance: Tolerance | None) -> None:
    """Raises InputError: limits are given for what the recipe does not measure, or for a place off the part."""
    if not tolerance:
        return
    if not hasattr(recipe, "surface"):
        raise InputError(
            f"tolerance: the recipe {recipe.name} measures no deviations; fit the part with the aligned recipe"
        )
    for region in tolerance.regions:
        region.check(recipe.surface.points * recipe.frame.scale + recipe.frame.centre.numpy())


def _judged(recipe: Any, scan: Scan, result: RecipeResult, tolerance: Tolerance | None) -> Inspection:
    if not np.isfinite(result.point_scores).all():
        raise InputError("most points lie on top of each other: expected points spread over a surface; export it again")
    return (
        _plain(recipe, scan, result) if result.fitted is None else _Judge(recipe, scan, result, tolerance).inspection()
    )


def _common(recipe: Any, scan: Scan, result: RecipeResult) -> dict[str, Any]:
    dropped = f"{scan.dropped} points with NaN or inf dropped" if scan.dropped else ""
    return {
        "name": scan.name,
        "threshold": float(recipe.threshold),
        "false_alarm_rate": float(recipe.false_alarm_rate),
        "points": scan.points,
        "point_scores": result.point_scores,
        "displacement": result.displacement,
        "note": "; ".join(filter(None, (result.note, dropped))),
        "source": scan.path,
    }


def _plain(recipe: Any, scan: Scan, result: RecipeResult) -> Inspection:
    """Of a recipe without pose and surface: a verdict and a map, no defects in mm."""
    count = len(scan.points)
    known = math.isfinite(recipe.threshold)
    verdict: Verdict = ("NG" if result.score > recipe.threshold else "OK") if known else "REVIEW"
    common = _common(recipe, scan, result)
    if not known:
        common["note"] = "; ".join(filter(None, (common["note"], "the model has no threshold")))
    return Inspection(
        **common,
        verdict=verdict,
        score=result.score,
        review=(recipe.threshold, recipe.threshold),
        alignment=None,
        defects=[],
        deviation=np.zeros(count),
        limits=np.tile([-np.inf, np.inf], (count, 1)),
    )


class _Judge:
    """One scan on the surface of an aligned recipe."""

    def __init__(self, recipe: Any, scan: Scan, result: RecipeResult, tolerance: Tolerance | None) -> None:
        self.recipe, self.scan, self.result = recipe, scan, result
        self.surface, self.scale, self.centre = recipe.surface, recipe.frame.scale, recipe.frame.centre.numpy()
        tolerance = tolerance or Tolerance()
        self.least_coverage = tolerance.coverage
        given = tolerance.of(self.surface.points * self.scale + self.centre)
        learned = recipe.calibration.tolerance[:, None].astype(float) * self.scale * [-1, 1]
        self.given, self.limits = given, np.where(np.isnan(given), learned, given)
        assert result.pose is not None
        self.matrix = result.pose.matrix

    def inspection(self) -> Inspection:
        recipe, result, pose = self.recipe, self.result, self.result.pose
        assert pose is not None and result.deviation is not None and result.coverage is not None
        rate = recipe.false_alarm_rate
        low, high = recipe.calibration.doubt(rate)
        common = _common(recipe, self.scan, result) | {
            "review": (low, high),
            "alignment": Alignment(pose.rms_mm, pose.overlap, result.coverage, pose.margin, pose.matrix),
            "deviation": result.deviation,
            "limits": self.limits[result.near],
        }
        if not pose.ok:
            return Inspection(**common, verdict="NOT THIS PART", score=math.nan, defects=[])
        verdict: Verdict = "NG" if result.score > high else "REVIEW" if result.score > low else "OK"
        unsure = pose.margin < UNSURE
        # A part that is OK lists nothing: its regions matter only where they may leave limits that a person gave.
        matter = verdict != "OK" or unsure or not np.isnan(self.given).all()
        regions = self._regions(rate) if matter else []
        defects = [self._defect(region) for region in regions]
        beyond = sum(d.outside_limits for d in defects)
        notes = [common.pop("note")]
        if beyond:
            verdict = "NG"
            notes.append(f"{beyond} region{'s' * (beyond > 1)} outside the given tolerance")
        if unsure:
            verdict = "REVIEW"
            notes.append("another pose fits almost as well")
        if result.coverage < self.least_coverage:
            verdict = "REVIEW" if verdict == "OK" else verdict
            notes.append(f"only {result.coverage:.0%} of the part is seen, {self.least_coverage:.0%} are asked for")
        if verdict == "OK":
            regions, defects = [], []
        elif not defects:
            notes.append("no single region stands out")
        lacking = np.concatenate([np.zeros(0, int), *(region.lacking for region in regions)])
        return Inspection(
            **common,
            verdict=verdict,
            score=result.score,
            defects=[replace(d, id=i + 1) for i, d in enumerate(defects)],
            missing=self._to_scan(self.surface.points[lacking]),
            note="; ".join(filter(None, notes)),
        )

    def _regions(self, rate: float) -> list[Region]:
        result, kept = self.result, self.result.kept
        assert result.fitted is not None and result.deviation is not None and result.near is not None
        p = np.clip(result.point_scores[kept].astype(float), 1e-7, 1 - 1e-7)
        calibration = self.recipe.calibration
        self.points, self.logits = result.fitted[kept], np.log(p / (1 - p))
        self.signed = result.deviation[kept] / self.scale
        self.found = find_regions(
            self.surface,
            self.points,
            self.logits,
            self.signed,
            (self.given / self.scale)[result.near[kept]],
            result.near[kept],
            point_bar=float(np.quantile(calibration.peaks, 1 - rate)),
            gap_bar=float(np.quantile(calibration.gaps, 1 - rate)),
        )
        return self.found.regions

    def _to_scan(self, points: np.ndarray) -> np.ndarray:
        """Points of the surface ``[N, 3]`` in the scan's frame (mm)."""
        return (points * self.scale + self.centre - self.matrix[:3, 3]) @ self.matrix[:3, :3]

    def _defect(self, region: Region) -> Defect:
        figures: Figures = measure(region, self.found, self.surface, area_of(self.surface), self.points, self.signed)
        kept = self.result.kept
        assert kept is not None and self.result.near is not None
        own = self.scan.points[kept[region.points]]
        there = np.concatenate([own, self._to_scan(self.surface.points[region.lacking])])
        weights = np.concatenate([figures.weights, figures.lacking_weights])
        centre = weights @ there if weights.sum() > 0 else there.mean(0)
        place = region.surface if len(region.surface) else self.result.near[kept[region.points]]
        tolerance = float(self.recipe.calibration.tolerance[place].mean()) * self.scale
        marker = there[np.linalg.norm(there - centre, axis=1).argmin()]
        on_part = (self.matrix[:3, :3] @ marker + self.matrix[:3, 3] - self.centre) / self.scale
        depth = None if figures.depth is None else figures.depth * self.scale
        peak = 1 / (1 + math.exp(-top(self.logits[region.points], 0.0))) if len(region.points) else 1.0
        return Defect(
            id=0,
            kind=figures.kind,
            centre_scan=centre,
            centre_part=self.matrix[:3, :3] @ centre + self.matrix[:3, 3],
            extent_mm=figures.extent * self.scale,
            area_mm2=figures.area * self.scale**2,
            depth_mm=depth,
            volume_mm3=None if figures.volume is None else figures.volume * self.scale**3,
            score=peak,
            tolerance_mm=tolerance,
            share_of_tolerance=None if depth is None else abs(depth) / max(tolerance, 1e-9),
            outside_limits=int(self.found.outside[region.points].sum()) >= LEAST,
            points=len(region.points),
            marker=marker,
            normal=self.surface.normals[self.surface.find(on_part[None])[1][0]] @ self.matrix[:3, :3],
        )
