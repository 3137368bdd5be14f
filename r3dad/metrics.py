"""How well scores tell defective from good: scikit-learn's figures, and those it lacks; undefined ones are None.

O-figures are over scans, P-figures over points. Intervals are 95 % percentile bootstraps over scans.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FIGURES = ("o_auroc", "p_auroc", "p_auroc_scan", "o_ap", "p_ap", "aupro", "o_f1max", "p_f1max")
FPR_LIMIT = 0.3
"""AUPRO is integrated up to this false positive rate (MVTec 3D-AD)."""
GRAPH = 8
"""Neighbours of a point in the graph whose connected labelled points are a region."""
RESAMPLES = 1000
BINS = 2048
"""Ranks that the scores of points are rounded to for the intervals; the figures themselves are exact."""


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; labels [n] bool, scores [n]. None where only one of the two kinds is present."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if _both(labels) else None


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Average precision; labels [n] bool, scores [n]. None where only one of the two kinds is present."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores)) if _both(labels) else None


def f1_max(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Largest F1 over all thresholds; labels [n] bool, scores [n]. None where only one of the two kinds is present."""
    from sklearn.metrics import precision_recall_curve

    if not _both(labels):
        return None
    precision, recall, _ = precision_recall_curve(labels, scores)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def _both(labels: np.ndarray) -> bool:
    return bool(np.any(labels)) and not bool(np.all(labels))


def regions(points: np.ndarray, labels: np.ndarray, neighbours: int = GRAPH) -> np.ndarray:
    """Defects of a scan: [M] number of the region of each labelled point from 0, -1 for the others.

    A region is a connected component of the labelled points, joined where one is among the other's nearest ``neighbours``.

    Args:
        points: [M, 3]. labels: [M] bool.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    found = np.full(len(points), -1)
    marked = np.flatnonzero(labels)
    if len(marked):
        near = cKDTree(points).query(points[marked], k=min(neighbours + 1, len(points)))[1].reshape(len(marked), -1)
        start = np.repeat(np.arange(len(marked)), near.shape[1])
        place = np.full(len(points), -1)
        place[marked] = np.arange(len(marked))
        end = place[near.ravel()]
        both = end >= 0
        graph = coo_matrix((np.ones(both.sum()), (start[both], end[both])), shape=(len(marked), len(marked)))
        found[marked] = connected_components(graph, directed=False)[1]
    return found


def aupro(region: Sequence[np.ndarray], scores: Sequence[np.ndarray], limit: float = FPR_LIMIT) -> float | None:
    """Area under the per-region overlap curve up to a false positive rate of ``limit``, divided by it (Bergmann et al. 2021, eq. 2).

    The overlap at a threshold is the mean, over the regions of all scans, of the share of a region's points above it; the false
    positive rate is the share of all other points above it.

    Args:
        region: per scan [M_i], as :func:`regions` gives it. scores: per scan [M_i].
    """
    shares = np.concatenate([_shares(r) for r in region])
    good = np.concatenate([r < 0 for r in region])
    if not good.any() or good.all():
        return None
    values = np.concatenate(list(scores))
    order = np.argsort(-values, kind="stable")
    last = np.flatnonzero(np.append(np.diff(values[order]) != 0, True))  # of the points of equal score
    overlap = np.append(0, np.cumsum(shares[order])[last] / shares.sum())
    rate = np.append(0, np.cumsum(good[order])[last] / good.sum())
    return float(_area(rate[None], overlap[None], limit)[0])


def _shares(region: np.ndarray) -> np.ndarray:
    """What each point [M] is of its region: one over the region's size, 0 for points of none."""
    size = np.bincount(region[region >= 0], minlength=1)
    return np.where(region >= 0, 1 / np.maximum(size[region], 1), 0.0)


def _area(rate: np.ndarray, overlap: np.ndarray, limit: float) -> np.ndarray:
    """Area under overlap [n, m] over rate [n, m] (ascending from 0) up to ``limit``, over ``limit``: [n]."""
    width = np.diff(rate, axis=1)
    within = np.clip(limit - rate[:, :-1], 0, width)
    share = within / np.maximum(width, 1e-300)
    end = overlap[:, :-1] + share * np.diff(overlap, axis=1)
    return (0.5 * (overlap[:, :-1] + end) * within).sum(1) / limit


