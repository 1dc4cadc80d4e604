"""Tables and pictures of the embedding spaces, as ``04_embeddings_and_coherence`` shows them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mosaic.analysis.archive_tables import display_bands
from mosaic.evaluation import coherence
from mosaic.evaluation.bootstrap import Interval
from mosaic.experiments.embed import DIRECTIONS, load_array, per_seed
from mosaic.losses.label_kernels import KERNELS, msc_weights, pair_weights
from mosaic.methods import get_method
from mosaic.store.reader import PackedStore

#: Lengths of the retrieval list.
RETRIEVAL_K = (1, 5, 10, 20, 50, 100)
#: Measures that see patches of one label only.
CLUSTER_MEASURES = ("silhouette", "davies_bouldin", "calinski_harabasz", "nmi", "ari")


def coherence_table(embedded: pd.DataFrame) -> pd.DataFrame:
    """Return every coherence measure of every method, averaged over seeds.

    Returns:
        One row a method and measure: method, name, measure (its title), value, spread (standard deviation
        over seeds), n_seeds, higher_is_better.
    """
    rows = []
    for method in embedded["method"].unique():
        for name, (title, upward) in coherence.MEASURES.items():
            values = np.array([float(value) for value in per_seed(embedded, method, f"measure|{name}")])
            rows.append(
                {
                    "method": method,
                    "name": name,
                    "measure": title,
                    "value": float(values.mean()),
                    "spread": float(values.std(ddof=1)) if len(values) > 1 else np.nan,
                    "n_seeds": len(values),
                    "higher_is_better": upward,
                }
            )
    return pd.DataFrame(rows)


def coherence_intervals(
    embedded: pd.DataFrame, scenes: NDArray[np.str_], resamples: int
) -> dict[str, Interval]:
    """Return, for each method, the neighbours' label Jaccard index on the test split with its interval."""
    return {
        method: coherence.interval_of_mean(per_seed(embedded, method, "coherence|test"), scenes, resamples)
        for method in embedded["method"].unique()
    }


def retrieval_table(embedded: pd.DataFrame, scenes: NDArray[np.str_], resamples: int) -> pd.DataFrame:
    """Return recall at each k of :data:`RETRIEVAL_K`, with intervals, for methods that encode each sensor.

    Returns:
        One row a method, direction and k: method, direction, k, recall, low, high, map_at_20 (label-aware).
    """
    rows = []
    for method in embedded["method"].unique():
        for key, direction in DIRECTIONS.items():
            ranks = per_seed(embedded, method, f"rank|{key}")
            if not ranks:
                continue
            by_labels = np.mean([np.nanmean(one) for one in per_seed(embedded, method, f"map_at_k|{key}")])
            for k in [k for k in RETRIEVAL_K if k < len(scenes)]:
                hits = [(one <= k).astype(np.float64) for one in ranks]
                span = coherence.interval_of_mean(hits, scenes, resamples)
                rows.append((method, direction, k, span.value, span.low, span.high, float(by_labels)))
    return pd.DataFrame(rows, columns=["method", "direction", "k", "recall", "low", "high", "map_at_20"])


def sensor_cosines(embedded: pd.DataFrame) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return cosines across sensors of the first seed: method -> (same scene, different scenes)."""
    found = {}
    for _, trial in embedded[embedded["seed"] == 0].iterrows():
        same, different = load_array(trial, "same"), load_array(trial, "different")
        if same is not None and different is not None:
            found[str(trial["method"])] = (same, different)
    return found


def umap_points(embedded: pd.DataFrame, methods: Sequence[str]) -> dict[tuple[str, int], NDArray[Any]]:
    """Return the UMAPs of the first seed's encoders: (method, UMAP seed) -> (N, 2)."""
    found: dict[tuple[str, int], NDArray[Any]] = {}
    for _, trial in embedded[(embedded["seed"] == 0) & embedded["method"].isin(methods)].iterrows():
        with np.load(trial["path"]) as file:
            for name in file.files:
                if name.startswith("map|"):
                    found[str(trial["method"]), int(name.removeprefix("map|"))] = file[name]
    return found


def trustworthiness_table(embedded: pd.DataFrame) -> pd.DataFrame:
    """Return the trustworthiness of every map: one row a method, one column a UMAP seed."""
    rows = []
    for _, trial in embedded[embedded["seed"] == 0].iterrows():
        with np.load(trial["path"]) as file:
            trust = {
                f"seed {name.removeprefix('trust|')}": float(file[name])
                for name in sorted(file.files)
                if name.startswith("trust|")
            }
        rows.append({"method": get_method(trial["method"]).title, **trust})
    return pd.DataFrame(rows)


