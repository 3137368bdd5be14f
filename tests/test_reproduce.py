"""The paper's tables: its figures beside ours, the two protocols, what is skipped and why, and the same figures on a cluster."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from r3dad.align import Nearest
from r3dad.errors import InputError
from r3dad.reproduce import NAMES, Run, protocols, reproduce, rows, run, table
from r3dad.reproduce.likeness import psnr
from r3dad.reproduce.transfer import BOWLS, chamfer
from r3dad.scans import list_classes

from .conftest import TINY, block_scan

GOOD = {"real3d": "good", "shapenet": "positive"}
TRUTH = {"real3d": "gt", "shapenet": "GT"}


def write_class(folder, layout: str, seed: int) -> None:
    """Blocks in a data set's layout: two templates, three good test scans and three dented ones."""
    for name in ("train", "test", TRUTH[layout]):
        (folder / name).mkdir(parents=True)
    for i in range(2):
        np.savetxt(folder / "train" / f"{folder.name}_template{i}.txt", block_scan(seed + i))
    for i in range(3):
        np.savetxt(folder / "test" / f"{folder.name}_{GOOD[layout]}{i}.txt", block_scan(seed + 10 + i))
        dented, whole = block_scan(seed + 20 + i, dent=3.0), block_scan(seed + 20 + i)
        np.savetxt(folder / "test" / f"{folder.name}_dent{i}.txt", dented)
        labels = np.abs(dented - whole).max(1) > 1
        np.savetxt(folder / TRUTH[layout] / f"{folder.name}_dent{i}.txt", np.column_stack([dented, labels]))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    root = tmp_path_factory.mktemp("sets")
    for layout in GOOD:
        for i, name in enumerate(("block0", "block1")):
            write_class(root / layout / name, layout, 100 * i)
    return root


@pytest.fixture
def sets(made, tmp_path, monkeypatch):
    """Both data sets, and a schedule of a second."""
    torch.set_num_threads(1)
    monkeypatch.setattr(run, "QUICK", dict(TINY))
    monkeypatch.setitem(run.EVERY, True, 2)
    return dict(real3d=made / "real3d", shapenet=made / "shapenet", out=tmp_path / "out", quick=True)


PAPER_ONLY = {
    "table1": ("r3dad-paper",),
    "table2": ("r3dad-paper",),
    "table7": ("r3dad-paper",),
    "fig4": ("r3dad-paper",),
}


