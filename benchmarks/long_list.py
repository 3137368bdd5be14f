"""``python -m benchmarks.long_list``: what writing the folder of a long list of inspections takes; the inspections are made up.

Parts of 200 points, one in ``--bad`` NG with two defects; prints seconds, peak memory over the start's, and the sizes of what was written.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from r3dad.inspection import PAGES, Alignment, Defect, Inspection, write


def made_up(count: int, bad: int, points: int = 200) -> Iterator[Inspection]:
    """``count`` inspections, every ``bad``-th NG."""
    rng = np.random.default_rng(0)
    lies = Alignment(0.05, 0.99, 0.97, 0.4, np.eye(4))
    for i in range(count):
        cloud = rng.uniform(0, 50, (points, 3))
        ng = i % bad == bad - 1
        place = cloud[0]
        defect = Defect(
            1,
            "dent",
            place,
            place,
            np.array([5.0, 4, 1]),
            16.0,
            -0.8,
            -6.0,
            0.97,
            0.1,
            8.0,
            False,
            40,
            place,
            place / 50,
        )
        yield Inspection(
            name=f"scan{i:06}",
            verdict="NG" if ng else "OK",
            score=float(rng.normal(6 if ng else 0, 0.5)),
            threshold=2.0,
            review=(1.8, 2.2),
            false_alarm_rate=0.05,
            alignment=lies,
            defects=[defect] * 2 if ng else [],
            points=cloud,
            point_scores=rng.uniform(0, 1, points).astype(np.float32),
            deviation=rng.normal(0, 0.03, points),
            displacement=np.zeros((points, 3)),
            limits=np.tile([-0.1, 0.1], (points, 1)),
            seconds=0.4,
        )


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Write, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, default=100_000)
    parser.add_argument("--bad", type=int, default=20, help="one part in so many is NG")
    parser.add_argument("--pages", choices=PAGES, default="bad")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "first", made_up(40, 2), title="loads what is loaded on first use")
        before, started = peak_mib(), time.process_time()
        out = Path(folder) / "list"
        write(out, made_up(given.parts, given.bad), title="long list", pages=given.pages)
        seconds = time.process_time() - started
        for _ in made_up(given.parts, given.bad):
            pass
        making = time.process_time() - started - seconds
        print(f"{given.parts} parts, pages {given.pages}: {seconds - making:.1f} s of processor time, "
              f"peak memory {peak_mib() - before:.0f} MiB over {before:.0f} MiB")  # fmt: skip
        for file in ("report.html", "parts.jsonl", "parts.csv", "defects.csv", "inspection.json"):
            print(f"  {file}: {(out / file).stat().st_size / 1e6:.2f} MB")
        print(f"  coloured clouds: {sum(1 for _ in out.glob('*.ply'))}")


if __name__ == "__main__":
    main()
