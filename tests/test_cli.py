"""The command line as users type it: fit, predict, evaluate, doctor; bad input gets one line and exit code 2."""

import contextlib
import csv
import io
import json
import signal
import subprocess
import sys
import time
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import trimesh

from r3dad import cli
from tests.conftest import TINY, block_scan

SETTINGS = [f"--set={name}={json.dumps(value)}" for name, value in TINY.items()]


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def r3dad(*args) -> Done:
    """The command in this process: what it prints and its exit code."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["r3dad", *map(str, args)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        pytest.raises(SystemExit) as end,
    ):
        cli.main()
    return Done(int(end.value.code or 0), out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("scans")
    for i in range(3):
        np.savetxt(root / f"good{i}.xyz", block_scan(i))
    bad = block_scan(7, dent=3.0)
    bad[5] = np.nan
    (root / "test").mkdir()
    np.savetxt(root / "test" / "bad.csv", bad, delimiter=",")
    return root


@pytest.fixture(scope="module")
def model(folder):
    path = folder / "part.safetensors"
    done = r3dad("fit", folder, "--recipe", "paper", "--out", path, *SETTINGS)
    assert done.returncode == 0, done.stderr
    assert "3 good scans" in done.stdout and "threshold" in done.stdout
    return path


def test_predict_writes_scores_heat_map_and_report(folder, model, tmp_path):
    done = r3dad("predict", model, folder / "test" / "bad.csv", folder / "good0.xyz", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "out" / "scores.csv").open()))
    assert [r["name"] for r in rows] == ["bad", "good0"]
    assert "1 points with NaN or inf dropped" in rows[0]["note"]
    cloud = trimesh.load(tmp_path / "out" / "bad.ply", process=False)
    assert len(cloud.vertices) == 599
    assert "scalar_anomaly_score" in (tmp_path / "out" / "bad.ply").read_bytes()[:1000].decode("latin1")
    assert (tmp_path / "out" / "report.html").stat().st_size > 10_000


@pytest.fixture
def data(tmp_path):
    """Two classes in the Anomaly-ShapeNet layout; the labels of the second have another length."""
    for name in ("block0", "broken0"):
        for sub in ("train", "test", "GT"):
            (tmp_path / name / sub).mkdir(parents=True)
        for i in range(2):
            np.savetxt(tmp_path / name / "train" / f"{name}_template{i}.xyz", block_scan(i))
            np.savetxt(tmp_path / name / "test" / f"{name}_positive{i}.xyz", block_scan(10 + i))
            bad = block_scan(20 + i, dent=2.0)
            np.savetxt(tmp_path / name / "test" / f"{name}_dent{i}.xyz", bad)
            label = (np.linalg.norm(bad[:, :2] - [12, 12], axis=1) < 6) & (bad[:, 2] > 6)
            rows = np.column_stack([bad, label])[: 50 if name == "broken0" else None]
            np.savetxt(tmp_path / name / "GT" / f"{name}_dent{i}.txt", rows, fmt="%.4f", delimiter=",")
    return tmp_path


def test_evaluate_writes_figures_skips_what_is_broken_and_keeps_what_is_done(data, tmp_path):
    out = tmp_path / "out"
    command = ("evaluate", data, "--out", out, "--recipe", "paper", *SETTINGS)
    done = r3dad(*command)
    assert done.returncode == 1, done.stderr  # a class was skipped
    results = json.loads((out / "r3dad-paper" / "seed0" / "results.json").read_text())
    row = results["classes"]["block0"]
    assert all(0 <= row[f] <= 1 for f in ("o_auroc", "p_auroc", "o_ap", "p_ap")) and row["seconds_per_scan"] > 0
    assert results["mean"]["o_auroc"] == row["o_auroc"]
    assert "broken0" in results["skipped"] and "broken0" in done.stdout
    assert results["config"]["settings"]["points"] == 128 and results["environment"]["python"]
    table = list(csv.DictReader((out / "r3dad-paper" / "seed0" / "results.csv").open()))
    assert [r["class"] for r in table] == ["block0", "mean"]

    kept = out / "r3dad-paper" / "seed0" / "block0" / "figures.json"
    before = kept.stat().st_mtime_ns
    assert r3dad(*command).returncode == 1 and kept.stat().st_mtime_ns == before
    other = r3dad("evaluate", data, "--out", out, "--recipe", "paper", "--classes", "block0", *SETTINGS, "--set=seed=3")
    assert other.returncode == 2 and "other settings" in other.stderr


def test_interrupted_fit_keeps_its_state(folder, tmp_path):
    """A polite kill in the middle: the state stays and there is no model."""
    long = [s for s in SETTINGS if "iterations" not in s] + ["--set=iterations=4000"]
    command = [
        sys.executable,
        "-m",
        "r3dad",
        "fit",
        str(folder),
        "--recipe=paper",
        f"--out={tmp_path / 'm'}",
        *long,
    ]
    first = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert first.stderr is not None
    seen = ""
    deadline = time.time() + 100
    while "loss" not in seen and time.time() < deadline:
        seen += first.stderr.read(1)
    first.send_signal(signal.SIGTERM)  # SIGINT may be ignored where tests run in the background
    assert first.wait(60) == 130
    state = tmp_path / "m.training"
    assert state.exists() and not (tmp_path / "m").exists()
    assert "interrupted" in first.stderr.read()
    other = r3dad("fit", folder, "--recipe=paper", f"--out={tmp_path / 'm'}", *SETTINGS)
    assert other.returncode == 2 and "other settings" in other.stderr  # it is that training's state, and it is read


def _save(path, points):
    np.savetxt(path, points)


BAD = {
    "nothing.ply": lambda path: None,
    "empty": lambda path: path.mkdir(),
    "a.xyz": lambda path: path.write_text(""),
    "b.xyz": lambda path: path.write_text("one two three\n"),
    "c.ply": lambda path: path.write_bytes(bytes(range(200))),
    "few.xyz": lambda path: _save(path, block_scan(0, 5)),
    "one.xyz": lambda path: _save(path, np.ones((99, 3))),
    "line.xyz": lambda path: _save(path, block_scan(0, 600) * [1, 0, 0]),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_scan_gets_one_line_and_exit_code_2(model, tmp_path, name):
    BAD[name](tmp_path / name)
    done = r3dad("predict", model, tmp_path / name, "--out", tmp_path / "out")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and name in lines[0] and "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_bad_scan_does_not_stop_the_others(model, folder, tmp_path):
    (tmp_path / "b.xyz").write_text("one two three\n")
    done = r3dad("predict", model, folder / "good0.xyz", tmp_path / "b.xyz", "--out", tmp_path / "out")
    assert done.returncode == 2 and "error:" in done.stderr and "b.xyz" in done.stderr
    rows = {r["name"]: r for r in csv.DictReader((tmp_path / "out" / "scores.csv").open())}
    assert float(rows["good0"]["score"]) > 0 and "b.xyz" in rows["b"]["note"]


def test_bad_model_and_settings_get_one_line(folder, tmp_path):
    (tmp_path / "m").write_bytes(b"no model")
    _save(tmp_path / "few.xyz", block_scan(0, 400))
    for args, words in (
        (("predict", tmp_path / "m", folder, "--out", tmp_path / "o"), "damaged"),
        (("predict", tmp_path / "none", folder, "--out", tmp_path / "o"), "no such model"),
        (("fit", folder, "--out", tmp_path / "n", "--recipe", "best"), "unknown"),
        (("fit", folder, "--out", tmp_path / "n", "--device", "tpu"), "expected cpu"),
        (("fit", folder, "--out", tmp_path), "expected the model file"),
        (("fit", folder, tmp_path / "few.xyz", "--out", tmp_path / "n"), "few.xyz) has 400 points"),
        (("fit", folder, "--out", tmp_path / "n", "--recipe", "paper", "--set", "iterations"), "NAME=VALUE"),
        (("fit", folder, "--out", tmp_path / "n", "--recipe", "paper", "--set", "colour=red"), "colour"),
        (("evaluate", tmp_path / "none", "--out", tmp_path / "o"), "none"),
    ):
        done = r3dad(*args)
        assert done.returncode == 2 and words in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_doctor_names_a_backend_and_the_others_reasons_for_every_operation(monkeypatch):
    monkeypatch.setenv("R3DAD_BACKEND", "torch")
    done = r3dad("doctor")
    assert done.returncode == 0, done.stderr
    for op in ("concat_squash", "reverse_diffusion", "encode", "knn", "cluster_distance"):
        assert op in done.stdout
    assert "R3DAD_BACKEND" in done.stdout and "torch" in done.stdout
