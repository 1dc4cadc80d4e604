"""How well an embedding space is ordered by labels and across sensors, and whether it collapsed.

Embeddings (N, F) are rows of unit length. Arrays come from :func:`standardise`, so that no method wins by the
scale of its features; tensors are those of a training step. Patches of one place are no neighbours, nor pairs
of a correlation: its other dates, or overlapping patches, are alike by construction.
"""

import tempfile

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge
from sklearn.manifold import trustworthiness as sklearn_trustworthiness
from torch import Tensor

from mosaic.evaluation.metrics import Labels
from mosaic.utils.interrupts import after_import

Embeddings = NDArray[np.float32]
Places = NDArray[np.str_]  # of each patch (N,)

#: Patches that a UMAP needs: one more than its three eigenvectors.
LEAST_MAPPED = 4
#: Measures of :func:`cluster_measures`, which see patches of one label only.
CLUSTER_MEASURES = ("silhouette", "davies_bouldin", "calinski_harabasz", "nmi", "ari")
#: Measure -> title, and whether higher is better.
MEASURES: dict[str, tuple[str, bool]] = {
    "knn_jaccard": ("neighbours' label Jaccard", True),
    "distance_correlation": ("Spearman with label distance", True),
    "silhouette": ("silhouette", True),
    "davies_bouldin": ("Davies-Bouldin", False),
    "calinski_harabasz": ("Calinski-Harabasz", True),
    "nmi": ("k-means NMI", True),
    "ari": ("k-means ARI", True),
    "uniformity": ("uniformity", False),
    "effective_rank": ("RankMe", True),
}


def standardise(features: Embeddings, train_features: Embeddings) -> Embeddings:
    """Scale each dimension by mean and deviation of the training rows, then each row to unit length."""
    mean, std = train_features.mean(0, dtype=np.float64), train_features.std(0, dtype=np.float64)
    return _unit_length((features - mean) / np.where(std > 1e-6, std, 1.0))


def _unit_length(rows: NDArray) -> Embeddings:
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def jaccard(labels: Labels) -> NDArray[np.float64]:
    """Return the Jaccard index in [0, 1] of all pairs of label sets, (N, N); two empty sets have 0."""
    sets = labels.astype(np.float64)
    shared, size = sets @ sets.T, sets.sum(1)
    return shared / np.maximum(size[:, None] + size - shared, 1)


def single_label_subset(labels: Labels, least: int = 5) -> NDArray[np.int64]:
    """Return the rows that carry one label only, of classes that at least ``least`` such rows carry."""
    single = labels.sum(1) == 1
    frequent = labels[single].sum(0) >= least
    return np.flatnonzero(single & (labels[:, frequent].sum(1) == 1))


def cluster_measures(embeddings: Embeddings, classes: NDArray[np.int64], seed: int = 0) -> dict[str, float]:
    """Return :data:`CLUSTER_MEASURES` of points of known classes (N,); NaN where there are fewer than two."""
    count = len(np.unique(classes))
    if not 2 <= count < len(classes):
        return dict.fromkeys(CLUSTER_MEASURES, float("nan"))
    clusters = KMeans(count, n_init=10, random_state=seed).fit_predict(embeddings)
    values = (
        metrics.silhouette_score(embeddings, classes, metric="cosine"),
        metrics.davies_bouldin_score(embeddings, classes),
        metrics.calinski_harabasz_score(embeddings, classes),
        metrics.normalized_mutual_info_score(classes, clusters),
        metrics.adjusted_rand_score(classes, clusters),
    )
    return dict(zip(CLUSTER_MEASURES, map(float, values), strict=True))


def nearest(embeddings: Embeddings, k: int, places: Places) -> NDArray[np.int64]:
    """Return the k nearest rows of each row by cosine, nearest first, (N, k).

    Rows of the same place are left out; where a row has fewer than ``k`` others, all rows get as few.
    """
    k = min(k, len(places) - int(np.unique(places, return_counts=True)[1].max()))
    return _ranked(embeddings, k, places)


def _ranked(embeddings: Embeddings, k: int, places: Places) -> NDArray[np.int64]:
    """Return the k nearest rows of each row, (N, k); those of its own place come last."""
    similarity = embeddings @ embeddings.T
    similarity[places[:, None] == places[None, :]] = -np.inf
    neighbours = np.argpartition(-similarity, max(k - 1, 0), axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, neighbours, 1), axis=1, kind="stable")
    return np.take_along_axis(neighbours, order, 1)


def knn_jaccard(
    embeddings: Embeddings, labels: Labels, places: Places, scenes: NDArray[np.str_], k: int = 10
) -> NDArray[np.float64]:
    """Return the Jaccard index in [0, 1] of the labels of a patch and its k nearest, a mean over patches.

    First over all patches, then without each scene, (1 + S,); NaN where no patch has a neighbour. A scene
    that is left out neither has neighbours nor is one: as scenes count on both sides, an interval from means
    over patches with the neighbours they have would be a third too narrow.
    """
    names, scene = np.unique(scenes, return_inverse=True)
    ranked = _ranked(embeddings, min(len(scene), k + int(np.bincount(scene).max())), places)
    index, elsewhere = np.take_along_axis(jaccard(labels), ranked, 1), places[ranked] != places[:, None]
    means = []
    for left_out in range(-1, len(names)):
        kept = scene != left_out
        known = elsewhere[kept] & kept[ranked[kept]]
        count = known.sum(1).min(initial=k)  # where a patch has fewer than k, all get as few
        chosen = known & (known.cumsum(1) <= count)
        means.append(index[kept][chosen].mean() if chosen.any() else np.nan)
    return np.array(means)


