"""Scores of multi-label predictions, over a whole split at once, never averaged over batches.

Macro averages run over the classes that have a positive in the split; which have none is reported, since
libraries drop them silently or count them as zero.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import metrics

Labels = NDArray[np.uint8]
Predictions = NDArray[np.float32]

_BINS = 15


def per_class_ap(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """Return average precision of each class (C,), NaN for a class without a positive.

    Args:
        labels: (N, C), 0 or 1.
        predictions: (N, C), higher is more certain.
    """
    found = np.full(labels.shape[1], np.nan)
    for place in np.flatnonzero(labels.any(0)):
        found[place] = metrics.average_precision_score(labels[:, place], predictions[:, place])
    return found


def choose_thresholds(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """Return the threshold of each class (C,) that gives the best F1 on the *validation* split.

    A class without a positive keeps 0.5.
    """
    thresholds = np.full(labels.shape[1], 0.5)
    for place in np.flatnonzero(labels.any(0)):
        precision, recall, cuts = metrics.precision_recall_curve(labels[:, place], predictions[:, place])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        thresholds[place] = cuts[f1[:-1].argmax()]
    return thresholds


def calibration_error(labels: Labels, predictions: Predictions) -> float:
    """Return the expected calibration error, in [0, 1]: |mean score - share of positives| over 15 bins.

    Every (patch, class) pair counts once; bins of equal width weigh by how many pairs they hold
    (Guo et al. 2017, arXiv:1706.04599, for binary events).
    """
    bins = np.minimum((predictions.ravel() * _BINS).astype(int), _BINS - 1)
    count = np.bincount(bins, minlength=_BINS)
    score = np.bincount(bins, predictions.ravel().astype(np.float64), _BINS)
    positive = np.bincount(bins, labels.ravel().astype(np.float64), _BINS)
    return float(np.abs(score - positive).sum() / count.sum())


def ranking_precision(labels: Labels, predictions: Predictions) -> float:
    """Return label ranking average precision, in [0, 1]: over patches, the mean precision at its labels.

    The same as scikit-learn's ``label_ranking_average_precision_score`` (Tsoumakas et al. 2010, "Mining
    multi-label data"), but of all patches at once: that one takes patch after patch.
    """
    carried = labels.astype(bool)
    worse = -predictions.astype(np.float64)
    rank = rankdata(worse, "max", axis=1)
    among = rankdata(np.where(carried, worse, np.inf), "max", axis=1)  # of the labels that the patch carries
    count = carried.sum(1)
    precision = np.where(carried, among / rank, 0.0).sum(1) / np.maximum(count, 1)
    # where no label is carried, or all are, any ranking is right
    return float(np.where((count == 0) | (count == labels.shape[1]), 1.0, precision).mean())


def scores(
    labels: Labels, predictions: Predictions, thresholds: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Return every metric of a split, each in [0, 1] but for ``coverage_error`` (labels).

    Args:
        labels: (N, C), 0 or 1.
        predictions: (N, C) in [0, 1].
        thresholds: (C,) chosen on validation; 0.5 when left out.

    Raises:
        ValueError: when shapes differ or a prediction is not finite.
    """
    if labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} differ in shape")
    if not np.isfinite(predictions).all():
        raise ValueError("predictions hold NaN or infinity: did training diverge?")
    decided = (predictions >= (0.5 if thresholds is None else thresholds)).astype(np.uint8)
    present = labels.any(0)
    return {
        "ap_macro": float(np.nanmean(per_class_ap(labels, predictions))) if present.any() else np.nan,
        "ap_micro": float(metrics.average_precision_score(labels.ravel(), predictions.ravel())),
        "f1_macro": float(
            metrics.f1_score(labels[:, present], decided[:, present], average="macro", zero_division=0)
        ),
        "f1_micro": float(metrics.f1_score(labels, decided, average="micro", zero_division=0)),
        "lrap": ranking_precision(labels, predictions),
        "coverage_error": float(metrics.coverage_error(labels, predictions)),
        "hamming": float(metrics.hamming_loss(labels, decided)),
        "jaccard": float(metrics.jaccard_score(labels, decided, average="samples", zero_division=0)),
        "calibration_error": calibration_error(labels, predictions),
    }


def absent_classes(labels: Labels, class_names: tuple[str, ...] | list[str]) -> list[str]:
    """Return the classes without a positive, which no macro average covers."""
    return [name for name, some in zip(class_names, labels.max(0, initial=0), strict=True) if not some]