@pytest.mark.parametrize("name", NAMES)
def test_every_table_runs_and_is_written(sets, name):
    if name in ("fig4", "fig6"):
        pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra r3dad[plots])")
    classes = ("block0",) if name in ("table3", "table4") else None  # the others take both
    made = reproduce(name, Run(**sets, methods=PAPER_ONLY.get(name), classes=classes))
    assert made.rows and not made.skipped
    with (sets["out"] / f"{name}.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(made.rows)
    assert json.loads((sets["out"] / f"{name}.json").read_text())["rows"] == json.loads(json.dumps(made.rows))
    text = (sets["out"] / f"{name}.md").read_text()
    assert (
        "Data: real3d layout, folder real3d, block0" in text or "Data: shapenet layout, folder shapenet, block0" in text
    )
    assert "Schedule: quick schedule" in text or "Schedule: r3dad-paper: quick schedule" in text
    assert "times less than the paper's" in text or name == "table5"
    for plot in made.plots:
        from PIL import Image

        colours = Image.open(sets["out"] / plot).convert("RGB").getcolors(1 << 24)
        assert len(colours) > 20  # points, words and lines


def test_the_papers_figures_stand_beside_ours(sets):
    made = reproduce("table3", Run(**sets))
    means = {row["model"][0]: row for row in made.rows if row["class"] == "mean"}
    assert {m: (row["paper O"], row["paper P"]) for m, row in means.items()} == {
        "A": (0.586, 0.524),
        "B": (0.667, 0.513),
        "C": (0.712, 0.573),
        "D": (0.734, 0.592),
    }
    for row in means.values():
        assert row["difference O"] == pytest.approx(row["O-AUROC"] - row["paper O"])
    assert all(row["paper O"] == table.NOT_AT_HAND for row in made.rows if row["class"] != "mean")


def test_mean_row_is_the_mean_of_classes_and_seeds(sets):
    made = reproduce("table7", Run(**sets, methods=("r3dad-paper",), seeds=(0, 1)))
    last = [row for row in made.rows if row["protocol"] == "last"]
    assert [row["class"] for row in last] == ["block0", "block1", "mean"] and {row["seeds"] for row in last} == {2}
    assert last[2]["O-AUROC"] == pytest.approx((last[0]["O-AUROC"] + last[1]["O-AUROC"]) / 2)
    grouped = reproduce("table2", Run(**sets, methods=("r3dad-paper",), seeds=(0, 1)))
    last = [row for row in grouped.rows if row["protocol"] == "last"]
    assert [row["class"] for row in last] == ["block", "mean"]
    assert last[0]["O-AUROC"] == last[1]["O-AUROC"] == pytest.approx(made.rows[2]["O-AUROC"])


def test_what_is_done_is_kept_and_an_interrupted_run_goes_on(sets, monkeypatch):
    first = reproduce("table1", Run(**sets, methods=("r3dad-paper",), classes=("block0",)))
    trained = []
    monkeypatch.setattr(protocols, "train", lambda *a, **k: trained.append(1))
    again = reproduce("table1", Run(**sets, methods=("r3dad-paper",), classes=("block0",)))
    assert again.rows == first.rows and not trained


def test_interrupted_between_evaluations_gives_the_same(sets, monkeypatch):
    item = list_classes(sets["real3d"], "real3d", ["block0"])[0]

    def unit(name):
        return protocols.Watched(item, 0, {**TINY, "seed": 1}, 1, sets["out"] / name, "cpu")

    whole = unit("whole.json").run()
    evaluated = protocols._evaluated
    calls = []

    def stops(recipe, tests):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluated(recipe, tests)

    monkeypatch.setattr(protocols, "_evaluated", stops)
    with pytest.raises(KeyboardInterrupt):
        unit("part.json").run()
    assert len(json.loads((sets["out"] / "part.json").read_text())["evaluations"]) == 1
    resumed = unit("part.json").run()
    assert len(calls) == 2 + 2  # the first evaluation is not done again
    for protocol in protocols.PROTOCOLS:
        timeless = [{k: v for k, v in found[protocol].items() if "seconds" not in k} for found in (whole, resumed)]
        assert timeless[0] == timeless[1]


def test_last_is_what_evaluate_gives(sets):
    from r3dad.evaluate import run_class

    item = list_classes(sets["real3d"], "real3d", ["block0"])[0]
    ours = protocols.watched(Run(**sets), item, 1, "real3d").run()["last"]
    theirs = run_class(item, "r3dad-paper", seed=1, settings=dict(TINY), out=sets["out"] / "cells", device="cpu")
    for name in ("o_auroc", "p_auroc", "aupro", "o_ap"):
        assert ours[name] == theirs[name]


def test_best_epoch_takes_the_best_of_each_figure():
    def figures(o, p):
        return {
            **dict.fromkeys(protocols.FIGURES, 0.5),
            "o_auroc": o,
            "p_auroc": p,
            "seconds_per_scan": 1.0,
            "scans": [],
        }

    found = protocols.by_protocol({1000: figures(0.9, 0.4), 3000: figures(0.6, 0.7), 2000: figures(None, 0.8)})
    assert (found["last"]["o_auroc"], found["last"]["p_auroc"]) == (0.6, 0.7)
    assert (found["paper-best-epoch"]["o_auroc"], found["paper-best-epoch"]["p_auroc"]) == (0.9, 0.8)
    assert found["evaluations"] == 3


def test_both_protocols_and_what_selection_is_worth_are_printed(sets):
    made = reproduce("table1", Run(**sets, methods=("r3dad-paper",)))
    last, best = (next(r for r in made.rows if (r["protocol"], r["class"]) == (p, "mean")) for p in protocols.PROTOCOLS)
    assert best["O-AUROC"] >= last["O-AUROC"] and best["P-AUROC"] >= last["P-AUROC"]
    assert "95 % interval" not in best
    gain = f"{best['O-AUROC'] - last['O-AUROC']:+.3f} O-AUROC"
    assert any("is worth" in note and gain in note for note in made.notes)


def test_interval_of_a_known_case():
    perfect = [{"good": i < 5, "score": float(i)} for i in range(10)]
    assert set(rows.draws([perfect, perfect])) == {1.0}
    mixed = [{"good": i % 2 == 0, "score": float(i)} for i in range(40)]
    drawn = rows.draws([mixed])
    assert drawn.mean() == pytest.approx(0.525, abs=0.01)  # AUROC of the whole: (20 * 21 / 2) / 400
    assert 0.05 < drawn.std() < 0.13  # Hanley and McNeil (1982): 0.093


def test_chamfer_and_psnr_of_known_clouds():
    grid = torch.cartesian_prod(*[torch.arange(4.0)] * 3)
    assert chamfer(grid[None], grid[None]) == 0
    assert chamfer(grid[None], grid[None] + torch.tensor([0.1, 0, 0])) == pytest.approx(2 * 0.01, rel=1e-4)
    assert psnr(grid + torch.tensor([0.1, 0, 0]), Nearest(grid), 10.0) == pytest.approx(40.0, abs=1e-3)


def test_oracle_and_transfer_are_the_same_model_on_other_scans(sets):
    made = reproduce("table6", Run(**sets))
    names = [row["train -> test"] for row in made.rows]
    assert names[:4] == ["shapenet -> real3d", "oracle shapenet", "real3d -> shapenet", "oracle real3d"]
    assert names[4:] == ["block0 -> block1", "oracle block1"]
    assert len(list((sets["out"] / "table6").glob("*.safetensors"))) == 4
    assert all(row["Chamfer"] > 0 for row in made.rows)
    fewer = reproduce("table6", Run(**sets, classes=("block1",)))  # other units, beside those that are there
    assert [row["train -> test"] for row in fewer.rows] == names[:4]


def test_the_papers_bowls_are_found_among_other_classes(sets, tmp_path):
    for i, name in enumerate(("ashtray0", *BOWLS, "bowl5")):
        write_class(tmp_path / "many" / name, "shapenet", 100 * i)
    made = reproduce("table6", Run(**{**sets, "shapenet": tmp_path / "many"}))
    found = {row["train -> test"]: row for row in made.rows}
    assert found["bowl0..bowl3 -> bowl4"]["paper"] == 0.715 and "oracle bowl4" in found


@pytest.fixture
def damaged(sets, tmp_path):
    """Five classes, four of them unusable, each in its own way."""
    root = tmp_path / "damaged"
    for i, name in enumerate(("fine0", "nogood0", "nolabels0", "notrain0", "short0")):
        write_class(root / name, "real3d", 100 * i)
    for file in (root / "nogood0" / "test").glob("*good*"):
        file.unlink()
    (root / "nolabels0" / "gt" / "nolabels0_dent1.txt").unlink()
    for file in (root / "notrain0" / "train").iterdir():
        file.unlink()
    short = root / "short0" / "gt" / "short0_dent2.txt"
    short.write_text("\n".join(short.read_text().splitlines()[:-7]) + "\n")
    return {**sets, "real3d": root}


@pytest.mark.parametrize("name", ["table1", "table3", "table5", "table6"])
def test_bad_classes_are_named_and_the_others_run_on(damaged, name):
    made = reproduce(name, Run(**damaged, methods=("r3dad-paper",)))
    assert made.rows
    reasons = "\n".join(made.remarks())
    for words in (
        "class nogood0: ",
        "no good test scans",
        "class nolabels0: ",
        "no label file nolabels0_dent1.txt",
        "class notrain0: ",
    ):
        assert words in reasons
    if name != "table6":  # it takes no labels of points
        assert "class short0: " in reasons and "short0_dent2.txt: expected 600 labels" in reasons
        assert {row["class"] for row in made.rows} <= {"fine0", "block0", "block1", "mean"}
    assert all("\n" not in reason for reason in made.skipped)


def test_nothing_to_run_is_one_line(sets, tmp_path):
    with pytest.raises(InputError, match="--real3d: not given; this table needs"):
        reproduce("table1", Run(out=tmp_path))
    with pytest.raises(InputError, match="nowhere: cannot be listed"):
        reproduce("table1", Run(out=tmp_path, real3d=tmp_path / "nowhere"))
    with pytest.raises(InputError, match="'table9' is unknown: expected one of table1"):
        reproduce("table9", Run(**sets))
    with pytest.raises(InputError, match="method resnet: unknown; expected some of r3dad"):
        reproduce("table1", Run(**sets, methods=("resnet",)))
    with pytest.raises(InputError, match="no class nothing0"):
        reproduce("table1", Run(**sets, classes=("nothing0",)))


def test_results_of_other_settings_are_not_mixed_in(sets, monkeypatch):
    reproduce("table1", Run(**sets, methods=("r3dad-paper",), classes=("block0",)))
    monkeypatch.setattr(run, "QUICK", {**TINY, "iterations": 2})
    with pytest.raises(InputError, match="results of other settings"):
        reproduce("table1", Run(**sets, methods=("r3dad-paper",), classes=("block0",)))


def test_command_line(sets):
    from r3dad.cli import app

    arguments = ["reproduce", "table1", "--real3d", str(sets["real3d"]), "--out", str(sets["out"]), "--quick"]
    arguments += ["--methods", "r3dad-paper", "--classes", "block0"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "paper-best-epoch" in done.stdout and "0.734" in done.stdout and "is worth" in done.stdout
    assert (sets["out"] / "quick" / "table1.md").exists()
    for wrong, words in (
        (["--set", "steps=3"], "expected METHOD.NAME=VALUE"),
        (["--set", "r3dad-paper.steps=3"], "results of other settings"),
        (["--seeds", "a"], "--seeds a"),
        (["--protocol", "best"], "--protocol best"),
    ):
        assert words in str(CliRunner().invoke(app, [*arguments, *wrong]).exception)


@pytest.mark.slow
def test_ray_gives_the_same_table(sets, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed (extra r3dad[ray])")
    here = reproduce("table3", Run(**sets))
    shutil.move(sets["out"], tmp_path / "local")
    there = reproduce("table3", Run(**sets, engine="ray"))

    def timeless(made):
        return [{k: v for k, v in row.items() if k != "s/scan"} for row in made.rows]

    assert timeless(there) == timeless(here)


def test_evaluate_takes_the_protocol(sets):
    from r3dad.cli import app

    arguments = ["evaluate", str(sets["real3d"]), "--out", str(sets["out"]), "--protocol", "paper-best-epoch"]
    assert "add --method r3dad-paper" in str(CliRunner().invoke(app, arguments).exception)
    arguments += ["--method", "r3dad-paper", "--every", "1", "--classes", "block0"]
    for name, value in TINY.items():
        arguments += ["--set", f"{name}={json.dumps(value)}"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout.index("protocol last") < done.stdout.index("protocol paper-best-epoch")
    (kept,) = (sets["out"] / "r3dad-paper-watched" / "seed0").glob("*.json")
    assert len(json.loads(kept.read_text())["evaluations"]) == TINY["iterations"]


def test_finished_runs_are_taken_over_without_the_data(sets, tmp_path):
    from r3dad.evaluate import run_class

    what = {"methods": ("btf-fpfh",), "classes": ("block0",)}
    here = reproduce("table1", Run(**{**sets, "quick": False}, **what))
    run_class(list_classes(sets["real3d"], "real3d", ["block0"])[0], "btf-fpfh", out=tmp_path / "runs", device="cpu")
    there = reproduce("table1", Run(out=tmp_path / "out", results=tmp_path / "runs"))

    def figures(made):
        return [{k: v for k, v in row.items() if k != "s/scan"} for row in made.rows]

    assert figures(there) == figures(here)
    assert there.data == "folder runs, block0" and "finished runs" in there.schedule
    with pytest.raises(InputError, match="no <method>/seed<k>/<class>/figures.json"):
        reproduce("table1", Run(out=tmp_path / "out", results=tmp_path / "runs", methods=("imrnet",)))


def test_methods_that_cannot_run_are_named_with_the_reason(sets):
    made = reproduce("table1", Run(**sets, methods=("cpmf-resnet", "btf-fpfh"), classes=("block0",)))
    assert {row["method"] for row in made.rows} == {"btf-fpfh"}
    assert any("skipped block0 cpmf-resnet seed 0: " in line and "weights" in line for line in made.remarks())


def test_a_schedule_that_is_not_the_papers_says_so(sets):
    changed = Run(**{**sets, "quick": False}, settings={"r3dad-paper": {"iterations": 400}}, every=50)
    words = run.paper_words(changed, "real3d")
    assert "schedule as set, 100 times less than the paper's" in words and "evaluated every 50" in words
    assert "less than the paper's" not in run.paper_words(Run(**{**sets, "quick": False}), "real3d")
