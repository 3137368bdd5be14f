"""Damaged files of every format: a valid scan or an InputError, in bounded memory, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from r3dad.errors import InputError
from r3dad.scans import SUFFIXES, read_scan
from r3dad.scans.mesh import SAMPLED_POINTS
from tests.scan_files import CLOUD_WRITERS, MESH_WRITERS, cloud, dense_sphere

SUFFIX = {kind: entry[0] for kind, entry in [*CLOUD_WRITERS.items(), *MESH_WRITERS.items()]}
EXAMPLES = int(os.environ.get("R3DAD_FUZZ_EXAMPLES", "40"))
LARGEST_PEAK = 48e6  # bytes; the files have some 2 kB, points drawn from faces take some 10 MB
fuzz = settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
#: Words that headers are made of, and numbers that break programs.
WORDS = [
    b"0",
    b"-1",
    b"1",
    b"3",
    b"4",
    b"255",
    b"65536",
    b"4294967295",
    b"1000000000000",
    b"99999999999999999999999",
    b"nan",
]
WORDS += [
    b"1e400",
    b"x",
    b"list",
    b"uchar",
    b"double",
    b"F",
    b"U",
    b"8",
    b"ascii",
    b"binary",
    b"end_header",
    b"",
    b" ",
    b"\n",
    b"\xff",
]


@cache
def valid(kind: str) -> bytes:
    """A small valid file of this kind."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / f"a{SUFFIX[kind]}"
        if kind in MESH_WRITERS:
            MESH_WRITERS[kind][1](path, *dense_sphere(1))
        else:
            CLOUD_WRITERS[kind][1](path, cloud(20))
        return path.read_bytes()


@pytest.fixture(scope="module", autouse=True)
def every_valid_file_is_read_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Imports the libraries before memory is counted."""
    for kind in SUFFIX:
        path = tmp_path_factory.mktemp("valid") / f"a{SUFFIX[kind]}"
        path.write_bytes(valid(kind))
        read_scan(path)


def survives(path: Path, data: bytes) -> None:
    """The file is a valid scan, or an InputError of one line that names it."""
    path.write_bytes(data)
    tracemalloc.start()
    try:
        scan = read_scan(path)
        assert scan.points.dtype == np.float64 and scan.points.ndim == 2 and scan.points.shape[1] == 3
        assert np.isfinite(scan.points).all()
        assert 1 <= len(scan.points) <= max(SAMPLED_POINTS, len(data)) and scan.dropped >= 0
    except InputError as error:
        assert str(path) in str(error) and "\n" not in str(error) and len(str(error)) < 600
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < LARGEST_PEAK, f"{peak / 1e6:.0f} MB for {len(data)} bytes"


@pytest.mark.parametrize("suffix", SUFFIXES)
@fuzz
@given(data=st.binary(max_size=400))
def test_random_bytes(tmp_path: Path, suffix: str, data: bytes) -> None:
    survives(tmp_path / f"a{suffix}", data)


@pytest.mark.parametrize("kind", SUFFIX)
@fuzz
@given(draw=st.data())
def test_truncations_and_joins(tmp_path: Path, kind: str, draw: st.DataObject) -> None:
    data = valid(kind)
    start = draw.draw(st.integers(0, len(data)))
    tail = draw.draw(st.binary(max_size=40) | st.just(data[draw.draw(st.integers(0, len(data))) :]))
    survives(tmp_path / f"a{SUFFIX[kind]}", data[:start] + tail)


@pytest.mark.parametrize("kind", SUFFIX)
@fuzz
@given(draw=st.data())
def test_changed_bytes(tmp_path: Path, kind: str, draw: st.DataObject) -> None:
    data = bytearray(valid(kind))
    head = draw.draw(st.sampled_from([64, 300, len(data)]))
    for _ in range(draw.draw(st.integers(1, 4))):
        at = draw.draw(st.integers(0, min(head, len(data)) - 1))
        data[at] = draw.draw(st.sampled_from([0, 1, 0x20, 0x30, 0x39, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
    survives(tmp_path / f"a{SUFFIX[kind]}", bytes(data))


@pytest.mark.parametrize("kind", [kind for kind in SUFFIX if not kind.startswith(("npz", "laz", "las", "stl binary"))])
@fuzz
@given(draw=st.data())
def test_changed_words(tmp_path: Path, kind: str, draw: st.DataObject) -> None:
    """Words of the text, most of them in the header, become others or change places."""
    data = valid(kind)
    cut = min(len(data), 500)
    words = data[:cut].split(b" ")
    for _ in range(draw.draw(st.integers(1, 3))):
        at = draw.draw(st.integers(0, len(words) - 1))
        other = draw.draw(st.sampled_from(WORDS) | st.sampled_from(words))
        kept = words[at].partition(b"\n")
        words[at] = other + kept[1] + kept[2] if draw.draw(st.booleans()) else kept[0] + kept[1] + other
    survives(tmp_path / f"a{SUFFIX[kind]}", b" ".join(words) + data[cut:])


@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space the Linux way")
def test_native_libraries_stay_within_memory(tmp_path: Path) -> None:
    """LAZ and LZF unpack in native code, which no Python tool counts: damaged files in a process of 1 GB more."""
    code = """
import random, resource, sys
from pathlib import Path
from r3dad.errors import InputError
from r3dad.scans import read_scan
folder = Path(sys.argv[1])
files = {path: path.read_bytes() for path in sorted(folder.iterdir())}
for path in files:
    read_scan(path)
used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**30, used + 2**30))
rng = random.Random(0)
for path, data in files.items():
    for _ in range(int(sys.argv[2])):
        new = bytearray(data)
        for _ in range(rng.randrange(1, 5)):
            new[rng.randrange(len(new))] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])
        path.write_bytes(new[: rng.choice([len(new), len(new), rng.randrange(len(new))])])
        try:
            read_scan(path)
        except InputError:
            pass
# VmHWM is this program's own peak; ru_maxrss would begin with that of the process it was forked from.
print(next(int(line.split()[1]) // 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
    for kind in ("pcd compressed", "laz", "las", "npz"):
        (tmp_path / f"a{len(kind)}{SUFFIX[kind]}").write_bytes(valid(kind))
    root = Path(__file__).resolve().parents[1]
    call = [sys.executable, "-c", code, str(tmp_path), str(10 * EXAMPLES)]
    done = subprocess.run(call, cwd=root, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) < 600  # MB, most of them the interpreter and its libraries
