"""Inspections of a list of files, here and on a cluster of two nodes: the same, in order, though a worker is lost."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from r3dad.detector import Detector
from r3dad.errors import InputError
from r3dad.line.ray_inspect import inspect_files
from tests.conftest import TINY, block_scan


@pytest.fixture(scope="module")
def detector() -> Detector:
    return Detector("paper", device="cpu", **TINY).fit([block_scan(i) for i in range(3)])


def scans(folder: Path, count: int) -> list[Path]:
    files = []
    for i in range(count):
        files.append(folder / f"scan{i}.npy")
        np.save(files[-1], block_scan(i, dent=3.0 * (i % 2)))
    return files


def plain(inspections) -> list[dict]:
    return [{**i.to_json(), "seconds": 0} for i in inspections]


def test_files_in_order_and_what_is_no_scan_among_them(detector, tmp_path, monkeypatch):
    files = scans(tmp_path, 3)
    files[1].write_bytes(b"junk")
    monkeypatch.chdir(tmp_path)
    said: list[float] = []
    found = list(inspect_files(detector, [Path("scan0.npy"), *files], progress=lambda share, words: said.append(share)))
    assert [i.name for i in found] == ["scan0", "scan0", "scan1", "scan2"] and said[-1] == 1.0
    assert found[2].verdict == "UNREADABLE" and str(files[1]) in found[2].note and found[0].verdict in ("OK", "NG")
    expected = detector.inspect(files[0])
    assert np.array_equal(found[0].point_scores, expected.point_scores) and found[0].score == expected.score


def test_a_fault_over_one_file_does_not_end_the_list(detector, tmp_path, monkeypatch):
    files, real = scans(tmp_path, 3), Detector.inspect
    monkeypatch.setattr(
        Detector, "inspect", lambda self, scan, **k: 1 // ("1" not in scan.name) and real(self, scan, **k)
    )
    found = list(inspect_files(detector, files))
    assert [i.verdict == "UNREADABLE" for i in found] == [False, True, False]
    assert (
        found[1].note == f"{files[1]}: could not be inspected (ZeroDivisionError: integer division or modulo by zero)"
    )


def test_wrong_arguments(detector, tmp_path):
    with pytest.raises(InputError, match="engine 'spark' is unknown"):
        list(inspect_files(detector, scans(tmp_path, 1), engine="spark"))
    with pytest.raises(InputError, match="not fitted"):
        list(inspect_files(Detector(), scans(tmp_path, 1), engine="ray"))


def workers() -> list[int]:
    """Processes of Ray that run a unit of ours."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                title = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if title.startswith(b"ray::") and b"_attempt" in title:
                found.append(int(folder.name))
    return found


@pytest.mark.slow
def test_two_nodes_and_a_lost_worker_give_what_one_process_gives(detector, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (extra r3dad[ray])")
    from ray.cluster_utils import Cluster

    files = scans(tmp_path, 12)
    files[5].write_bytes(b"junk")
    here = plain(inspect_files(detector, files))
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    killed: list[int] = []

    def kill_one() -> None:
        end = time.monotonic() + 120
        while not killed and time.monotonic() < end:
            for pid in workers()[:1]:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)
            time.sleep(0.01)

    said: list[str] = []
    killer = threading.Thread(target=kill_one)
    try:
        killer.start()
        there = plain(
            inspect_files(
                detector, files, engine="ray", address=nodes.address, progress=lambda share, words: said.append(words)
            )
        )
        killer.join()
    finally:
        nodes.shutdown()
    assert killed and there == here
    assert said[-1].startswith("12 of 12 done")
