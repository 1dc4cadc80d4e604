"""Tables and pictures of ``04_embeddings_and_coherence``.

``embedded`` is what :func:`mosaic.experiments.embed.embed_all` returns.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mosaic.analysis.archive_tables import display_bands
from mosaic.analysis.tables import readable, titled
from mosaic.evaluation.coherence import MEASURES, nearest, single_label_subset
from mosaic.evaluation.uncertainty import estimate_mean
from mosaic.experiments.embed import load_arrays, per_seed
from mosaic.losses.label_kernels import KERNELS, pair_weights
from mosaic.store.reader import PackedStore

#: Lengths of the retrieval list.
RETRIEVAL_K = (1, 5, 10, 20, 50, 100)


def coherence_table(embedded: pd.DataFrame) -> pd.DataFrame:
    """Return every coherence measure of every method: mean and spread (standard deviation) over seeds."""
    rows = []
    for method in embedded["method"].unique():
        for name, (title, higher_is_better) in MEASURES.items():
            values = pd.Series([float(value) for value in per_seed(embedded, method, f"measure|{name}")])
            numbers = (values.mean(skipna=False), values.std(skipna=False), len(values))
            rows.append((method, name, title, *numbers, higher_is_better))
    columns = ["method", "name", "measure", "value", "spread", "n_seeds", "higher_is_better"]
    return pd.DataFrame(rows, columns=columns)


def coherence_answer(measures: pd.DataFrame) -> str:
    """Return in a sentence which methods have the most and the least coherent neighbourhoods."""
    rows = titled(measures[measures["name"] == "knn_jaccard"].dropna(subset=["value"]).sort_values("value"))
    if rows.empty:
        return "Coherence is unknown: no test patch has a neighbour from another place."
    methods, values = rows["method"].tolist(), [f"{value:.3f}" for value in rows["value"]]
    if len(methods) == 1:
        return (
            f"The neighbourhoods of {methods[0]}, the only method, have a label Jaccard index of {values[0]}."
        )
    if values[0] == values[-1]:
        return f"Neighbourhoods of all {len(methods)} methods are alike (label Jaccard index {values[0]})."
    return (
        f"The most coherent neighbourhoods are those of {methods[-1]} (label Jaccard index {values[-1]}), "
        f"the least those of {methods[0]} ({values[0]})."
    )


def coherence_summary(embedded: pd.DataFrame, scenes: NDArray[np.str_]) -> pd.DataFrame:
    """Return the neighbours' label Jaccard index of each method as (value, low, high), and its seeds."""
    methods = embedded["method"].unique()
    values = [per_seed(embedded, method, "coherence|test") for method in methods]
    spans = [estimate_mean(seeds, scenes).interval() for seeds in values]
    titles = {"method": "method", "value": "label Jaccard index", "n_seeds": "seeds"}
    return readable(pd.DataFrame(spans).assign(method=methods), titles)


def retrieval_table(embedded: pd.DataFrame, scenes: NDArray[np.str_]) -> pd.DataFrame:
    """Return recall at each k of :data:`RETRIEVAL_K`, with intervals, and the label-aware mAP at 20.

    Only methods that encode each sensor have rows, one a direction and k.
    """
    rows = []
    for method in embedded["method"].unique():
        for direction in load_arrays(embedded[embedded["method"] == method].iloc[0], "rank|"):
            title = " → ".join(sensor.upper() for sensor in direction.split("_to_"))
            maps = [np.nanmean(seed) for seed in per_seed(embedded, method, f"map_at_k|{direction}")]
            ranks = per_seed(embedded, method, f"rank|{direction}")
            for k in [k for k in RETRIEVAL_K if k < len(scenes)]:
                hits = [(seed <= k).astype(np.float64) for seed in ranks]
                recall = estimate_mean(hits, scenes).interval()
                numbers = (recall.value, recall.low, recall.high, float(np.mean(maps)))
                rows.append((method, title, k, *numbers))
    return pd.DataFrame(rows, columns=["method", "direction", "k", "recall", "low", "high", "map_at_20"])


