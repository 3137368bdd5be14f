"""One unit of work and the loop over classes: what is written, kept, refused and skipped."""

import csv
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from r3dad.errors import InputError
from r3dad.evaluate import evaluate, methods, run_class
from r3dad.metrics import FIGURES
from r3dad.scans import list_classes
from tests.conftest import TINY, block_scan


@pytest.fixture
def data(tmp_path):
    """Two classes in the Real3D-AD layout."""
    root = tmp_path / "data"
    for name in ("block0", "block1"):
        for sub in ("train", "test", "gt"):
            (root / name / sub).mkdir(parents=True)
        for i in range(2):
            np.savetxt(root / name / "train" / f"{i}_template.xyz", block_scan(i))
            np.savetxt(root / name / "test" / f"{i}_good.xyz", block_scan(10 + i))
            bad = block_scan(20 + i, dent=2.0)
            np.savetxt(root / name / "test" / f"{i}_sink.xyz", bad)
            label = (np.linalg.norm(bad[:, :2] - [12, 12], axis=1) < 6) & (bad[:, 2] > 6)
            np.savetxt(root / name / "gt" / f"{i}_sink.txt", np.column_stack([bad, label]), fmt="%.4f")
    return root


def test_a_unit_writes_its_folder_and_is_not_run_twice(data, tmp_path):
    item = list_classes(data, classes=["block0"])[0]
    said = []
    found = run_class(
        item, "registered-nn", seed=2, out=tmp_path / "o", progress=lambda share, words: said.append(share)
    )
    folder = tmp_path / "o" / "registered-nn" / "seed2" / "block0"
    assert {p.name for p in folder.iterdir()} == {"figures.json", "scores.csv"}
    assert set(FIGURES) | {"intervals", "seconds_per_scan", "fit_seconds", "memory_bank_mb", "peak_mb", "note"} < set(
        found
    )
    assert found["p_auroc"] > 0.9 and found["memory_bank_mb"] == pytest.approx(2 * 600 * 6 * 8 / 1e6)
    assert found["peak_mb"] is None or found["peak_mb"] > 50
    assert said == sorted(said) and said[-1] < 1
    rows = list(csv.DictReader((folder / "scores.csv").open()))
    assert [r["file"] for r in rows] == [t.path.name for t in item.test]
    assert float(rows[1]["score"]) == found["scans"][1]["score"]
    before = (folder / "figures.json").stat().st_mtime_ns
    assert run_class(item, "registered-nn", seed=2, out=tmp_path / "o") == found
    assert (folder / "figures.json").stat().st_mtime_ns == before
    with pytest.raises(InputError, match="other settings"):
        run_class(item, "registered-nn", seed=2, settings={"top": 0.02}, out=tmp_path / "o")


def test_figures_are_those_of_the_seed(data, tmp_path):
    item = list_classes(data, classes=["block0"])[0]
    runs = [run_class(item, "btf-fpfh", seed=seed, out=tmp_path / out) for seed, out in ((0, "a"), (0, "b"))]
    same = [{k: v for k, v in r.items() if k in FIGURES or k == "intervals"} for r in runs]
    assert same[0] == same[1]


def test_recipes_are_methods(data, tmp_path):
    item = list_classes(data, classes=["block0"])[0]
    found = run_class(item, "r3dad-paper", seed=1, settings=TINY, out=tmp_path, device="cpu")
    folder = tmp_path / "r3dad-paper" / "seed1" / "block0"
    assert found["threshold"] > 0 and found["model_mb"] > 0 and found["memory_bank_mb"] == 0
    model = folder / "model.safetensors"
    assert model.exists() and not (folder / "model.training").exists()
    header = model.read_bytes()[:20_000].decode("latin1")
    assert "2021" in header, "seed 1 is one more than the recipe's own"


def test_the_loop_tells_what_it_skipped_and_writes_the_table(data, tmp_path):
    (data / "block1" / "gt" / "1_sink.txt").unlink()
    results = evaluate(data, tmp_path / "o", method="registered-nn", device="cpu")
    assert list(results["classes"]) == ["block0"]
    assert "class block1" in results["skipped"]["block1"] and "1_sink" in results["skipped"]["block1"]
    folder = tmp_path / "o" / "registered-nn" / "seed0"
    assert json.loads((folder / "results.json").read_text())["mean"]["o_auroc"] == results["mean"]["o_auroc"]
    assert [r["class"] for r in csv.DictReader((folder / "results.csv").open())] == ["block0", "mean"]


def test_a_class_without_templates_is_skipped_and_the_others_run_on(data, tmp_path):
    for file in (data / "block0" / "train").iterdir():
        file.unlink()
    results = evaluate(data, tmp_path / "o", method="registered-nn", layout="real3d")
    assert list(results["classes"]) == ["block1"]
    assert "class block0" in results["skipped"]["block0"] and "template" in results["skipped"]["block0"]


@pytest.mark.parametrize("kind, word", [("good", "good"), ("sink", "defective")])
def test_a_class_without_one_kind_is_refused_before_the_fit(data, tmp_path, kind, word):
    for file in (data / "block0" / "test").glob(f"*_{kind}.xyz"):
        file.unlink()
    item = list_classes(data, "real3d", ["block0"])[0]
    with pytest.raises(InputError, match=f"class block0: .*test: no {word} test scans"):
        run_class(item, "r3dad", out=tmp_path / "o")
    assert not (tmp_path / "o").exists()


def test_labels_of_another_length_are_named(data, tmp_path):
    truth = data / "block0" / "gt" / "0_sink.txt"
    truth.write_text("\n".join(truth.read_text().splitlines()[:50]) + "\n")
    with pytest.raises(InputError, match="no class could be run.*0_sink.txt.*600 labels"):
        evaluate(data, tmp_path / "o", method="btf-fpfh", classes=["block0"])


def test_labels_are_read_before_anything_is_fitted(data, tmp_path, monkeypatch):
    (data / "block0" / "gt" / "0_sink.txt").write_text("0 0 0 1\n")
    monkeypatch.setattr("r3dad.baselines.btf.BTFFPFH.fit", lambda self, clouds: pytest.fail("was fitted"))
    with pytest.raises(InputError, match="0_sink.txt: expected 600 labels.*found 1"):
        run_class(list_classes(data, "real3d", ["block0"])[0], "btf-fpfh", out=tmp_path / "o")


def test_the_command_says_what_was_skipped_and_ends_with_1(data, tmp_path):
    from r3dad.cli import app

    arguments = ["evaluate", str(data), "--out", str(tmp_path / "o"), "--method", "btf-fpfh"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    (data / "block1" / "gt" / "1_sink.txt").unlink()
    done = CliRunner().invoke(app, [*arguments[:-3], str(tmp_path / "p"), *arguments[-2:]])
    assert done.exit_code == 1 and "skipped block1: " in done.stdout and "block0" in done.stdout


def test_an_unknown_method_is_named(data, tmp_path):
    item = list_classes(data, classes=["block0"])[0]
    with pytest.raises(InputError, match="'nearest' is unknown: expected one of r3dad, r3dad-paper, registered-nn"):
        run_class(item, "nearest", out=tmp_path)
    assert len(methods()) == 13
