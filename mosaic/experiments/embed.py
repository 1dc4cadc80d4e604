"""Embeddings of the splits and their measures, one file an encoder. What ``04_embeddings...`` runs first."""

from collections.abc import Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from mosaic.evaluation import coherence
from mosaic.evaluation.features import Features
from mosaic.experiments.grid import require_trained_on
from mosaic.experiments.parallel import encoder_task, run_trials
from mosaic.experiments.predictions import main_input, read_arrays, save_arrays
from mosaic.experiments.probe import encode, split_rows
from mosaic.experiments.study import Study
from mosaic.store.reader import PackedStore, Rows

_MEASURED = {"coherence_neighbours", "umap_neighbours", "umap_min_dist", "umap_seeds"}


def chosen_rows(store: PackedStore, most: int) -> dict[str, Rows]:
    """Return the rows that are embedded of each split: all, or ``most`` drawn at random."""
    random = np.random.default_rng(0)
    return {
        split: rows if len(rows) <= most else np.sort(random.choice(rows, most, replace=False))
        for split, rows in split_rows(store).items()
    }


def embed_all(study: Study, store: PackedStore, encoders: pd.DataFrame) -> pd.DataFrame:
    """Embed and measure every encoder that saw no labels or all; return their rows, with ``path``."""
    require_trained_on(store, encoders)
    settings = study.settings.embedding
    rows = chosen_rows(store, settings.most_patches)
    tasks = {}
    for encoder in encoders[encoders["budget"].isin([0.0, 100.0])].to_dict("records"):
        drawn = encoder["seed"] == 0 and encoder["method"] in settings.umap_methods
        measured = settings.model_dump(include=_MEASURED) | ({} if drawn else {"umap_seeds": 0})
        key = {"settings": measured, "rows": {split: len(each) for split, each in rows.items()}}
        tasks[encoder["trial"]] = encoder_task("embeddings", encoder, key, store, rows, measured)
    # features are kept since predictions were made, and UMAP and coherence are computed on cores
    return run_trials(study, "embeddings", embed_trial, tasks, on_gpu=False)


def embed_trial(
    encoder: dict[str, Any], store: PackedStore, rows: dict[str, Rows], settings: dict[str, Any], path: Path
) -> None:
    """Embed the chosen rows and measure the space.

    The file holds ``embeddings`` (N, F) of the test rows, ``neighbours|<split>`` (1 + S,) their label Jaccard
    index, then that without each scene, ``measure|<name>`` scalars, ``map|<seed>`` (N, 2) and
    ``trust|<seed>``; for several sensors also ``rank|<direction>`` and ``map_at_k|<direction>`` (N,) of each
    direction such as ``s1_to_s2``, and ``cosine|same`` and ``cosine|different`` over all pairs of sensors.
    """
    inputs = encode(store, Path(encoder["folder"]), rows)
    main, k = main_input(encoder["method"]), settings["coherence_neighbours"]
    train = inputs["train"][main]
    embeddings = {split: coherence.standardise(each[main], train) for split, each in inputs.items()}
    labels = {split: store.labels[each] for split, each in rows.items()}
    locations = {split: store.index["location"].to_numpy(str)[each] for split, each in rows.items()}
    test, test_labels = embeddings["test"], labels["test"]
    arrays: dict[str, Any] = {"embeddings": test}
    for split in ("validation", "test"):
        of_split = embeddings[split], labels[split], locations[split], store.scenes[rows[split]]
        arrays[f"neighbours|{split}"] = coherence.knn_jaccard(*of_split, k)
    single = coherence.single_label_subset(test_labels)
    measures = coherence.cluster_measures(test[single], test_labels[single].argmax(1))
    measures["uniformity"] = float(coherence.uniformity(torch.from_numpy(test)))
    measures["effective_rank"] = float(coherence.effective_rank(torch.from_numpy(test)))
    measures["distance_correlation"] = coherence.distance_correlation(test, test_labels, locations["test"])
    measures["knn_jaccard"] = arrays["neighbours|test"][0]
    arrays |= {f"measure|{name}": value for name, value in measures.items()}
    for seed in range(settings["umap_seeds"] if len(test) >= coherence.LEAST_MAPPED else 0):
        points = coherence.umap_map(test, settings["umap_neighbours"], settings["umap_min_dist"], seed)
        arrays[f"map|{seed}"] = points
        arrays[f"trust|{seed}"] = coherence.trustworthiness(test, points, settings["umap_neighbours"])
    sensors = [name for name in inputs["test"] if not name.startswith("fused")]
    if len(sensors) > 1:
        arrays |= _across_sensors(inputs, sensors, test_labels, locations["test"])
    save_arrays(path, arrays)


def _across_sensors(
    inputs: Mapping[str, Features], sensors: list[str], labels: NDArray[np.uint8], locations: NDArray[np.str_]
) -> dict[str, NDArray[Any]]:
    """Retrieve scenes of each sensor by each other, after a linear map fitted on training rows."""
    train = {s: coherence.standardise(inputs["train"][s], inputs["train"][s]) for s in sensors}
    test = {s: coherence.standardise(inputs["test"][s], inputs["train"][s]) for s in sensors}
    arrays: dict[str, NDArray[Any]] = {}
    cosines = []
    for source, target in permutations(sensors, 2):
        mapped = coherence.linear_map(train[source], train[target], test[source])
        arrays[f"rank|{source}_to_{target}"] = coherence.retrieval_ranks(mapped, test[target])
        average_precision = coherence.retrieval_map(mapped, test[target], labels, locations)
        arrays[f"map_at_k|{source}_to_{target}"] = average_precision
        if sensors.index(source) < sensors.index(target):
            similarity = mapped @ test[target].T
            different = similarity[locations[:, None] != locations[None, :]]
            drawn = np.random.default_rng(0).permutation(different)[:20_000]
            cosines.append((np.diag(similarity).copy(), drawn))
    arrays["cosine|same"], arrays["cosine|different"] = map(np.concatenate, zip(*cosines, strict=True))
    return arrays


def per_seed(embedded: pd.DataFrame, method: str, name: str) -> list[NDArray[Any]]:
    """Return an array of each seed of a method, in the order of seeds; empty where it has none."""
    members = embedded[embedded["method"] == method].sort_values("seed")
    arrays = [read_arrays(path, name).get("") for path in members["path"]]
    return [array for array in arrays if array is not None]
