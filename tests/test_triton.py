"""The Triton kernels against the definitions: in the interpreter everywhere, natively where there is a GPU.

Triton decides at its first import whether it interprets, and for the whole process; so the checks run in one of their own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")
CHECKS = sorted((Path(__file__).parent / "interpreter").glob("check_*.py"))


def run_checks(interpret: bool) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TRITON_INTERPRET": "1" if interpret else "0"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", *map(str, CHECKS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_there_are_checks():
    assert len(CHECKS) >= 4


def test_in_the_interpreter():
    run_checks(interpret=True)


@pytest.mark.gpu
def test_on_the_gpu():
    run_checks(interpret=False)