def summary(
    scan_labels: Sequence[bool],
    scan_scores: Sequence[float],
    points: Sequence[np.ndarray],
    point_labels: Sequence[np.ndarray],
    point_scores: Sequence[np.ndarray],
    seed: int = 0,
) -> dict:
    """All figures of a class and their intervals.

    Args:
        scan_labels, scan_scores: per scan, True is defective. points: per scan [M_i, 3]. point_labels, point_scores: per scan [M_i].
        seed: of the resamples.

    Returns:
        ``FIGURES`` (P-figures over the points of all scans pooled; ``p_auroc_scan``: mean over the defective scans of the AUROC
        within the scan), and ``intervals``: of each defined figure its (low, high).
    """
    labels, scores = np.asarray(scan_labels, bool), np.asarray(scan_scores, float)
    pooled, values = np.concatenate(list(point_labels)), np.concatenate(list(point_scores))
    region = [regions(p, y) for p, y in zip(points, point_labels)]
    within = [auroc(y, s) for y, s in zip(point_labels, point_scores)]
    known = [w for w in within if w is not None]
    found = {
        "o_auroc": auroc(labels, scores),
        "p_auroc": auroc(pooled, values),
        "p_auroc_scan": float(np.mean(known)) if known else None,
        "o_ap": average_precision(labels, scores),
        "p_ap": average_precision(pooled, values),
        "aupro": aupro(region, point_scores),
        "o_f1max": f1_max(labels, scores),
        "p_f1max": f1_max(pooled, values),
    }
    drawn = _resampled(labels, scores, region, point_labels, point_scores, within, seed)
    drawn = {name: drawn[name] for name in FIGURES if found[name] is not None}
    return {**found, "intervals": {name: np.quantile(v, (0.025, 0.975)).tolist() for name, v in drawn.items()}}


def _resampled(
    labels: np.ndarray,
    scores: np.ndarray,
    region: list[np.ndarray],
    point_labels: Sequence[np.ndarray],
    point_scores: Sequence[np.ndarray],
    within: list[float | None],
    seed: int,
) -> dict[str, np.ndarray]:
    """Figures of ``RESAMPLES`` resamples of the scans, good and defective ones apart; scores of points rounded to ``BINS`` ranks."""
    rng = np.random.default_rng(seed)
    times = np.zeros((RESAMPLES, len(labels)))
    for kind in (True, False):
        which = np.flatnonzero(labels == kind)
        if len(which):
            times[:, which] = rng.multinomial(len(which), np.full(len(which), 1 / len(which)), RESAMPLES)
    rank = np.unique(scores, return_inverse=True)[1]
    count = np.eye(rank.max() + 1)[rank]  # [scans, ranks]
    o = _curve(times @ (count * labels[:, None]), times @ (count * ~labels[:, None]))
    edges = np.unique(np.quantile(np.concatenate(list(point_scores)), np.linspace(0, 1, BINS + 1)[1:-1]))
    where = [np.searchsorted(edges, s, side="right") for s in point_scores]

    def table(weights: Sequence[np.ndarray]) -> np.ndarray:
        return times @ np.stack([np.bincount(w, v, len(edges) + 1) for w, v in zip(where, weights)])

    bad, good = table(point_labels), table([~np.asarray(y) for y in point_labels])
    p = _curve(bad, good)
    shares = table([_shares(r) for r in region])
    rate, overlap = (np.cumsum(v[:, ::-1], 1) / np.maximum(v.sum(1), 1e-300)[:, None] for v in (good, shares))
    start = np.zeros((RESAMPLES, 1))
    inside = np.array([np.nan if w is None else w for w in within])
    known = times * ~np.isnan(inside)
    return {
        **{f"o_{name}": v for name, v in o.items()},
        **{f"p_{name}": v for name, v in p.items()},
        "aupro": _area(np.hstack([start, rate]), np.hstack([start, overlap]), FPR_LIMIT),
        "p_auroc_scan": known @ np.nan_to_num(inside) / np.maximum(known.sum(1), 1),
    }


def _curve(bad: np.ndarray, good: np.ndarray) -> dict[str, np.ndarray]:
    """AUROC, AP and F1-max of weighted counts per rank [n, ranks], ascending scores: [n] each."""
    found = np.cumsum(bad[:, ::-1], 1)
    alarms = np.cumsum(good[:, ::-1], 1)
    step = np.diff(found, axis=1, prepend=0)
    total = np.maximum(found[:, -1:], 1e-300)
    below = alarms[:, -1:] - alarms
    ties = np.diff(alarms, axis=1, prepend=0)
    precision = found / np.maximum(found + alarms, 1e-300)
    return {
        "auroc": (step * (below + 0.5 * ties)).sum(1) / (total[:, 0] * np.maximum(alarms[:, -1], 1e-300)),
        "ap": (step * precision).sum(1) / total[:, 0],
        "f1max": (2 * found / (found + alarms + total)).max(1),
    }
