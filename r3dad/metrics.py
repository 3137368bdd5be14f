"""How well scores tell defective from good: scikit-learn's figures, undefined ones as None."""

from __future__ import annotations

import numpy as np


def auroc(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Area under the ROC curve; labels [n] bool, scores [n]. None where only one of the two kinds is present."""
    from sklearn.metrics import roc_auc_score

    return float(roc_auc_score(labels, scores)) if _both(labels) else None


def average_precision(labels: np.ndarray, scores: np.ndarray) -> float | None:
    """Average precision; labels [n] bool, scores [n]. None where only one of the two kinds is present."""
    from sklearn.metrics import average_precision_score

    return float(average_precision_score(labels, scores)) if _both(labels) else None


def _both(labels: np.ndarray) -> bool:
    return bool(np.any(labels)) and not bool(np.all(labels))


def summary(
    scan_labels: list[bool], scan_scores: list[float], point_labels: list[np.ndarray], point_scores: list[np.ndarray]
) -> dict[str, float | None]:
    """The four figures of a class: O- over scans, P- over the points of all scans pooled.

    Args:
        scan_labels, scan_scores: per scan. point_labels, point_scores: per scan [M_i].
    """
    labels, scores = np.array(scan_labels), np.array(scan_scores)
    points, values = np.concatenate(point_labels), np.concatenate(point_scores)
    return {
        "o_auroc": auroc(labels, scores),
        "p_auroc": auroc(points, values),
        "o_ap": average_precision(labels, scores),
        "p_ap": average_precision(points, values),
    }
