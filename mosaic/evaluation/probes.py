"""Classify frozen features (N, F) by nearest neighbours and linear probes; scores are (N, C) in [0, 1]."""

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GroupKFold, KFold
from threadpoolctl import ThreadpoolController
from torch import Tensor, nn
from torch.nn import functional

from mosaic.evaluation.metrics import Labels, macro_ap

Features = NDArray[np.float32]
Scores = NDArray[np.float32]
_Candidate = TypeVar("_Candidate")

#: Inverse regularisation tried by the linear probe, as scikit-learn's ``C``.
STRENGTHS = (1e-3, 1e-2, 1e-1, 1.0)
#: Strength where a budget is too small for cross-validation.
FALLBACK = 1e-2
FOLDS = 5
_TEMPERATURE = 0.07  # of the neighbours' votes
_MOST_LEAVES = 2048  # of a tree
_MOST_SIMILARITIES = 2**26  # in memory at a time
_OPTIONS = {"maxiter": 500, "gtol": 5e-4}  # probabilities within 1e-3 of the exact fit


def knn_scores(train_features: Features, train_labels: Labels, queries: Features, k: int = 20) -> Scores:
    """Score classes by the labels of the nearest training patches, weighted by exp(cosine / 0.07).

    After the kNN monitor of Wu et al. 2018 (arXiv:1805.01978). Features are centred on the training mean
    first, so that a sensor filled with that mean adds nothing.
    """
    arrays = (train_features, train_labels.astype(np.float32), queries)
    train, labels, rows = (torch.from_numpy(array).to(_device()) for array in arrays)
    return knn_votes(train, labels, rows, k).cpu().numpy()


