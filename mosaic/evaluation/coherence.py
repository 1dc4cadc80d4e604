"""How well an embedding space is ordered by labels and across sensors: measured there, never in a 2-D map.

All measures take embeddings after :func:`standardise`: each dimension scaled by training statistics, each row
of unit length, so that distances are cosines and no method wins by the scale of its features.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.linear_model import Ridge
from sklearn.manifold import trustworthiness as sklearn_trustworthiness

from mosaic.evaluation import embedding_metrics as monitor
from mosaic.evaluation.bootstrap import (
    Difference,
    Interval,
    difference_of,
    over_seeds,
    percentile_interval,
    scene_weights,
)

Embeddings = NDArray[np.float32]
Labels = NDArray[np.uint8]

#: Measures of :func:`cluster_measures` and :func:`space_measures`: title, and whether higher is better.
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
    """Scale each dimension by mean and deviation of the training rows, then each row to unit length.

    Args:
        features: (N, F).
        train_features: (M, F).
    """
    mean, std = train_features.mean(0, dtype=np.float64), train_features.std(0, dtype=np.float64)
    scaled = (features - mean) / np.where(std > 1e-6, std, 1.0)
    length = np.linalg.norm(scaled, axis=1, keepdims=True)
    return (scaled / np.maximum(length, 1e-12)).astype(np.float32)


def jaccard(first: Labels, second: Labels) -> NDArray[np.float64]:
    """Return the Jaccard index of all pairs of label sets, (N, M); two empty sets have 0."""
    a, b = first.astype(np.float64), second.astype(np.float64)
    shared = a @ b.T
    either = a.sum(1)[:, None] + b.sum(1)[None, :] - shared
    return shared / np.maximum(either, 1)


# ------------------------------------------------------------------------------------- order by labels


def single_label_subset(labels: Labels, least: int = 5) -> NDArray[np.int64]:
    """Return the rows that carry one label only, of classes that at least ``least`` such rows carry.

    The clustering measures are defined for one class a point; this is the part of the data where they are.
    """
    single = labels.sum(1) == 1
    frequent = labels[single].sum(0) >= least
    return np.flatnonzero(single & (labels[:, frequent].sum(1) == 1))


def cluster_measures(embeddings: Embeddings, kinds: NDArray[np.int64], seed: int = 0) -> dict[str, float]:
    """Return silhouette (cosine), Davies-Bouldin, Calinski-Harabasz, and NMI and ARI of k-means.

    Args:
        embeddings: (N, F), standardised.
        kinds: class of each point (N,); all NaN where there are fewer than two classes.
        seed: of k-means, which has as many clusters as there are classes, best of 10 starts.
    """
    classes = len(np.unique(kinds))
    names = ("silhouette", "davies_bouldin", "calinski_harabasz", "nmi", "ari")
    if not 2 <= classes < len(kinds):
        return dict.fromkeys(names, float("nan"))
    found = KMeans(classes, n_init=10, random_state=seed).fit_predict(embeddings)
    values = (
        metrics.silhouette_score(embeddings, kinds, metric="cosine"),
        metrics.davies_bouldin_score(embeddings, kinds),
        metrics.calinski_harabasz_score(embeddings, kinds),
        metrics.normalized_mutual_info_score(kinds, found),
        metrics.adjusted_rand_score(kinds, found),
    )
    return dict(zip(names, map(float, values), strict=True))


def nearest(embeddings: Embeddings, k: int, places: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the k nearest rows of each row by cosine, nearest first, (N, k).

    Rows of the same place are no neighbours: other dates of it, or patches that overlap, are alike by
    construction.

    Args:
        embeddings: (N, F), unit length.
        k: neighbours; fewer are returned where a row has fewer that lie elsewhere.
        places: place of each row (N,).
    """
    k = min(k, len(places) - int(np.unique(places, return_counts=True)[1].max()))
    if k < 1:
        return np.empty((len(places), 0), np.int64)
    similarity = embeddings @ embeddings.T
    similarity[places[:, None] == places[None, :]] = -np.inf
    found = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    order = np.argsort(-np.take_along_axis(similarity, found, 1), axis=1, kind="stable")
    return np.take_along_axis(found, order, 1)


def knn_jaccard(
    embeddings: Embeddings, labels: Labels, places: NDArray[np.str_], k: int = 10
) -> NDArray[np.float64]:
    """Return, for each patch, the mean Jaccard index of its labels with those of its k nearest, (N,)."""
    found = nearest(embeddings, k, places)
    return np.take_along_axis(jaccard(labels, labels), found, 1).mean(1)


def distance_correlation(embeddings: Embeddings, labels: Labels, places: NDArray[np.str_]) -> float:
    """Return Spearman's correlation of embedding distance and Jaccard distance, over all pairs of places."""
    upper = np.triu(places[:, None] != places[None, :], 1)
    distance = 1 - (embeddings @ embeddings.T)[upper]
    return float(spearmanr(distance, 1 - jaccard(labels, labels)[upper]).statistic)


def space_measures(embeddings: Embeddings) -> dict[str, float]:
    """Return uniformity (Wang and Isola 2020) and effective rank (RankMe, Garrido et al. 2023)."""
    tensor = torch.from_numpy(embeddings)
    return {
        "uniformity": float(monitor.uniformity(tensor)),
        "effective_rank": float(monitor.effective_rank(tensor)),
    }


# ------------------------------------------------------------------------------------- across sensors


