"""Collects ``bench_*.py`` and runs them on one thread unless a workload says otherwise."""

from __future__ import annotations

import os

os.environ.setdefault("PYKEOPS_VERBOSE", "0")

import pytest  # noqa: E402
import torch  # noqa: E402


def pytest_xdist_auto_num_workers() -> int:
    """None: figures are taken one after the other."""
    return 0


def pytest_collect_file(file_path, parent):
    if file_path.match("bench_*.py") and not parent.session.isinitpath(file_path):
        return pytest.Module.from_parent(parent, path=file_path)


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