def knn_votes(train: Tensor, labels: Tensor, queries: Tensor, k: int = 20) -> Tensor:
    """Return :func:`knn_scores` of float32 tensors on one device, never in half precision; waits for none."""
    with torch.autocast(train.device.type, enabled=False):
        mean = train.mean(0)
        train = functional.normalize(train - mean, dim=1)
        scores = []
        for chunk in torch.split(queries, max(1, _MOST_SIMILARITIES // len(train))):
            similarity = functional.normalize(chunk - mean, dim=1) @ train.T
            similarity, nearest = similarity.topk(min(k, len(train)), dim=1)
            weight = torch.softmax(similarity / _TEMPERATURE, dim=1)
            scores.append(torch.einsum("mk,mkc->mc", weight, labels[nearest]))
        return torch.cat(scores).clamp_(0, 1)


class LinearProbe(NamedTuple):
    """One logistic regression a class, on features as they are.

    A class that all or none of the training rows carry has weights 0 and an infinite bias.
    """

    strength: float  # inverse regularisation, of standardised features
    weights: NDArray[np.float64]  # (F, C)
    bias: NDArray[np.float64]  # (C,)

    def scores(self, features: Features) -> Scores:
        """Return the probability of each class (N, C)."""
        arrays = (features.astype(np.float64), self.weights, self.bias)
        rows, weights, bias = (torch.from_numpy(array).to(_device()) for array in arrays)
        return torch.sigmoid(rows @ weights + bias).float().cpu().numpy()


def linear_probe(
    train_features: Features,
    train_labels: Labels,
    validation_features: Features,
    validation_labels: Labels,
    evaluation: Mapping[str, Features],
    strengths: Sequence[float] = STRENGTHS,
) -> tuple[dict[str, Scores], LinearProbe]:
    """Fit one logistic regression a class on standardised features; validation chooses among the strengths.

    Of ascending strengths, none is fitted after the first that validation finds no better. Returns the scores
    of all of ``evaluation`` and the probe.
    """
    varies = train_labels.min(0) != train_labels.max(0)

    def validation_ap(probe: LinearProbe) -> float:
        return macro_ap(validation_labels[:, varies], probe.scores(validation_features)[:, varies])

    probe = _first_peak(_fits(train_features, train_labels, strengths), validation_ap)
    return {name: probe.scores(features) for name, features in evaluation.items()}, probe


def cross_validated_strength(features: Features, labels: Labels, scenes: NDArray[np.str_]) -> float:
    """Return that of :data:`STRENGTHS` with the best macro AP of held-out rows, in folds of whole scenes.

    None is fitted after the first that is no better: the strongest take longest. Of fewer scenes than
    :data:`FOLDS`, folds are of single rows; of fewer than two rows a fold, or without a class of two values,
    the strength is :data:`FALLBACK`.
    """
    if len(labels) < 2 * FOLDS or (labels == labels[0]).all():
        return FALLBACK
    grouped = len(np.unique(scenes)) >= FOLDS
    splitter = GroupKFold(FOLDS) if grouped else KFold(FOLDS, shuffle=True, random_state=0)
    folds = list(splitter.split(features, groups=scenes if grouped else None))

    def held_out_ap(strength: float) -> float:
        scores = np.empty(labels.shape, np.float32)
        for fitted, held in folds:
            (probe,) = _fits(features[fitted], labels[fitted], [strength])
            scores[held] = probe.scores(features[held])
        return macro_ap(labels, scores)

    return _first_peak(STRENGTHS, held_out_ap)


def _first_peak(candidates: Iterable[_Candidate], score: Callable[[_Candidate], float]) -> _Candidate:
    """Return the last candidate before the first that scores no better."""
    others = iter(candidates)
    best = next(others)
    highest = score(best)
    for candidate in others:
        if not (reached := score(candidate)) > highest:
            break
        best, highest = candidate, reached
    return best


def tree_scores(
    features: Features, labels: Labels, evaluation: Mapping[str, Features], seed: int = 0
) -> dict[str, Scores]:
    """Score classes by 300 extremely randomised trees (Geurts et al. 2006) for all classes together."""
    # leaves hold shares of all classes: more of them would take gigabytes
    most = None if len(features) <= _MOST_LEAVES else _MOST_LEAVES
    trees = ExtraTreesClassifier(300, min_samples_leaf=2, max_leaf_nodes=most, random_state=seed, n_jobs=1)
    alone = labels.shape[1] == 1  # of one class scikit-learn returns an array, not a list
    trees.fit(features, labels[:, 0] if alone else labels)
    found = {}
    for name, rows in evaluation.items():
        predicted, values = trees.predict_proba(rows), trees.classes_
        shares = zip(*([predicted], [values]) if alone else (predicted, values), strict=True)
        # a class that every or no training row carries has one column
        columns = [share[:, 1] if share.shape[1] == 2 else share[:, 0] * known[0] for share, known in shares]
        found[name] = np.stack(columns, axis=1).astype(np.float32)
    return found


def _fits(features: Features, labels: Labels, strengths: Iterable[float]) -> Iterator[LinearProbe]:
    """Yield a probe for each strength."""
    mean, std = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    std[std < 1e-8] = 1.0  # a feature that never varies
    varies = labels.min(0) != labels.max(0)
    scaled = torch.from_numpy((features - mean) / std).to(_device())
    for strength, weights, bias in fit_logistic(scaled, labels[:, varies], strengths):
        probe = LinearProbe(
            strength, np.zeros((len(mean), len(varies))), np.where(labels[0], np.inf, -np.inf)
        )
        probe.weights[:, varies] = weights.cpu().numpy() / std[:, None]
        probe.bias[varies] = bias.cpu().numpy() - mean @ probe.weights[:, varies]
        yield probe


def fit_classifier(features: Features, labels: Labels, strength: float = FALLBACK) -> nn.Linear:
    """Return a linear probe as a layer to train on.

    A class that all or none of the patches carry gets its log-odds, half a patch added to both sides.
    """
    (probe,) = _fits(features, labels, [strength])
    odds = torch.logit(torch.from_numpy((labels.sum(0) + 0.5) / (len(labels) + 1)))
    layer, bias = nn.Linear(*probe.weights.shape).requires_grad_(False), torch.from_numpy(probe.bias)
    layer.weight.copy_(torch.from_numpy(probe.weights.T))
    layer.bias.copy_(torch.where(bias.isfinite(), bias, odds))
    return layer.requires_grad_(True)


def fit_logistic(
    features: Tensor, labels: Labels, strengths: Iterable[float]
) -> Iterator[tuple[float, Tensor, Tensor]]:
    """Fit L2-regularised logistic regressions of all classes at once, for each strength.

    Minimises C sum_i log(1 + exp(-y_i (w . x_i + b))) + |w|^2 / 2 with y_i = -1 or 1, the objective of
    scikit-learn. In the principal axes of the features the Hessian is nearly diagonal, about C h S^2 + 1 with
    h = p (1 - p) of the class: scaled by it, L-BFGS needs few iterations. A fit starts from the one before.

    Features (N, F) are centred float64, and each class of the labels (N, C) has both values. Yields the
    strength (inverse regularisation C), weights (F, C) and bias (C,).
    """
    axes = _principal_axes(features)
    z = features @ axes
    y = torch.from_numpy(labels).to(z)
    prior = y.mean(0)
    curvature = prior * (1 - prior)
    squared = z.pow(2).sum(0)[:, None]
    rank, classes = z.shape[1], y.shape[1]
    u, bias = z.new_zeros(rank, classes), torch.logit(prior)
    for strength in strengths:
        step = torch.cat([strength * curvature * squared + 1, strength * curvature[None] * len(z)]).rsqrt()

        def objective(
            flat: NDArray[np.float64], c: float = strength, step: Tensor = step
        ) -> tuple[float, NDArray[np.float64]]:
            point = torch.from_numpy(flat).to(z.device).view(rank + 1, classes) * step
            logits = z @ point[:-1] + point[-1]
            loss = c * (functional.softplus(logits) - y * logits).sum() + point[:-1].pow(2).sum() / 2
            slope = c * (torch.sigmoid(logits) - y)
            gradient = torch.cat([z.T @ slope + point[:-1], slope.sum(0)[None]]) * step
            return loss.item(), gradient.flatten().cpu().numpy()

        start = (torch.cat([u, bias[None]]) / step).flatten().cpu().numpy()
        with _libraries().limit(limits=1, user_api="blas"):  # SciPy's vectors are too short to share
            fit = minimize(objective, start, jac=True, method="L-BFGS-B", options=_OPTIONS)
        point = torch.from_numpy(fit.x).to(z.device).view(rank + 1, classes) * step
        u, bias = point[:-1], point[-1]
        yield strength, axes @ u, bias


#: Looking for a process's libraries takes longer than a small fit.
_libraries = functools.cache(ThreadpoolController)


def _principal_axes(features: Tensor) -> Tensor:
    """Return orthonormal axes (F, R) that span the rows of ``features``, R at most min(N, F)."""
    wide = features.shape[0] < features.shape[1]
    gram = features @ features.T if wide else features.T @ features
    values, vectors = torch.linalg.eigh(gram)
    keep = values > values[-1].clamp_min(1e-12) * 1e-10
    vectors = vectors[:, keep]
    return features.T @ vectors / values[keep].sqrt() if wide else vectors


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
