"""The aligned recipe: bring a scan into the frame of the good ones, subtract their surface, score the difference across neighbours.

Pose (`r3dad.align`), a little bending (affine for the verdict, quadratic as a second view), departure from the fused surface
(`r3dad.surface`), features at several scales (`r3dad.features`), the learned scorer (`r3dad.scorer`), and a threshold calibrated on good
scans only: each against the others, with and without synthetic defects. Lengths inside are shares of the part's diagonal.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from r3dad.align import Frame, Pose
from r3dad.errors import InputError
from r3dad.features import describe
from r3dad.neighbours import Neighbours, thin
from r3dad.place import PlaceField
from r3dad.recipes.calibration import Calibrating, Calibration
from r3dad.recipes.ground import Ground, fuse
from r3dad.recipes.refine import refined
from r3dad.recipes.result import RecipeResult
from r3dad.scorer import Scorer, load_scorer
from r3dad.surface import Departure, Surface
from r3dad.synth.defects import Geometry, Sensor, draw_kinds, synthetic

LEAST = 500
"""Fewer points than this carry no verdict."""
CHUNK = 200_000
COMPLETE = 0.8
"""A scan that covers more than this share of what can be seen of the surface is a whole one; else it is one-sided."""
THIN = 0.15
"""Share of a surface's neighbours that are on the other side of a wall, from which on it counts as thin."""
LEAST_SPREAD = 0.3
"""Verdicts of good scans (logits) are not taken to differ less than this."""
WHOLE, SIDED = Sensor(one_sided=0.0), Sensor(one_sided=1.0)
Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class AlignedConfig:
    """Settings of the aligned recipe.

    pose: ``"search"``, or ``"fixed"`` for scans already in place. most: points of a scan that are scored; a denser scan is thinned
    evenly and every point takes the score of the kept points around it. surface_points: of the fused surface. calibration:
    synthetic whole scans, and as many one-sided ones, per good scan that the threshold is taken from.
    false_alarm_rate: share of good scans above the threshold, as calibrated. displacement: where displacements and deviations come
    from: ``"surface"``, or ``"diffusion"``, the paper's decoder trained on the surface (`r3dad.place`; about a minute), with
    ``sampler_steps``; scores are the scorer's either way. refine: steps by which the scorer is trained further on defects made on the
    good scans at hand (0: the shipped scorer as it is). seed: of every draw.
    """

    pose: Literal["search", "fixed"] = "search"
    most: int = 12_000
    surface_points: int = 24_000
    calibration: int = 6
    false_alarm_rate: float = 0.05
    displacement: Literal["surface", "diffusion"] = "surface"
    sampler_steps: int = 1
    refine: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.pose not in ("search", "fixed"):
            raise InputError(f"pose {self.pose!r}: expected 'search' or 'fixed'")
        if self.displacement not in ("surface", "diffusion") or not 1 <= self.sampler_steps <= 200:
            raise InputError("displacement: expected 'surface' or 'diffusion'; sampler_steps: expected 1 to 200")
        if self.most < 1000 or self.surface_points < 1000:
            raise InputError("most and surface_points: expected at least 1000")
        if self.refine < 0:
            raise InputError(f"refine {self.refine}: expected a number of steps, 0 or more")
        if self.calibration < 1 or not 0 < self.false_alarm_rate < 1:
            raise InputError("calibration: expected at least 1; false_alarm_rate: expected between 0 and 1")