def linear_map(
    source: Embeddings, target: Embeddings, queries: Embeddings, strength: float = 10.0
) -> Embeddings:
    """Map one sensor's embeddings into the other's space: ridge regression on training pairs, no labels.

    Sensors have backbones of their own, so their features need not share axes, whatever the method; a linear
    map asks of all methods alike whether the same information is there.

    Args:
        source: (M, F) of the training rows, standardised.
        target: (M, G) of the same rows in the other sensor, standardised.
        queries: (N, F) to map.
        strength: of the ridge penalty.

    Returns:
        (N, G), unit length.
    """
    mapped = Ridge(alpha=strength).fit(source, target).predict(queries)
    return (mapped / np.maximum(np.linalg.norm(mapped, axis=1, keepdims=True), 1e-12)).astype(np.float32)


def retrieval_ranks(queries: Embeddings, candidates: Embeddings) -> NDArray[np.int64]:
    """Return the rank of candidate i for query i, 1 the best; ties count against it, (N,)."""
    similarity = queries @ candidates.T
    return (similarity >= np.diag(similarity)[:, None]).sum(1)


def retrieval_map(
    queries: Embeddings,
    candidates: Embeddings,
    labels: Labels,
    places: NDArray[np.str_],
    k: int = 20,
    least: float = 0.5,
) -> NDArray[np.float64]:
    """Return the average precision of each query's k best candidates of other places, (N,).

    A candidate is relevant when its labels have a Jaccard index of at least ``least`` with the query's;
    queries without a relevant one are NaN.

    Args:
        queries: (N, G), one sensor.
        candidates: (N, G), the same scenes in the other sensor.
        labels: (N, C).
        places: place of each scene (N,).
        k: length of the list.
        least: Jaccard index of a relevant candidate.
    """
    similarity = queries @ candidates.T
    others = places[:, None] != places[None, :]
    relevant = (jaccard(labels, labels) >= least) & others
    order = np.argsort(-np.where(others, similarity, -np.inf), axis=1, kind="stable")[:, :k]
    hits = np.take_along_axis(relevant, order, 1)
    precision = hits.cumsum(1) / np.arange(1, order.shape[1] + 1)
    possible = np.minimum(relevant.sum(1), order.shape[1])
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(possible > 0, (precision * hits).sum(1) / possible, np.nan)


def cross_sensor_cosines(
    queries: Embeddings, candidates: Embeddings, places: NDArray[np.str_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return cosines between sensors: of the same scene (N,), and of scenes of two different places."""
    similarity = queries @ candidates.T
    return np.diag(similarity).copy(), similarity[places[:, None] != places[None, :]]


# ------------------------------------------------------------------------------------- uncertainty and maps


def interval_of_mean(
    per_seed: Sequence[NDArray[np.float64]], scenes: NDArray[np.str_], resamples: int
) -> Interval:
    """Return the mean of a number that every patch has, with its 95 % interval over scenes and seeds.

    Args:
        per_seed: one (N,) a seed; NaN is left out.
        scenes: scene of each patch (N,).
        resamples: number of resamples.
    """
    value = float(np.mean([np.nanmean(one) for one in per_seed]))
    low, high = percentile_interval(value, over_seeds(resampled_means(per_seed, scenes, resamples)))
    return Interval(value, low, high, len(per_seed), len(np.unique(scenes)))


def difference_of_means(
    ours: Sequence[NDArray[np.float64]],
    theirs: Sequence[NDArray[np.float64]],
    scenes: NDArray[np.str_],
    resamples: int,
) -> Difference:
    """Return the difference of two such means, paired by seed and scene.

    Raises:
        ValueError: when the numbers of seeds differ.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} seeds against {len(theirs)}: a paired difference needs the same seeds")
    each = [first - second for first, second in zip(ours, theirs, strict=True)]
    value = float(np.mean([np.nanmean(one) for one in each]))
    drawn = over_seeds(resampled_means(each, scenes, resamples))
    return difference_of(value, drawn, len(each), scenes)


def resampled_means(
    per_seed: Sequence[NDArray[np.float64]], scenes: NDArray[np.str_], resamples: int
) -> NDArray[np.float64]:
    """Return the mean under each resample of scenes, (S, R); the same scenes for every seed and method."""
    weights = scene_weights(scenes, resamples).astype(np.float64)
    found = []
    for one in per_seed:
        known = np.isfinite(one)
        with np.errstate(invalid="ignore"):
            found.append(weights[:, known] @ one[known] / weights[:, known].sum(1))
    return np.stack(found)


def umap_map(embeddings: Embeddings, neighbours: int, min_dist: float, seed: int) -> NDArray[np.float32]:
    """Return a two-dimensional UMAP (McInnes et al. 2018) of unit-length embeddings, (N, 2)."""
    import umap  # its import compiles for seconds

    reducer = umap.UMAP(
        n_neighbors=min(neighbours, len(embeddings) - 1),
        min_dist=min_dist,
        metric="cosine",
        random_state=seed,
        n_jobs=1,
    )
    return np.asarray(reducer.fit_transform(embeddings), np.float32)


def trustworthiness(embeddings: Embeddings, points: NDArray[np.float32], neighbours: int) -> float:
    """Return how far neighbours in the map are neighbours in the space, in [0, 1] (Venna and Kaski 2001)."""
    k = max(1, min(neighbours, len(points) // 2 - 1))
    return float(sklearn_trustworthiness(embeddings, points, n_neighbors=k, metric="cosine"))
