"""Tables and pictures of ``04_embeddings_and_coherence``.

``embedded`` is what :func:`mosaic.experiments.embed.embed_all` returns.
"""

import operator
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.archive_tables import display_bands
from mosaic.evaluation.coherence import MEASURES, nearest
from mosaic.evaluation.uncertainty import Estimate, Interval, estimate_mean
from mosaic.experiments.embed import per_seed
from mosaic.experiments.predictions import read_arrays
from mosaic.store.reader import PackedStore

#: Lengths of the retrieval list.
RETRIEVAL_K = (1, 5, 10, 20, 50, 100)


def coherence_table(embedded: pd.DataFrame) -> pd.DataFrame:
    """Return every coherence measure of every method: mean and spread (standard deviation) over seeds.

    The label Jaccard index of neighbours, which is known without each scene, also has its interval.
    """
    rows = []
    for method in embedded["method"].unique():
        span = Estimate.of(per_seed(embedded, method, "neighbours|test")).interval()
        for name, (title, higher_is_better) in MEASURES.items():
            values = pd.Series([float(value) for value in per_seed(embedded, method, f"measure|{name}")])
            ends = (span.low, span.high) if name == "knn_jaccard" else (np.nan, np.nan)
            numbers = (values.mean(skipna=False), *ends, values.std(skipna=False), len(values))
            rows.append((method, name, title, *numbers, higher_is_better))
    columns = ["method", "name", "measure", "value", "low", "high", "spread", "n_seeds", "higher_is_better"]
    return pd.DataFrame(rows, columns=columns)


def difference_to(embedded: pd.DataFrame, other: str) -> Interval:
    """Return the label Jaccard index of neighbours, MoSAiC's less another method's, on common seeds."""
    seeds = embedded.groupby("method")["seed"].agg(set)
    rows = embedded[embedded["seed"].isin(seeds["mosaic"] & seeds[other])]
    sides = (Estimate.of(per_seed(rows, name, "neighbours|test")) for name in ("mosaic", other))
    return operator.sub(*sides).interval()


def retrieval_table(embedded: pd.DataFrame, scenes: NDArray[np.str_]) -> pd.DataFrame:
    """Return recall at each k of :data:`RETRIEVAL_K`, with intervals, and the label-aware mAP at 20.

    Only methods that encode each sensor have rows, one a direction and k.
    """
    rows = []
    for method in embedded["method"].unique():
        for direction in read_arrays(embedded[embedded["method"] == method]["path"].iloc[0], "rank|"):
            title = " → ".join(sensor.upper() for sensor in direction.split("_to_"))
            maps = per_seed(embedded, method, f"map_at_k|{direction}")
            ranks = per_seed(embedded, method, f"rank|{direction}")
            for k in [k for k in RETRIEVAL_K if k < len(scenes)]:
                hits = [(seed <= k).astype(np.float64) for seed in ranks]
                recall = estimate_mean(hits, scenes).interval()
                numbers = (recall.value, recall.low, recall.high, estimate_mean(maps, scenes).value)
                rows.append((method, title, k, *numbers))
    return pd.DataFrame(rows, columns=["method", "direction", "k", "recall", "low", "high", "map_at_20"])


def of_first_seed(embedded: pd.DataFrame, prefix: str) -> dict[tuple[str, str], NDArray[Any]]:
    """Return the arrays of the first seed's encoders whose names start so: (method, rest of the name)."""
    rows = embedded[embedded["seed"] == 0].set_index("method")["path"]
    return {(str(m), name): v for m, path in rows.items() for name, v in read_arrays(path, prefix).items()}


def neighbour_images(
    store: PackedStore, trial: pd.Series, rows: NDArray[np.int64], queries: int, k: int = 4
) -> dict[str, Any]:
    """Draw queries of the test ``rows`` (N,) of a row of ``embedded``, with their k nearest neighbours.

    Returned as ``plots.imagery.neighbour_gallery`` takes them; empty where no row has a
    neighbour from another place.
    """
    embeddings, bands = read_arrays(trial["path"], "embeddings")[""], display_bands(store)
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
