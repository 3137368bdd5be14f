"""Training of the scorer (`r3dad.scorer`): described scans with labels, crops of them, the loss.

Where the scans come from is the caller's: `r3dad.train_scorer` simulates parts for the scorer that ships, `r3dad.recipes.refine` makes
defects on the good scans at hand.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from r3dad.features import ScanFeatures
from r3dad.scorer import Scorer, summary

CROP, CROPS = 2200, 3
"""Points of a crop, and crops of a step."""


@dataclass
class Sample:
    """A described scan, its labels ``[N]``, and what made it; half precision, so that thousands fit into memory."""

    scan: ScanFeatures
    label: np.ndarray
    kind: str
    group: str
    sensor: str = ""

    @classmethod
    def of(cls, scan: ScanFeatures, label: np.ndarray, kind: str, group: str, sensor: str = "") -> Sample:
        half = {"nodes": np.float16, "normals": np.float16, "neighbours": np.uint16}
        packed = {name: getattr(scan, name).astype(dtype) for name, dtype in half.items()}
        return cls(replace(scan, **packed), label, kind, group, sensor)

    def whole(self) -> ScanFeatures:
        """The scan as the scorer takes it."""
        scan = self.scan
        return replace(
            scan,
            nodes=scan.nodes.astype(np.float32),
            normals=scan.normals.astype(np.float32),
            neighbours=scan.neighbours.astype(np.int64),
        )


def _crop(sample: Sample, rng: np.random.Generator) -> list[np.ndarray]:
    """The arrays of the points around a random, more often a defective, point; neighbours outside become the point itself."""
    scan, bad = sample.scan, np.flatnonzero(sample.label)
    centre = int(rng.choice(bad)) if len(bad) and rng.random() < 0.65 else int(rng.integers(len(scan.points)))
    keep = np.arange(len(scan.points))
    if len(keep) > CROP:
        keep = np.sort(np.argpartition(((scan.points - scan.points[centre]) ** 2).sum(1), CROP)[:CROP])
    index = np.full(len(scan.points), -1)
    index[keep] = np.arange(len(keep))
    j = index[scan.neighbours[keep]]
    j = np.where(j < 0, np.arange(len(keep))[:, None], j)
    spacing = np.full((len(keep), 1, 1), scan.spacing, np.float32)
    nodes, normals, label = (x[keep].astype(np.float32) for x in (scan.nodes, scan.normals, sample.label))
    return [nodes, j, scan.points[keep], normals, spacing, label]


def fit_points(
    net: Scorer,
    samples: Sequence[Sample],
    *,
    steps: int,
    rate: float = 4e-3,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> None:
    """Fit the point scores of ``net`` to the labels of crops of ``samples``, a quarter of them from good scans where both are there.

    ``progress`` is told the step and the running mean of the loss.
    """
    rng = np.random.default_rng(seed)
    optimiser = torch.optim.AdamW(net.parameters(), weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps)
    bad = [s for s in samples if s.label.any()]
    good = [s for s in samples if not s.label.any()]
    mean = 0.0
    net.train()
    for step in range(1, steps + 1):
        drawn = []
        for _ in range(CROPS):
            wanted, other = (bad, good) if rng.random() < 0.75 else (good, bad)
            pool = wanted or other
            drawn.append(pool[rng.integers(len(pool))])
        crops = [_crop(s, rng) for s in drawn]
        for k, start in enumerate(np.cumsum([0] + [len(c[0]) for c in crops[:-1]])):
            crops[k][1] = crops[k][1] + start
        *given, label = (torch.from_numpy(np.concatenate(c)) for c in zip(*crops, strict=True))
        loss = torch.nn.functional.binary_cross_entropy_with_logits(net(*given), label)
        optimiser.zero_grad()
        if not loss.isfinite():
            raise RuntimeError(f"training of the scorer: loss is {loss.item()} at step {step}; lower the rate")
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        mean = 0.99 * mean + 0.01 * loss.item()
        if progress:
            progress(step, mean / (1 - 0.99**step))
    net.eval()


def fit_verdict(net: Scorer, held: Sequence[Sample]) -> None:
    """Fit the verdict to scans of designs that the point scores never saw: on its own scans the network is too sure."""
    from sklearn.linear_model import LogisticRegression

    x = np.stack([summary(net.score(s.whole())) for s in held])
    centre, spread = x.mean(0), x.std(0) + 1e-6
    rule = LogisticRegression(C=1.0).fit((x - centre) / spread, [bool(s.label.any()) for s in held])
    weight = rule.coef_ / spread
    net.decide.weight.data = torch.from_numpy(weight).float()
    net.decide.bias.data = torch.from_numpy(rule.intercept_ - weight @ centre).float()


def train(samples: Sequence[Sample], held: Sequence[Sample], *, steps: int, width: int = 40, seed: int = 0) -> Scorer:
    """A scorer from nothing: point scores from ``samples``, the verdict from ``held``."""
    torch.manual_seed(seed)
    nodes = np.concatenate([s.scan.nodes[::20] for s in samples]).astype(np.float32)
    net = Scorer(nodes.shape[1], width)
    net.mean.copy_(torch.from_numpy(nodes.mean(0)))
    net.std.copy_(torch.from_numpy(nodes.std(0) + 1e-3))
    started = time.time()

    def say(step: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"step {step}: loss {loss:.4f}, {time.time() - started:.0f} s", file=sys.stderr, flush=True)

    fit_points(net, samples, steps=steps, seed=seed, progress=say)
    fit_verdict(net, held)
    return net
