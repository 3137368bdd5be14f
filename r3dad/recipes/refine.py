"""The scorer trained further on one part: synthetic defects on its good scans, each described against the others."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import numpy as np

from r3dad.features import describe
from r3dad.neighbours import thin
from r3dad.recipes.ground import Ground
from r3dad.scorer import Scorer
from r3dad.scorer_training import Sample, fit_points
from r3dad.surface import Surface
from r3dad.synth.defects import Geometry, draw_kinds, synthetic

GOOD, SCANS, RATE = 0.4, 8, 5e-4
"""Share of the scans without a defect; scans made of each good one; a learning rate that keeps what other parts taught."""


def made(
    clouds: Sequence[np.ndarray],
    surface: Surface,
    rng: np.random.Generator,
    *,
    scans: int,
    most: int = 12_000,
    surface_points: int = 24_000,
    group: str = "",
) -> list[Sample]:
    """``scans`` scans of each good one ``[M_i, 3]`` (fused into ``surface``), most with a defect or two, described against the others."""
    found = []
    for i, cloud in enumerate(clouds):
        rest = [c for k, c in enumerate(clouds) if k != i]
        others = Surface.build(rest, surface_points) if rest else surface
        ground, good = Ground(others), Geometry.of(cloud, surface)
        for _ in range(scans):
            kinds = [] if rng.random() < GOOD else draw_kinds(rng, int(rng.integers(1, 3)))
            raw = bool(rng.random() < 0.5)
            p, label = synthetic(rng, good[int(raw)], kinds, raw=raw)
            kept = thin(p, most)
            scan = describe(others, ground.fitted(p[kept]))[0]
            found.append(Sample.of(scan, label[kept], "+".join(kinds) or "good", group))
    return found


def refined(
    scorer: Scorer,
    clouds: Sequence[np.ndarray],
    surface: Surface,
    *,
    steps: int,
    seed: int = 0,
    progress: Callable[[float, str], None] | None = None,
) -> Scorer:
    """A copy of ``scorer``, its point scores fitted ``steps`` steps to defects made on good scans ``[M_i, 3]`` of one part.

    The verdict's rule stays: `recipes.aligned` states scores relative to good scans of the part. ``progress`` is told share and words.
    """
    say = progress or (lambda share, words: None)
    say(0.0, "making defects to refine the scorer")
    samples = made(clouds, surface, np.random.default_rng([2, seed]), scans=SCANS)
    net, device = copy.deepcopy(scorer).cpu(), scorer.mean.device
    fit_points(
        net,
        samples,
        steps=steps,
        rate=RATE,
        seed=seed,
        progress=lambda step, loss: say(step / steps, f"refining the scorer, step {step} of {steps}"),
    )
    return net.to(device)
