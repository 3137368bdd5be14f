"""Units of work: the same here and on a cluster, with bad units and dying workers."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import pytest

from r3dad.engine import cluster, run_units
from r3dad.errors import InputError


def square(n: int) -> int:
    if n == 3:
        raise InputError("three: not this one")
    return n * n


def plain(run) -> dict:
    return {unit: str(result) if isinstance(result, InputError) else result for unit, result in run}


def test_local_runs_in_order_and_goes_on_after_a_bad_unit():
    said = []
    run = list(run_units(range(5), square, progress=lambda share, words: said.append((share, words))))
    assert [unit for unit, _ in run] == list(range(5))
    assert plain(run) == {0: 0, 1: 1, 2: 4, 3: "three: not this one", 4: 16}
    assert said[0][0] == 0 and said[-1][0] == 1 and said[-1][1].startswith("5 of 5 done")
    assert [share for share, _ in said] == sorted(share for share, _ in said)


def test_results_land_as_they_finish():
    seen = []
    run = run_units([1, 2], lambda n: seen.append(n) or n)
    assert next(run) == (1, 1) and seen == [1]


def test_a_bug_is_not_swallowed():
    with pytest.raises(ZeroDivisionError):
        list(run_units([0], lambda n: 1 // n))


def test_wrong_arguments_are_one_line():
    with pytest.raises(InputError, match="engine 'dask' is unknown: expected local or ray"):
        list(run_units([1], square, engine="dask"))
    with pytest.raises(InputError, match="only engine ray has one"):
        list(run_units([1], square, address="auto"))


def test_without_ray_the_remedy_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'r3dad\[ray\]'"):
        list(run_units([1], square, engine="ray"))


class DiesOnce:
    """Squares; the worker of one unit is killed the first time it runs it, like a machine that is lost."""

    def __init__(self, folder: Path, victim: int):
        self.folder, self.victim = folder, victim

    def __call__(self, n: int) -> int:
        import ray

        with (self.folder / str(n)).open("a") as runs:
            runs.write(f"{ray.get_runtime_context().get_node_id()}\n")
        if n == self.victim and len((self.folder / str(n)).read_text().splitlines()) == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(0.05)
        return square(n)


@pytest.fixture(scope="module")
def two_nodes():
    """Address of a cluster of two nodes with a CPU each."""
    pytest.importorskip("ray", reason="Ray is not installed (extra r3dad[ray])")
    from ray.cluster_utils import Cluster

    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    nodes.add_node(num_cpus=1)
    yield nodes.address
    nodes.shutdown()


@pytest.mark.slow
def test_ray_gives_what_local_gives_and_runs_a_lost_unit_again(two_nodes, tmp_path):
    with cluster(two_nodes) as ray:
        assert sum(node["Alive"] for node in ray.nodes()) == 2
    run = list(run_units(range(12), DiesOnce(tmp_path, 7), engine="ray", address=two_nodes))
    assert plain(run) == plain(run_units(range(12), square))
    runs = {n: (tmp_path / str(n)).read_text().split() for n in range(12)}
    assert {n: len(nodes) for n, nodes in runs.items()} == {n: 1 + (n == 7) for n in range(12)}
    assert len({node for nodes in runs.values() for node in nodes}) == 2


class Dies:
    def __call__(self, n: int) -> int:
        if n == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return n


@pytest.mark.slow
def test_a_unit_that_kills_every_worker_is_reported_and_the_others_run_on(two_nodes):
    run = plain(run_units([0, 1, 2], Dies(), engine="ray", address=two_nodes, retries=1))
    assert run[0] == 0 and run[2] == 2
    assert "its worker died 2 times" in run[1]


@pytest.mark.slow
def test_ray_started_for_one_run_is_ended_after_it():
    ray = pytest.importorskip("ray", reason="Ray is not installed (extra r3dad[ray])")
    assert plain(run_units([1, 2], lambda n: n + 1, engine="ray")) == {1: 2, 2: 3}
    assert not ray.is_initialized()
    with pytest.raises(InputError, match="no Ray cluster answers"):
        list(run_units([1], square, engine="ray", address="127.0.0.1:1"))
