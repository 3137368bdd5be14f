"""Tables and Fig. 4 of finished runs with known figures: published ones beside ours, classes as a table, methods that lack classes."""

from __future__ import annotations

import json
import shutil

import pytest

from r3dad.errors import InputError
from r3dad.reproduce import Run, reproduce


@pytest.fixture
def runs(tmp_path):
    """What `r3dad evaluate` leaves of two methods, the second without block1; figures that are known."""
    for method, seconds, classes in (
        ("btf-raw", 0.5, {"block0": 0.9, "block1": 0.7}),
        ("imrnet", 2.0, {"block0": 0.6}),
    ):
        for name, o_auroc in classes.items():
            folder = tmp_path / "runs" / method / "seed0" / name
            folder.mkdir(parents=True)
            figures = {
                "o_auroc": o_auroc,
                "p_auroc": 0.8,
                "aupro": 0.3,
                "seconds_per_scan": seconds,
                "fit_seconds": 7.0,
            }
            figures |= {"memory_bank_mb": 1.5, "model_mb": 0.0, "peak_mb": 700.0, "note": ""}
            (folder / "figures.json").write_text(json.dumps({"config": {"settings": {}}, "figures": figures}))
    return Run(out=tmp_path / "out", results=tmp_path / "runs")


def test_published_rivals_stand_beside_ours(runs):
    for name, paper in (("table1", (0.635, 0.571)), ("table2", (0.493, 0.550)), ("table7", (0.493, 0.550))):
        made = reproduce(name, runs)
        row = next(row for row in made.rows if (row["method"], row["class"]) == ("btf-raw", "mean"))
        assert (row["O-AUROC"], row["paper O"], row["paper P"]) == (pytest.approx(0.8), *paper)
        assert (row["difference O"], row["difference P"]) == (
            pytest.approx(0.8 - paper[0]),
            pytest.approx(0.8 - paper[1]),
        )
        assert any("lacking: imrnet (block1)" in note for note in made.notes)


def test_the_classes_are_a_table_of_their_own(runs):
    means, o, p = reproduce("table1", runs).parts()
    assert "class" not in means.columns and [line[0] for line in means.cells] == ["btf-raw", "imrnet"]
    assert o.columns == ("class", "btf-raw", "imrnet") and o.title == "O-AUROC of every class"
    assert o.cells == [["block0", "0.900", "0.600"], ["block1", "0.700", "-"], ["mean", "0.800", "0.600"]]
    assert p.cells[0] == ["block0", "0.800", "0.800"]


def test_fig4_compares_over_the_classes_that_all_methods_have(runs):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra r3dad[plots])")
    made = reproduce("fig4", runs)
    found = {row["method"]: (row["classes"], row["O-AUROC"], row["FPS"], row["bank MB"]) for row in made.rows}
    assert found == {"btf-raw": (1, 0.9, 2.0, 1.5), "imrnet": (1, 0.6, 0.5, 1.5)}
    assert made.notes[0].startswith("Left out") and "block1" in made.notes[0]
    shutil.rmtree(runs.results / "btf-raw" / "seed0" / "block0")
    with pytest.raises(InputError, match="no class that all of btf-raw, imrnet have"):
        reproduce("fig4", runs)
