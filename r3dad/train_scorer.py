"""Train the scorer that ships with the package, from nothing but the package.

    python -m r3dad.train_scorer --out scorer.safetensors [--designs 8] [--scans 12] [--keep FOLDER] [--good FOLDER ...]

Parts, scans, sensors and defects are made by `r3dad.simulate`; four good scans of a part are fused as by the recipe, and further good and
defective scans of it are described against them. ``--good`` adds the good scans of data sets (their ``train`` folders, nothing else), with
synthetic defects. The same seed gives the same samples.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from r3dad import checkpoint
from r3dad.features import describe
from r3dad.recipes.ground import Ground, fuse
from r3dad.recipes.refine import GOOD, made
from r3dad.scorer_training import Sample, train

KINDS = {
    "bump": 1.0, "dent": 1.0, "scratch": 1.5, "crack": 1.5, "hole": 3.0, "chip": 0.7, "break": 1.2, "burr": 1.5, "flash": 0.5, "bend": 2.5,
    "warp": 0.6, "wear": 0.6, "pits": 0.4, "spatter": 0.4, "blob": 0.6, "bead": 0.5, "chatter": 0.4, "rough": 0.4,
}  # fmt: skip
"""How often each kind of `r3dad.simulate` is drawn."""
SENSORS = {"uniform": 0.45, "one_sided": 0.25, "structured": 0.08, "lines": 0.07, "multiview": 0.1, "cmm": 0.05}
GOOD_SCANS, SURFACE, MOST = 4, 24_000, 12_000


@dataclass
class Design:
    """Simulated scans of one part (shares of its diagonal): good ones that make the surface, and good and defective ones to describe."""

    family: str
    good: list[np.ndarray]
    points: list[np.ndarray]
    labels: list[np.ndarray]
    kinds: list[str]
    sensors: list[str]

    def save(self, path: Path) -> None:
        """Write as a NumPy archive."""
        clouds = {f"{name}{i}": c for name in ("good", "points", "labels") for i, c in enumerate(getattr(self, name))}
        np.savez(path, family=self.family, kinds=self.kinds, sensors=self.sensors, **clouds)

    @classmethod
    def load(cls, path: Path) -> Design:
        """Read what `save` wrote."""
        with np.load(path) as file:
            count = len(file["kinds"])
            good = [file[f"good{i}"] for i in range(GOOD_SCANS)]
            points, labels = ([file[f"{name}{i}"] for i in range(count)] for name in ("points", "labels"))
            return cls(str(file["family"]), good, points, labels, file["kinds"].tolist(), file["sensors"].tolist())


def simulated(family: str, seed: int, scans: int) -> Design:
    """Design number ``seed`` of a family: ``scans`` scans by all sensors, some of a defective part."""
    from r3dad.simulate.parts import part
    from r3dad.simulate.scan import scan

    kinds, odds = list(KINDS), np.array(list(KINDS.values()))
    sensors, share = list(SENSORS), np.array(list(SENSORS.values()))
    rng = np.random.default_rng([seed, *family.encode()])
    design = part(family, seed)
    count = 40_000 if rng.random() < 0.25 else int(rng.integers(6000, 14_000))
    good = [
        scan(design, seed=10_000 + i, points=count, pose="fixed").points / design.diagonal for i in range(GOOD_SCANS)
    ]
    made = Design(family, good, [], [], [], [])
    for k in range(scans):
        kind = None if k < GOOD * scans else str(rng.choice(kinds, p=odds / odds.sum()))
        sensor = str(rng.choice(sensors, p=share / share.sum()))
        points = int(rng.integers(5000, 14_000))
        one = scan(design, seed=k, points=points, sensor=sensor, pose="fixed", defect=kind)
        p = one.points / design.diagonal
        made.points.append(p + np.cross(0.004 * rng.normal(size=3), p) + 0.002 * rng.normal(size=3))
        made.labels.append(one.labels)
        made.kinds.append(kind or "good")
        made.sensors.append(sensor)
    return made


def described(design: Design) -> list[Sample]:
    """The scans of a design against the surface of its good ones."""
    _, surface = fuse(design.good, SURFACE)
    ground = Ground(surface)
    return [
        Sample.of(describe(surface, ground.fitted(p))[0], labels, kind, design.family, sensor)
        for p, labels, kind, sensor in zip(design.points, design.labels, design.kinds, design.sensors, strict=True)
    ]


def designs(seeds: range, scans: int, keep: Path | None = None) -> Iterator[list[Sample]]:
    """Samples of every family's designs ``seeds``, a list per design; ``keep``: folder that holds, or gets, the simulated scans."""
    from r3dad.simulate.parts import FAMILIES

    for seed in seeds:
        for family in sorted(FAMILIES):
            file = keep / f"{family}.{seed}.{scans}.npz" if keep else None
            if file and file.exists():
                design = Design.load(file)
            else:
                design = simulated(family, seed, scans)
                if file:
                    design.save(file)
            yield described(design)


def good_scans(folder: Path, scans: int) -> Iterator[list[Sample]]:
    """Samples from the good scans of a data set's classes, each against the others, with `r3dad.synth.defects`; a list per class."""
    from r3dad.align import Frame
    from r3dad.scans import list_classes, read_scan

    for entry in list_classes(folder):
        rng = np.random.default_rng([1, *entry.name.encode()])
        clouds = [read_scan(f).points for f in entry.train]
        frame, poses = Frame.build(clouds)
        moved = [c @ p.matrix[:3, :3].T + p.matrix[:3, 3] for c, p in zip(clouds, poses, strict=True)]
        clouds, surface = fuse([(c - frame.centre.numpy()) / frame.scale for c in moved], SURFACE)
        each = max(scans // len(clouds), 2)
        yield made(clouds, surface, rng, scans=each, most=MOST, surface_points=SURFACE, group=entry.name)


def main(argv: list[str] | None = None) -> int:
    ap = argparse.ArgumentParser(
        prog="python -m r3dad.train_scorer", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    ap.add_argument("--out", type=Path, required=True)
    ap.add_argument(
        "--designs", type=int, default=8, help="designs per family of parts; one more is held out for the verdict"
    )
    ap.add_argument("--scans", type=int, default=12, help="scans per design, or per class with --good")
    ap.add_argument("--good", type=Path, nargs="*", default=[], help="data sets whose good scans take part too")
    ap.add_argument("--keep", type=Path, help="folder for the simulated scans: a second run takes them from there")
    ap.add_argument("--steps", type=int, default=14_000)
    ap.add_argument("--seed", type=int, default=0)
    args = ap.parse_args(argv)
    torch.set_num_threads(1)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
    samples: list[Sample] = []
    for source in (
        designs(range(args.designs), args.scans, args.keep),
        *(good_scans(folder, args.scans) for folder in args.good),
    ):
        for found in source:
            samples += found
            print(f"{found[0].group}: {len(samples)} scans", file=sys.stderr, flush=True)
    last = range(args.designs, args.designs + 1)
    held = [sample for found in designs(last, args.scans, args.keep) for sample in found]
    print(f"held out for the verdict: {len(held)} scans", file=sys.stderr, flush=True)
    net = train(samples, held, steps=args.steps, seed=args.seed)
    tensors, form = net.state()
    made = {k: getattr(args, k) for k in ("designs", "scans", "steps", "seed")} | {"good": [f.name for f in args.good]}
    checkpoint.save(args.out, "scorer", tensors, {"scorer": form, "made": made})
    print(f"{args.out}: {len(samples)} scans of {len({s.group for s in samples})} parts")
    return 0


if __name__ == "__main__":
    sys.exit(main())