def retrieval_summary(retrieval: pd.DataFrame) -> pd.DataFrame:
    """Return recall at 10 with interval and label-aware mAP at 20: one row a method and direction."""
    titles = {"method": "method", "direction": "direction"}
    titles |= {"recall": "recall at 10", "map_at_20": "mAP at 20"}
    return readable(retrieval[retrieval["k"] == 10], titles, "recall")


def sensor_cosines(embedded: pd.DataFrame) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Return cosines across sensors of the first seed: method -> (same scene, different scenes)."""
    first = {row["method"]: load_arrays(row, "cosine|") for _, row in embedded.query("seed == 0").iterrows()}
    return {
        method: (arrays["same"], arrays["different"])
        for method, arrays in first.items()
        if arrays.get("different", np.empty(0)).size
    }


def umap_points(embedded: pd.DataFrame, methods: Sequence[str]) -> dict[tuple[str, int], NDArray[Any]]:
    """Return the UMAPs of the first seed's encoders: (method, UMAP seed) -> (N, 2)."""
    rows = embedded[(embedded["seed"] == 0) & embedded["method"].isin(methods)]
    return {
        (str(row["method"]), int(seed)): points
        for _, row in rows.iterrows()
        for seed, points in load_arrays(row, "map|").items()
    }


def trustworthiness_table(embedded: pd.DataFrame) -> pd.DataFrame:
    """Return the trustworthiness of every map: one row a method, one column a UMAP seed."""
    rows = []
    for _, row in embedded.query("seed == 0").iterrows():
        values = {f"seed {seed}": float(value) for seed, value in load_arrays(row, "trust|").items()}
        rows.append({"method": row["method"], **values})
    return titled(pd.DataFrame(rows, columns=None if rows else ["method"]))


def neighbour_images(
    store: PackedStore, trial: pd.Series, rows: NDArray[np.int64], queries: int, k: int = 4
) -> dict[str, Any]:
    """Draw queries of the test ``rows`` (N,) of a row of ``embedded``, with their k nearest neighbours.

    Returned as ``plots.imagery.neighbour_gallery`` takes them; empty where no row has a
    neighbour from another place.
    """
    embeddings, bands = load_arrays(trial, "embeddings")[""], display_bands(store)
    neighbours = nearest(embeddings, k, store.index["location"].to_numpy(str)[rows])
    if not neighbours.size:
        return {}
    drawn = np.random.default_rng(0).choice(len(rows), size=min(queries, len(rows)), replace=False)
    shown = {"queries": rows[drawn], "neighbours": rows[neighbours[drawn]]}
    images = {}
    for name, patches in shown.items():
        values = store.read_bands(patches.ravel(), bands)
        stacked = np.stack([values[band] for band in bands], axis=-1)
        images[name] = stacked.reshape(*patches.shape, *stacked.shape[1:])
    return {
        **images,
        "query_labels": store.labels[shown["queries"]],
        "neighbour_labels": store.labels[shown["neighbours"]],
        "class_names": store.class_names,
    }


def kernel_weights(labels: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """Return the weights that every label kernel gives to the pairs of a batch: kernel -> (N, N [+ C])."""
    tensor = torch.from_numpy(labels).float()
    weights = {name: pair_weights(tensor, name) for name in KERNELS}
    weights["msc"] = pair_weights(tensor, "msc", prototypes=True)
    return {name: values.numpy() for name, values in weights.items()}


def single_label_classes(labels: NDArray[np.uint8]) -> dict[int, int]:
    """Return class number -> patches of the subset that the clustering measures see."""
    classes, counts = np.unique(labels[single_label_subset(labels)].argmax(1), return_counts=True)
    return dict(zip(classes.tolist(), counts.tolist(), strict=True))


def coarse_groups(store: PackedStore, rows: NDArray[np.int64]) -> list[str]:
    """Return the coarse group of each patch, ``"several"`` where its labels belong to more than one."""
    carried = pd.DataFrame(
        {
            group: store.labels[rows][:, [store.class_names.index(name) for name in names]].any(1)
            for group, names in store.manifest.level1.items()
        }
    )
    return carried.idxmax(axis=1).where(carried.sum(axis=1) == 1, "several").tolist()