def distance_correlation(embeddings: Embeddings, labels: Labels, places: Places) -> float:
    """Return Spearman's correlation of embedding distance and Jaccard distance, over all pairs of places."""
    upper = np.triu(places[:, None] != places[None, :], 1)
    distance = 1 - (embeddings @ embeddings.T)[upper]
    return float(spearmanr(distance, 1 - jaccard(labels)[upper]).statistic)


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared distance of positive pairs (rows), in [0, 4] (Wang and Isola, ICML 2020)."""
    return (first.float() - second.float()).pow(2).sum(1).mean()


def uniformity(embeddings: Tensor, t: float = 2.0) -> Tensor:
    """Return log mean exp(-t d^2) over all pairs at distance d (Wang and Isola, ICML 2020).

    It lies in [-4t, 0]: 0 when collapsed, lower when spread over the sphere.
    """
    return torch.pdist(embeddings.float()).pow(2).mul(-t).exp().mean().log()


def embedding_std(embeddings: Tensor) -> Tensor:
    """Return sqrt(D) times the mean standard deviation of a dimension (SimSiam, CVPR 2021).

    It lies in [0, 1]: 1 when isotropic on the sphere, 0 when collapsed.
    """
    return embeddings.float().std(0, correction=0).mean() * embeddings.shape[1] ** 0.5


def effective_rank(embeddings: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Return RankMe (Garrido et al., ICML 2023): exp of the entropy of the normalised singular values.

    It runs from 1 (collapsed to a line) to about min(N, D). Embeddings may have any length.
    """
    singular = torch.linalg.svdvals(embeddings.float())
    share = singular / singular.sum().clamp_min(epsilon) + epsilon
    return torch.exp(-(share * share.log()).sum())


def linear_map(
    source: Embeddings, target: Embeddings, queries: Embeddings, strength: float = 10.0
) -> Embeddings:
    """Map ``queries`` (N, F) of one sensor into another's space, (N, G), by ridge regression.

    It is fitted on ``source`` (M, F) and ``target`` (M, G) of the same training rows, without labels. Each
    sensor has its own backbone, so features need not share axes, whatever the method.
    """
    return _unit_length(Ridge(alpha=strength).fit(source, target).predict(queries))


def retrieval_ranks(queries: Embeddings, candidates: Embeddings) -> NDArray[np.int64]:
    """Return the rank of candidate i for query i, 1 the best; ties count against it, (N,)."""
    similarity = queries @ candidates.T
    return (similarity >= np.diag(similarity)[:, None]).sum(1)


def retrieval_map(
    queries: Embeddings, candidates: Embeddings, labels: Labels, places: Places, k: int = 20
) -> NDArray[np.float64]:
    """Return the average precision in [0, 1] of each query's k best candidates of other places, (N,).

    A candidate is relevant when its labels have a Jaccard index of at least 0.5 with the query's; queries
    without a relevant one are NaN.
    """
    elsewhere = places[:, None] != places[None, :]
    relevant = (jaccard(labels) >= 0.5) & elsewhere
    similarity = np.where(elsewhere, queries @ candidates.T, -np.inf)
    order = np.argsort(-similarity, axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(relevant, order, 1)
    precision = hits.cumsum(1) / np.arange(1, order.shape[1] + 1)
    possible = np.minimum(relevant.sum(1), order.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(possible > 0, (precision * hits).sum(1) / possible, np.nan)


def umap_map(embeddings: Embeddings, neighbours: int, min_dist: float, seed: int) -> NDArray[np.float32]:
    """Return a two-dimensional UMAP (McInnes et al. 2018) of unit-length embeddings, (N, 2)."""
    with after_import():
        try:
            import umap  # its import compiles for seconds
        except RuntimeError:  # nor can Numba cache that in a read-only installation without a writable home
            import numba

            numba.config.CACHE_DIR = tempfile.mkdtemp()  # type: ignore[attr-defined]
            import umap

    k = min(neighbours, len(embeddings) - 1)
    reducer = umap.UMAP(n_neighbors=k, min_dist=min_dist, metric="cosine", random_state=seed, n_jobs=1)
    return np.asarray(reducer.fit_transform(embeddings), np.float32)


def trustworthiness(embeddings: Embeddings, points: NDArray[np.float32], neighbours: int) -> float:
    """Return how far neighbours in the map are neighbours in the space, in [0, 1] (Venna and Kaski 2001)."""
    k = max(1, min(neighbours, len(points) // 2 - 1))
    return float(sklearn_trustworthiness(embeddings, points, n_neighbors=k, metric="cosine"))
