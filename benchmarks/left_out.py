"""What the scorer loses on kinds of defect and on sensors that were left out of its training, one group at a time.

    python benchmarks/left_out.py --keep SCANS --out FOLDER [--designs 3] [--test 2] [--scans 12] [--steps 1000] [--only hole,lines]

Scans, defects and sensors are those of `r3dad.train_scorer` (SCANS holds, or gets, the simulated ones); the trainings are shorter than the
shipped scorer's. Each scorer is trained on ``--designs`` designs per family and its verdict on one more; all are tested on the scans of
``--test`` further designs per family which have the left-out kind of defect (against all good ones), or come from the left-out sensor, and
held against the scorer that was trained on everything. O: AUROC over scans, parts pooled, verdicts not calibrated to the part; P, AP:
within a defective scan, mean. Intervals: 95 %, bootstrap over scans of the difference. "another seed" is trained on everything too: a
difference as large as its is none. Scorers are kept in FOLDER and not trained again.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from r3dad import checkpoint, metrics  # noqa: E402
from r3dad.scorer import Scorer, load_scorer  # noqa: E402
from r3dad.scorer_training import Sample, train
from r3dad.train_scorer import KINDS, SENSORS, designs  # noqa: E402

GROUPS: dict[str, tuple[str, ...]] = {
    "raised": ("bump", "blob", "bead", "spatter"),
    "sunk": ("dent", "pits", "wear"),
    "grooves": ("scratch", "crack"),
    "hole": ("hole",),
    "broken": ("chip", "break"),
    "at edges": ("burr", "flash"),
    "bent": ("bend", "warp"),
    "texture": ("chatter", "rough"),
}
"""Kinds that are left out together, so that no near relative stays in."""
assert sorted(sum(GROUPS.values(), ())) == sorted(KINDS)
FIGURES, RESAMPLES = ("O", "P", "AP"), 1000


def left_out(sample: Sample, group: str) -> bool:
    """Whether a scan belongs to a group of kinds, or was made by the sensor of that name."""
    return sample.kind in GROUPS[group] if group in GROUPS else sample.sensor == group


def said(net: Scorer, samples: Sequence[Sample]) -> np.ndarray:
    """Verdict of each scan, AUROC and AP within it (NaN for good ones): ``[3, N]``."""
    found = np.full((3, len(samples)), np.nan)
    for i, sample in enumerate(samples):
        scan = sample.whole()
        logits = net.score(scan)
        found[0, i] = net.verdict(logits)
        if sample.label.any():
            score = net.smooth(scan, logits)
            found[1:, i] = metrics.auroc(sample.label, score), metrics.average_precision(sample.label, score)
    return found


def figures(bad: np.ndarray, verdicts: np.ndarray, within: np.ndarray) -> np.ndarray:
    """O (from ranks: a hundredth of `metrics.auroc`'s time), P and AP of scans."""
    count = bad.sum()
    o = (rankdata(verdicts)[bad].sum() - count * (count + 1) / 2) / (count * (~bad).sum())
    return np.array([o, *np.nanmean(within[:, bad], axis=1)])


def compared(
    net: np.ndarray, full: np.ndarray, bad: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Figures of both scorers on the same scans, ``[3]`` each, and the interval of their difference ``[2, 3]``."""
    rng, groups = np.random.default_rng(seed), [np.flatnonzero(bad), np.flatnonzero(~bad)]
    draws = []
    for _ in range(RESAMPLES):
        i = np.concatenate([rng.choice(g, len(g)) for g in groups])
        draws.append(figures(bad[i], net[0, i], net[1:, i]) - figures(bad[i], full[0, i], full[1:, i]))
    return figures(bad, net[0], net[1:]), figures(bad, full[0], full[1:]), np.quantile(draws, (0.025, 0.975), axis=0)


def trained(name: str, samples: list[Sample], held: list[Sample], steps: int, out: Path, seed: int = 0) -> Scorer:
    """A scorer, kept in ``out``."""
    file = out / f"{name.replace(' ', '-')}.safetensors"
    if not file.exists():
        print(f"{name}: {len(samples)} scans", file=sys.stderr, flush=True)
        tensors, form = train(samples, held, steps=steps, seed=seed).state()
        checkpoint.save(file, "scorer", tensors, {"scorer": form})
    return load_scorer(file)


def study(
    samples: list[Sample], held: list[Sample], test: list[Sample], only: Sequence[str], steps: int, out: Path
) -> dict:
    """Per group: number of defective and good scans, figures without and with it, interval of the difference."""
    out.mkdir(parents=True, exist_ok=True)
    full = said(trained("everything", samples, held, steps, out), test)
    again = said(trained("another seed", samples, held, steps, out, seed=1), test)
    bad, found = np.array([bool(s.label.any()) for s in test]), {}
    for group in ("", *only):
        here = np.array([not group or left_out(s, group) for s in test])
        chosen = here | ~bad if group in GROUPS else here
        net = again
        if group:
            rest, rested = ([s for s in found_in if not left_out(s, group)] for found_in in (samples, held))
            net = said(trained(f"without {group}", rest, rested, steps, out), test)
        without, with_it, interval = compared(net[:, chosen], full[:, chosen], bad[chosen])
        found[group or "another seed"] = {
            "defective": int(bad[chosen].sum()),
            "good": int((~bad[chosen]).sum()),
            "without": without.tolist(),
            "with": with_it.tolist(),
            "interval": interval.tolist(),
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--designs", type=int, default=3)
    parser.add_argument("--test", type=int, default=2)
    parser.add_argument("--scans", type=int, default=12)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--only", help="groups of kinds and sensors, comma-separated; default: all")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.keep.mkdir(parents=True, exist_ok=True)
    edges = np.cumsum([0, options.designs, 1, options.test]).tolist()
    samples, held, test = (
        [s for made in designs(range(*part), options.scans, options.keep) for s in made]
        for part in zip(edges, edges[1:])
    )
    only = options.only.split(",") if options.only else [*GROUPS, *SENSORS]
    found = study(samples, held, test, only, options.steps, options.out)
    print(f"{len(samples)} scans, {options.steps} steps; difference: without - with\n")
    print(
        "| left out | defective, good | "
        + " | ".join(f"{f}: with, without, difference" for f in FIGURES)
        + " |\n"
        + "|---" * 5
        + "|"
    )
    for name, row in found.items():
        cells = [
            f"{w:.3f}, {wo:.3f}, {wo - w:+.3f} ({low:+.3f} to {high:+.3f})"
            for w, wo, low, high in zip(row["with"], row["without"], *row["interval"])
        ]
        print(f"| {name} | {row['defective']}, {row['good']} | " + " | ".join(cells) + " |")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
