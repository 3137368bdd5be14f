"""Table 5: how like real defects are those that Patch-Gen makes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from r3dad.align import Frame, Nearest
from r3dad.config import PaperConfig
from r3dad.errors import InputError
from r3dad.reproduce.run import LAYOUTS, Run, kept_figures
from r3dad.reproduce.table import NOT_AT_HAND, Table, mean
from r3dad.scans import DatasetClass, read_scan, read_truth
from r3dad.score import normalisation, sample
from r3dad.synth.patch_gen import KINDS, patch_gen, random_rotations

TRIES = {True: 8, False: 64}
"""Patch-Gen defects per kind and class, with and without ``--quick``."""
MADE, REAL = 20_000, 2048
"""Points of the good scans together, so that their spacing hides no defect, and of a real scan."""


def psnr(real: Tensor, made: Nearest, peak: float) -> float:
    """Point-to-point PSNR in dB: 10 log10(peak^2 / mean squared distance of the real points to the nearest made one).

    One way, from real [M, 3] to made, because a one-sided scan shows but a part of what was made.
    """
    return float(10 * torch.log10(peak**2 / made(real)[0].square().mean()))


@dataclass(frozen=True)
class Likeness:
    """A unit of work: the defective test scans of a class against Patch-Gen's defects on its good ones."""

    item: DatasetClass
    seed: int
    tries: int
    out: Path

    def __str__(self) -> str:
        return f"{self.item.name} seed {self.seed}"

    def run(self, progress: Callable[[float, str], None] | None = None) -> dict[str, Any]:
        """Per kind of defect (``none``: the good scan itself): ``whole`` and ``defect``, means over the real defective scans.

        ``whole``: PSNR over all points of the real scan, mean over the tries; ``defect``: over its labelled points, the best try.
        """
        file = self.out / f"{self.item.name}-seed{self.seed}.json"
        return kept_figures(file, {"tries": self.tries}, lambda: self._figures(progress))

    def _figures(self, progress: Callable[[float, str], None] | None) -> dict[str, Any]:
        scans = [read_scan(path).points for path in self.item.train]
        frame, poses = Frame.build(scans)
        placed = torch.cat([_moved(scan, pose.matrix) for scan, pose in zip(scans, poses) if pose.ok])
        place = normalisation(placed)
        good = place.apply(placed[sample(len(placed), MADE, self.seed)])
        peak = float((good.amax(0) - good.amin(0)).norm())
        made = {"none": [Nearest(good)], **{kind: self._made(good, kind) for kind in KINDS}}
        whole: dict[str, list[float]] = {kind: [] for kind in made}
        defect: dict[str, list[float]] = {kind: [] for kind in made}
        tests = [test for test in self.item.test if not test.good]
        for i, test in enumerate(tests):
            if progress:
                progress(i / len(tests), test.path.stem)
            points = read_scan(test.path).points
            labels = torch.from_numpy(read_truth(test, points))
            real = place.apply(_moved(points, frame.register(points).matrix))
            chosen = sample(len(real), REAL, self.seed)
            for kind, clouds in made.items():
                whole[kind].append(float(np.mean([psnr(real[chosen], cloud, peak) for cloud in clouds])))
                if labels.any():
                    defect[kind].append(max(psnr(real[labels], cloud, peak) for cloud in clouds))
        return {kind: {"whole": mean(whole[kind]), "defect": mean(defect[kind])} for kind in made}

    def _made(self, good: Tensor, kind: str) -> list[Nearest]:
        seeds = self.seed * 1_000_003 + torch.arange(self.tries)
        c = PaperConfig
        batch = good.expand(self.tries, -1, -1)
        _, made, _ = patch_gen(batch, seeds, c.patch_ratio, c.patch_scale, c.patch_draw, kind)
        return [Nearest(cloud) for cloud in made @ random_rotations(seeds)]  # turned back: patch_gen rotates by these


def _moved(points: np.ndarray, matrix: np.ndarray) -> Tensor:
    return torch.from_numpy(points @ matrix[:3, :3].T + matrix[:3, 3]).double()


def table5(run: Run) -> Table:
    """PSNR between Patch-Gen's defects and the real ones, by kind, in the frame of the good scans."""
    rows, data = [], []
    for layout in LAYOUTS:
        if (run.real3d if layout == "real3d" else run.shapenet) is None:
            continue
        items = run.items(layout)
        data.append(run.data(layout, [item.name for item in items]))
        out = run.out / "table5" / layout
        units = [Likeness(item, seed, TRIES[run.quick], out) for item in items for seed in run.seeds]
        done = run.results_of(units)
        for item in dict.fromkeys(unit.item.name for unit, _ in done):
            found = [figures for unit, figures in done if unit.item.name == item]
            for kind in ("none", *KINDS):
                rows.append(
                    {
                        "set": layout,
                        "class": item,
                        "generated": kind if kind != "none" else "none (good scan)",
                        "seeds": len(found),
                        "PSNR dB": mean([figures[kind]["whole"] for figures in found]),
                        "PSNR of the defect dB": mean([figures[kind]["defect"] for figures in found]),
                        "paper": NOT_AT_HAND,
                    }
                )
    if not rows:
        raise InputError("table5: give --real3d or --shapenet, a folder with real defective scans")
    notes = [
        "PSNR: 10 log10(diagonal^2 / mean squared distance of the real scan's points to the nearest generated one), after the scan is "
        "brought into the frame of the good ones; higher is more alike. Of the defect: its labelled points only, the best of the tries.",
        "The paper's definition and figures of this table are not at hand; this one is stated so that it can be compared with itself.",
    ]
    words = f"{run.kind}: {TRIES[run.quick]} defects per kind and class on {MADE} points, {REAL} of a real scan; nothing is trained"
    columns = ("set", "class", "generated", "seeds", "PSNR dB", "PSNR of the defect dB", "paper")
    return Table(
        "table5", "Patch-Gen's defects against real ones", columns, rows, "; ".join(data), words, run.skipped, notes
    )
