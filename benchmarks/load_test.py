"""``python -m benchmarks.load_test``: a server under load, from another process of the same machine.

Simulates a part, fits its good scans (or takes ``--model`` and ``--scans``), starts ``r3dad serve``, and sends scans in two ways:

- open: one every 1/RATE seconds whether or not earlier ones are answered, as a line does; latency counts from the moment a scan was due;
- closed: CLIENTS that send the next scan when the last is answered: what the server can do at most.

Memory is the resident size that the server reports of itself and its workers, read every 50 scans. Prints a table, writes JSON with --out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from r3dad.doctor import environment
from r3dad.scans import find_scans


def make_part(folder: Path, points: int) -> tuple[Path, list[Path]]:
    """A model of a simulated bracket, and 12 scans of it (half of them with a defect) of ``points`` points."""
    from r3dad.detector import Detector
    from r3dad.simulate.parts import part
    from r3dad.simulate.scan import scan

    flaws = (None, "bump", None, "dent", None, "scratch")
    bracket = part("bracket", 0)
    clouds = [scan(bracket, seed=100 + i, points=points) for i in range(4)]
    model = folder / "bracket.safetensors"
    Detector().fit([cloud.points for cloud in clouds]).save(model)
    files = []
    for i in range(12):
        made = scan(bracket, seed=i, points=points, defect=flaws[i % 6])
        files.append(folder / f"scan{i:02}.npy")
        np.save(files[-1], made.points.astype(np.float32))
    return model, files


class Load:
    """Scans against one server, and what came of them."""

    def __init__(self, url: str, model: str, files: list[Path]) -> None:
        self._url, self._model = url, model
        self._scans = [(file.name, file.read_bytes()) for file in files]
        self.seconds: list[float] = []
        self.codes: dict[int, int] = {}
        self.memory: list[dict[str, float]] = []
        self.started = self.ended = 0.0

    async def _send(self, http: httpx.AsyncClient, i: int, due: float) -> None:
        answer = await http.post(f"/v1/models/{self._model}/inspect", files={"scan": self._scans[i % len(self._scans)]})
        self.ended = time.perf_counter()
        self.codes[answer.status_code] = self.codes.get(answer.status_code, 0) + 1
        if answer.status_code == 200:
            self.seconds.append(self.ended - due)
        if i % 50 == 0:
            text = (await http.get("/metrics")).text
            self.memory.append(
                {p: float(n) for p, n in re.findall(r'r3dad_resident_bytes\{process="(\w+)"\} (\S+)', text)}
            )

    async def open(self, count: int, rate: float) -> None:
        """``count`` scans, one every 1/``rate`` seconds."""
        async with self._client() as http:
            self.started = time.perf_counter()
            tasks = []
            for i in range(count):
                due = self.started + i / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                tasks.append(asyncio.create_task(self._send(http, i, due)))
            await asyncio.gather(*tasks)

    async def closed(self, count: int, clients: int) -> None:
        """``count`` scans by ``clients`` that wait for their answers."""
        numbers = iter(range(count))
        async with self._client() as http:
            self.started = time.perf_counter()

            async def one() -> None:
                for i in numbers:
                    await self._send(http, i, time.perf_counter())

            await asyncio.gather(*(one() for _ in range(clients)))

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self._url, timeout=120, limits=httpx.Limits(max_connections=64))

    def figures(self) -> dict[str, Any]:
        """Scans per second, latencies in seconds, answers by status, memory in MiB by process at the first, middle and last reading."""
        p50, p99 = np.quantile(self.seconds, (0.5, 0.99)) if self.seconds else (float("nan"), float("nan"))
        mib = [{p: round(n / (1 << 20), 1) for p, n in reading.items()} for reading in self.memory]
        return {
            "scans": len(self.seconds),
            "scans_per_second": len(self.seconds) / (self.ended - self.started),
            "p50": float(p50),
            "p99": float(p99),
            "slowest": max(self.seconds, default=float("nan")),
            "answers": self.codes,
            "memory_mib": mib,
        }


def run(model: Path, files: list[Path], given: argparse.Namespace) -> dict[str, Any]:
    """Both loads against a fresh server."""
    command = [sys.executable, "-m", "r3dad", "serve", str(model), "--port", "0", "--rate", "100000"]
    command += ["--workers", str(given.workers), "--threads", str(given.threads), "--batch", str(given.batch)]
    environ = {**os.environ, "OMP_NUM_THREADS": str(given.threads)}
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environ)
    assert server.stderr is not None
    try:
        first = server.stderr.readline()
        address = re.search(r"http://\S+", first)
        if not address:
            sys.exit(first.strip() or "the server did not start")
        results: dict[str, Any] = {}
        for name in given.loads:
            load = Load(address[0], model.stem, files)
            asyncio.run(
                load.open(given.count, given.rate) if name == "open" else load.closed(given.count, given.clients)
            )
            results[name] = load.figures()
            show(name, results[name])
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)
    return results


def show(name: str, figures: dict[str, Any]) -> None:
    """A load's line and its memory."""
    print(
        f"{name:7} {figures['scans']:5} scans  {figures['scans_per_second']:.2f} /s  p50 {figures['p50']:.3f} s  "
        f"p99 {figures['p99']:.3f} s  slowest {figures['slowest']:.3f} s  answers {figures['answers']}"
    )
    memory = figures["memory_mib"]
    if memory:
        spots = [memory[0], memory[len(memory) // 4], memory[len(memory) // 2], memory[-1]]
        print("        MiB at start, a quarter, half, end: " + "; ".join(str(spot) for spot in spots), flush=True)


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="a model file; needs --scans")
    parser.add_argument("--scans", type=Path, nargs="+", help="files or folders of scans")
    parser.add_argument("--count", type=int, default=200, help="scans of each load")
    parser.add_argument("--points", type=int, default=10_000, help="of the simulated scans")
    parser.add_argument("--rate", type=float, default=4.0, help="scans per second of the open load")
    parser.add_argument("--clients", type=int, default=4, help="of the closed load")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--loads", nargs="+", choices=("open", "closed"), default=["closed", "open"])
    parser.add_argument("--out", type=Path, help="JSON file")
    given = parser.parse_args()
    if bool(given.model) != bool(given.scans):
        parser.error("--model and --scans belong together")
    with tempfile.TemporaryDirectory() as folder:
        model, files = (given.model, find_scans(given.scans)) if given.model else make_part(Path(folder), given.points)
        from r3dad.scans import read_scan

        sizes = [len(read_scan(file).points) for file in files]
        print(f"{len(files)} scans of {min(sizes)} to {max(sizes)} points (median {statistics.median(sizes):.0f}); "
              f"{given.workers} workers, {given.threads} threads each", flush=True)  # fmt: skip
        results = run(model, files, given)
    if given.out:
        settings = {k: getattr(given, k) for k in ("count", "points", "rate", "clients", "workers", "threads", "batch")}
        given.out.write_text(json.dumps({"settings": settings, "environment": environment(), **results}, indent=1))


if __name__ == "__main__":
    main()
