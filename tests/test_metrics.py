"""Figures: scikit-learn's to six digits, those it lacks against their definitions."""

import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from r3dad import metrics


def drawn(seed: int, count: int = 500, ties: bool = True) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.2
    scores = rng.normal(size=count) + labels
    return labels, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scikit_learn(seed, ties):
    labels, scores = drawn(seed, ties=ties)
    assert metrics.auroc(labels, scores) == pytest.approx(roc_auc_score(labels, scores), abs=1e-6)
    assert metrics.average_precision(labels, scores) == pytest.approx(average_precision_score(labels, scores), abs=1e-6)
    best = max(f1_score(labels, scores >= t) for t in np.unique(scores))
    assert metrics.f1_max(labels, scores) == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("figure", [metrics.auroc, metrics.average_precision, metrics.f1_max])
def test_one_kind_only_is_undefined(figure):
    assert figure(np.zeros(4, bool), np.arange(4.0)) is None
    assert figure(np.ones(4, bool), np.arange(4.0)) is None


def plane(seed: int = 0) -> np.ndarray:
    grid = np.stack(np.meshgrid(np.arange(30.0), np.arange(30.0)), -1).reshape(-1, 2)
    return np.column_stack([grid, np.zeros(len(grid))]) + np.random.default_rng(seed).normal(0, 0.05, (900, 3))


def two_patches(points: np.ndarray) -> np.ndarray:
    return (np.linalg.norm(points[:, :2] - 7, axis=1) < 4) | (np.linalg.norm(points[:, :2] - 22, axis=1) < 2.5)


def test_regions_are_what_hangs_together():
    points = plane()
    labels = two_patches(points)
    found = metrics.regions(points, labels)
    assert (found[~labels] == -1).all() and sorted(set(found[labels])) == [0, 1]
    first = np.linalg.norm(points[labels, :2] - 7, axis=1) < 4
    assert len(set(found[labels][first])) == len(set(found[labels][~first])) == 1
    assert (metrics.regions(points, np.zeros(900, bool)) == -1).all()


def brute_aupro(region: list[np.ndarray], scores: list[np.ndarray], limit: float) -> float:
    """The definition, threshold by threshold, on a fine grid of false positive rates."""
    values = np.unique(np.concatenate(scores))[::-1]
    good = np.concatenate([s[r < 0] for r, s in zip(region, scores)])
    rate, overlap = [0.0], [0.0]
    for t in values:
        rate.append((good >= t).mean())
        each = [(s[r == k] >= t).mean() for r, s in zip(region, scores) for k in range(r.max() + 1)]
        overlap.append(float(np.mean(each)))
    grid = np.linspace(0, limit, 200_001)
    return float(np.trapezoid(np.interp(grid, rate, overlap), grid) / limit)


@pytest.mark.parametrize("digits", [1, 6])
def test_aupro_is_its_definition(digits):
    rng = np.random.default_rng(0)
    region, scores = [], []
    for i in range(3):
        points = plane(i)
        labels = two_patches(points) if i else np.zeros(900, bool)
        region.append(metrics.regions(points, labels))
        scores.append(np.round(rng.normal(size=900) + 1.5 * labels, digits))
    # a step of the curve is a jump in the grid's interpolation, so ties are compared less sharply
    assert metrics.aupro(region, scores) == pytest.approx(brute_aupro(region, scores, 0.3), abs=1e-4)


def test_aupro_of_perfect_and_blind_scores():
    points = plane()
    region = [metrics.regions(points, two_patches(points))]
    assert metrics.aupro(region, [(region[0] >= 0).astype(float)]) == pytest.approx(1.0)
    assert metrics.aupro(region, [np.zeros(900)]) == pytest.approx(0.15)  # the diagonal: half of 0.3 * 0.3, over 0.3
    assert metrics.aupro([np.full(9, -1)], [np.arange(9.0)]) is None


def scans(seed: int, count: int, size: int) -> tuple:
    rng = np.random.default_rng(seed)
    bad = [i % 2 == 1 for i in range(count)]
    points = [rng.random((size, 3)) for _ in bad]
    labels = [(p[:, 0] < 0.1) & b for p, b in zip(points, bad)]
    values = [rng.normal(size=size) + 2 * y for y in labels]
    return bad, [float(rng.normal() + b) for b in bad], points, labels, values


def test_summary_has_all_figures_and_intervals_about_them():
    given = scans(0, 20, 400)
    found = metrics.summary(*given)
    assert set(found) == {*metrics.FIGURES, "intervals"}
    pooled, values = np.concatenate(given[3]), np.concatenate(given[4])
    assert found["p_auroc"] == pytest.approx(roc_auc_score(pooled, values), abs=1e-6)
    within = [roc_auc_score(y, s) for y, s in zip(given[3], given[4]) if y.any()]
    assert found["p_auroc_scan"] == pytest.approx(np.mean(within), abs=1e-6)
    for name in metrics.FIGURES:
        low, high = found["intervals"][name]
        assert low <= found[name] <= high and high - low < 0.6, name
    assert metrics.summary(*given) == found
    assert metrics.summary(*given, seed=1)["intervals"] != found["intervals"]


def test_intervals_are_those_of_resampling_scan_by_scan():
    bad, scores, points, labels, values = scans(3, 16, 300)
    low, high = metrics.summary(bad, scores, points, labels, values)["intervals"]["p_ap"]
    rng = np.random.default_rng(5)
    kinds = [np.flatnonzero(np.array(bad) == kind) for kind in (True, False)]
    plain = []
    for _ in range(400):
        taken = np.concatenate([rng.choice(k, len(k)) for k in kinds])
        plain.append(
            average_precision_score(
                np.concatenate([labels[i] for i in taken]), np.concatenate([values[i] for i in taken])
            )
        )
    assert [low, high] == pytest.approx(np.quantile(plain, (0.025, 0.975)), abs=0.015)


def test_undefined_figures_have_no_interval():
    bad, scores, points, labels, values = scans(0, 4, 200)
    good = [i for i, b in enumerate(bad) if not b]
    found = metrics.summary(*([x[i] for i in good] for x in (bad, scores, points, labels, values)))
    assert all(found[name] is None for name in metrics.FIGURES) and found["intervals"] == {}


@pytest.mark.slow
def test_a_million_points_take_seconds():
    given = scans(0, 20, 50_000)
    started = time.perf_counter()
    metrics.summary(*given)
    assert time.perf_counter() - started < 30