class AlignedRecipe:
    """Good scans fused, and what departs from them.

    Attributes:
        threshold: score above which a scan is defective. false_alarm_rate: of good scans at that threshold, as calibrated.
        found: share of good scans with a synthetic defect above the threshold. note: what the good scans lack, or empty.
        calibration: what the threshold was taken from, and the learned tolerance.
    """

    name = "aligned"
    calibration: Calibration

    def __init__(self, config: AlignedConfig, frame: Frame, surface: Surface, scorer: Scorer) -> None:
        self.config, self.frame, self.surface, self.scorer = config, frame, surface, scorer
        self._ground = Ground(surface)
        self.place: PlaceField | None = None
        self.usual = np.array([[0.0, 1.0]] * 2)
        self.threshold, self.false_alarm_rate, self.found, self.note = math.inf, config.false_alarm_rate, 0.0, ""

    @classmethod
    def fit(
        cls,
        clouds: Sequence[np.ndarray],
        *,
        device: str = "cpu",
        progress: Progress | None = None,
        resume: Path | None = None,
        scorer: Scorer | None = None,
        **settings: Any,
    ) -> AlignedRecipe:
        """Fuse good scans ``[M_i, 3]`` (mm) and calibrate the threshold.

        One scan of three or more that does not join the others is left out, with a warning.
        ``scorer``: in place of the shipped one. ``resume`` is not used: a fit takes well under a minute.

        Raises:
            InputError: no scan, an unknown setting, a scan with too few points, scans that do not fit each other.
        """
        try:
            config = AlignedConfig(**settings)
        except TypeError as error:
            raise InputError(
                f"aligned recipe: {error}; expected {', '.join(AlignedConfig.__dataclass_fields__)}"
            ) from None
        say = progress or (lambda share, words: None)
        if not clouds:
            raise InputError("fit: expected at least one good scan, got none")
        for i, cloud in enumerate(clouds):
            if len(cloud) < LEAST:
                raise InputError(f"good scan {i + 1} has {len(cloud)} points: expected at least {LEAST}")
        say(0.0, "registering the good scans")
        frame, poses = Frame.build(list(clouds), pose=config.pose)
        strange = {i: f"good scan {i + 1}: {pose.reason}" for i, pose in enumerate(poses) if not pose.ok}
        if len(strange) == 1 and len(clouds) > 2:
            rest = [cloud for i, cloud in enumerate(clouds) if i not in strange]
            recipe = cls.fit(rest, device=device, progress=progress, scorer=scorer, **settings)
            recipe._warn(f"left out, as it does not join the others: {next(iter(strange.values()))}")
            return recipe
        if strange:
            raise InputError(
                f"good scans disagree: {'; '.join(strange.values())}; leave them out or check that they show the same part"
            )
        centre = frame.centre.numpy()
        inside = [(_moved(pose, c) - centre) / frame.scale for pose, c in zip(poses, clouds, strict=True)]
        inside = [c[thin(c, 2 * config.surface_points)] for c in inside]
        say(0.2, "fusing the surface")
        inside, surface = fuse(inside, config.surface_points)
        recipe = cls(config, frame, surface, (scorer or load_scorer()).to(device))
        if len(clouds) == 1:
            recipe._warn("fitted to one good scan: how good parts differ is unknown, so the threshold is a guess")
        if surface.thin > THIN:
            recipe._warn_of_thin_walls(int(np.median([len(c) for c in clouds])))
        if config.displacement == "diffusion":
            recipe.place = PlaceField.fit(
                surface, steps=config.sampler_steps, seed=config.seed, progress=lambda x, w: say(0.25 + 0.05 * x, w)
            )
        if config.refine:
            recipe.scorer = refined(
                recipe.scorer, inside, surface, steps=config.refine, seed=config.seed, progress=lambda x, w: say(0.3, w)
            )
        recipe._calibrate(inside, say)
        say(1.0, "fitted")
        return recipe

    def _warn_of_thin_walls(self, points: int) -> None:
        config = self.config
        if points > 1.5 * config.most:
            most, surface_points = min(3 * config.most, points), 3 * config.surface_points
            self._warn(
                f"walls are as thin as the {config.most} points used of a scan are apart: "
                f"most={most} and surface_points={surface_points} find more, at three times the time"
            )
        elif not config.refine:
            self._warn(
                "walls are as thin as points are apart: refine=150 finds more, at twice the time to fit; so do denser scans"
            )

    def _warn(self, words: str) -> None:
        self.note = "; ".join(filter(None, (self.note, words)))
        warnings.warn(words, stacklevel=3)

    def predict(self, points: np.ndarray) -> RecipeResult:
        """Scores of a scan ``[M, 3]`` (mm, any pose unless the recipe's is fixed).

        Raises:
            InputError: fewer points than a verdict needs.
        """
        if len(points) < LEAST:
            raise InputError(f"the scan has {len(points)} points: expected at least {LEAST}")
        pose = self.frame.register(points, pose=self.config.pose)
        centre, scale = self.frame.centre.numpy(), self.frame.scale
        aligned = (_moved(pose, points) - centre) / scale
        bent = self._ground.fitted(aligned)
        kept = thin(bent[0], self.config.most)
        features, departures = describe(self.surface, [b[kept] for b in bent])
        logits = self.scorer.score(features)
        score = self._relative(self.scorer.verdict(logits), features.complete)
        logits = self.scorer.smooth(features, logits)
        whole = departures[0]
        if len(kept) < len(points):
            logits, whole = self._carried(logits, bent[0], kept), self._departure(bent[0])
        vector, signed = whole.vector, whole.signed
        if self.place:
            vector = -self.place.displacement(bent[0])
            signed = self.place.signed(vector, whole.near)
        rotation = pose.matrix[:3, :3]
        return RecipeResult(
            point_scores=(1 / (1 + np.exp(-logits))).astype(np.float32),
            score=score,
            displacement=-(vector @ rotation) * scale,
            deviation=signed * scale,
            is_this_part=pose.ok,
            note="" if pose.ok else pose.reason,
            pose=pose,
            fitted=bent[0],
            kept=kept,
            near=whole.near,
            coverage=features.complete,
        )

    def predict_many(self, clouds: Sequence[np.ndarray]) -> list[RecipeResult]:
        """:meth:`predict` of every cloud, one by one: nothing here is faster in a batch."""
        return [self.predict(cloud) for cloud in clouds]

    def _departure(self, points: np.ndarray) -> Departure:
        """`Surface.departure` of any number of points in bounded memory."""
        parts = [self.surface.departure(points[i : i + CHUNK]) for i in range(0, len(points), CHUNK)]
        return Departure(
            *(
                np.concatenate([getattr(p, f) for p in parts])
                for f in ("signed", "vector", "plane", "low", "high", "near")
            )
        )

    @staticmethod
    def _carried(values: np.ndarray, points: np.ndarray, kept: np.ndarray) -> np.ndarray:
        """Values of the kept points given to all points: the mean of the 3 nearest, weighted by inverse distance."""
        find, out = Neighbours(points[kept]), np.empty(len(points))
        for i in range(0, len(points), CHUNK):
            distance, j = find(points[i : i + CHUNK], 3)
            w = 1 / (distance + 1e-6)
            out[i : i + CHUNK] = (w * values[j]).sum(1) / w.sum(1)
        return out

    def _calibrate(self, clouds: Sequence[np.ndarray], say: Progress) -> None:
        """Threshold: the score that few of many synthetic good scans exceed, each scored against the other good scans."""
        config = self.config
        good = Calibrating(self.surface, len(clouds))
        bad: list[tuple[float, float]] = []
        seen: list[float] = []
        for i, cloud in enumerate(clouds):
            others = [c for k, c in enumerate(clouds) if k != i]
            ground = Ground(Surface.build(others, config.surface_points)) if others else self._ground
            rng = np.random.default_rng([config.seed, i])
            smooth, raw = Geometry.of(cloud, self.surface)
            scans = [
                synthetic(rng, raw if k % 2 else smooth, [], raw=bool(k % 2), sensor=sensor)[0]
                for sensor in (WHOLE, SIDED)
                for k in range(config.calibration)
            ]
            good_scans = len(scans)
            scans += [synthetic(rng, smooth, draw_kinds(rng, 1))[0] for _ in range(max(config.calibration // 2, 1))]
            for k, scan in enumerate(scans):
                features, departures = describe(ground.surface, ground.fitted(scan[thin(scan, config.most)]))
                logits = self.scorer.score(features)
                score = self.scorer.verdict(logits)
                if k < good_scans:
                    good.add(i, score, self.scorer.smooth(features, logits), features, departures[0])
                    seen.append(features.complete)
                else:
                    bad.append((score, features.complete))
            say(0.3 + 0.7 * (i + 1) / len(clouds), f"calibrating, good scan {i + 1} of {len(clouds)}")
        found = good.done()
        scores, whole = found.scores.ravel(), np.array(seen) > COMPLETE
        for side in (False, True):
            # Good scans that themselves show one side have no other view.
            mine = scores[whole == side] if (whole == side).sum() > 2 else scores
            self.usual[int(side)] = mine.mean(), max(mine.std(), LEAST_SPREAD)
        usual = self.usual[whole.astype(int)]
        self.calibration = replace(found, scores=((scores - usual[:, 0]) / usual[:, 1]).reshape(found.scores.shape))
        self.threshold = self.calibration.threshold(config.false_alarm_rate)
        self.found = float(np.mean([self._relative(*b) > self.threshold for b in bad]))

    def _relative(self, verdict: float, complete: float) -> float:
        """A verdict in standard deviations above those of good scans of this part, whole or one-sided as the scan is."""
        mean, spread = self.usual[int(complete > COMPLETE)]
        return float((verdict - mean) / spread)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON settings for the model file."""
        s, (net, form) = self.surface, self.scorer.state()
        tensors = {
            "surface.points": torch.from_numpy(s.points),
            "surface.normals": torch.from_numpy(s.normals),
            "surface.curvature": torch.from_numpy(s.curvature),
            "usual": torch.from_numpy(self.usual),
            "surface.sees": torch.from_numpy(np.packbits(s.sees, axis=1)),
            **{f"calibration.{k}": v for k, v in self.calibration.state().items()},
            **{f"frame.{k}": v for k, v in self.frame.state().items()},
            **{f"scorer.{k}": v for k, v in net.items()},
            **{f"place.{k}": v for k, v in (self.place.state() if self.place else {}).items()},
        }
        numbers = {k: getattr(self, k) for k in ("threshold", "false_alarm_rate", "found", "note")}
        return tensors, {
            "config": asdict(self.config),
            "scorer": form,
            "spacing": s.spacing,
            "views": s.sees.shape[1],
            **numbers,
        }

    @classmethod
    def from_state(
        cls, tensors: dict[str, Tensor], settings: dict[str, Any], device: str | torch.device = "cpu"
    ) -> AlignedRecipe:
        """The recipe that :meth:`state` described.

        Raises:
            InputError: of another version of this package, whose scorer sees other features.
        """

        def part(name: str) -> dict[str, Tensor]:
            return {k.removeprefix(name): v for k, v in tensors.items() if k.startswith(name)}

        scorer = Scorer.from_state(part("scorer."), settings["scorer"]).to(device)
        s = {k: v.numpy() for k, v in part("surface.").items()}
        sees = np.unpackbits(s["sees"], axis=1, count=settings["views"]).astype(bool)
        surface = Surface(s["points"], s["normals"], s["curvature"], sees, settings["spacing"])
        recipe = cls(AlignedConfig(**settings["config"]), Frame.from_state(part("frame.")), surface, scorer)
        if place := part("place."):
            recipe.place = PlaceField.from_state(surface, place, recipe.config.sampler_steps)
        recipe.usual = tensors["usual"].numpy()
        recipe.calibration = Calibration.from_state(part("calibration."))
        for k in ("threshold", "false_alarm_rate", "found", "note"):
            setattr(recipe, k, settings[k])
        return recipe


def _moved(pose: Pose, points: np.ndarray) -> np.ndarray:
    return np.asarray(points, np.float64) @ pose.matrix[:3, :3].T + pose.matrix[:3, 3]