def nearest_neighbours(
    store: PackedStore,
    trial: Mapping[str, Any] | pd.Series,
    rows: NDArray[np.int64],
    queries: int,
    k: int = 4,
    seed: int = 0,
) -> dict[str, NDArray[Any]]:
    """Pick test patches of many labels at random, and their nearest neighbours of other places.

    Args:
        store: packed data.
        trial: an embedded encoder.
        rows: the embedded test rows (N,).
        queries: number of queries.
        k: neighbours of each.
        seed: of the draw of queries.

    Returns:
        ``queries`` (q,) and ``neighbours`` (q, k), rows of the store.
    """
    embeddings = load_array(trial, "embeddings")
    if embeddings is None:
        raise ValueError(f"{trial['path']} holds no embeddings")
    places = store.index["location"].to_numpy(str)[rows]
    found = coherence.nearest(embeddings, k, places)
    chosen = np.random.default_rng(seed).choice(len(rows), size=min(queries, len(rows)), replace=False)
    return {"queries": rows[chosen], "neighbours": rows[found[chosen]]}


def kernel_weights(labels: NDArray[np.uint8], alpha: float = 1.0) -> dict[str, NDArray[np.float32]]:
    """Return the weights that every label kernel gives to the pairs of a batch: kernel -> (N, N [+ C])."""
    tensor = torch.from_numpy(labels).float()
    return {
        name: (msc_weights(tensor, alpha) if name == "msc" else pair_weights(tensor, name)).numpy()
        for name in KERNELS
    }


def coherence_summary(embedded: pd.DataFrame, scenes: NDArray[np.str_], resamples: int) -> pd.DataFrame:
    """Return the neighbours' label Jaccard index of each method as (value, low, high), and its seeds."""
    rows = []
    for method, span in coherence_intervals(embedded, scenes, resamples).items():
        rows.append(
            {
                "method": get_method(method).title,
                "label Jaccard index": (span.value, span.low, span.high),
                "seeds": span.n_seeds,
            }
        )
    return pd.DataFrame(rows)


def retrieval_summary(retrieval: pd.DataFrame) -> pd.DataFrame:
    """Return recall at 10 with interval and label-aware mAP at 20: one row a method and direction."""
    rows = [
        {
            "method": get_method(row["method"]).title,
            "direction": row["direction"],
            "recall at 10": (row["recall"], row["low"], row["high"]),
            "mAP at 20": row["map_at_20"],
        }
        for row in retrieval[retrieval["k"] == 10].to_dict("records")
    ]
    return pd.DataFrame(rows)


def single_label_classes(labels: NDArray[np.uint8]) -> dict[int, int]:
    """Return class number -> patches of the subset that the clustering measures see."""
    single = coherence.single_label_subset(labels)
    kinds, counts = np.unique(labels[single].argmax(1), return_counts=True)
    return dict(zip(kinds.tolist(), counts.tolist(), strict=True))


def coarse_groups(store: PackedStore, rows: NDArray[np.int64]) -> list[str]:
    """Return the coarse group of each patch, ``"several"`` where its labels belong to more than one."""
    groups = store.manifest.level1
    member = np.zeros((len(groups), len(store.class_names)), bool)
    for place, names in enumerate(groups.values()):
        member[place, [store.class_names.index(name) for name in names]] = True
    carried = store.labels[rows] @ member.T.astype(np.int64) > 0
    titles = list(groups)
    return [titles[groups.argmax()] if groups.sum() == 1 else "several" for groups in carried]


def neighbour_images(
    store: PackedStore, trial: Mapping[str, Any] | pd.Series, rows: NDArray[np.int64], queries: int
) -> dict[str, Any]:
    """Return queries and neighbours as ``plots.imagery.neighbour_gallery`` takes them."""
    chosen = nearest_neighbours(store, trial, rows, queries)
    shape, visible = chosen["neighbours"].shape, display_bands(store)
    images = {
        name: np.stack([store.read_bands(part.ravel(), visible)[band] for band in visible], axis=-1)
        for name, part in chosen.items()
    }
    labels = {name: store.labels[part] for name, part in chosen.items()}
    return {
        "queries": images["queries"],
        "neighbours": images["neighbours"].reshape(*shape, *images["neighbours"].shape[1:]),
        "query_labels": labels["queries"],
        "neighbour_labels": labels["neighbours"],
        "class_names": store.class_names,
    }
