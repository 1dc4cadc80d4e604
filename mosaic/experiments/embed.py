"""Embeddings of the splits and their measures, one file an encoder. What ``04`` runs first."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation import coherence
from mosaic.evaluation.features import encode_splits
from mosaic.experiments.grid import Trial
from mosaic.experiments.jobs import run_trials
from mosaic.experiments.predictions import main_input
from mosaic.experiments.study import Study, cache_path
from mosaic.store.reader import PackedStore
from mosaic.utils.files import atomic_path

Arrays = Mapping[str, NDArray[Any]]


def chosen_rows(store: PackedStore, most: int) -> dict[str, NDArray[np.int64]]:
    """Return the rows that are embedded of each split: all, or ``most`` drawn at random."""
    random = np.random.default_rng(0)
    rows = {split: store.split_rows(split) for split in ("train", "validation", "test")}
    return {
        split: own if len(own) <= most else np.sort(random.choice(own, most, replace=False))
        for split, own in rows.items()
    }


def embed_all(study: Study, store: PackedStore, trials: pd.DataFrame) -> pd.DataFrame:
    """Embed and measure every encoder that saw no labels or all of them, unless that is in the cache.

    Args:
        study: of ``04_embeddings_and_coherence``.
        store: packed data.
        trials: the encoders, as ``matrix.pretrain_all`` returns them.

    Returns:
        ``trials`` of those encoders that could be measured, with ``path`` of the ``.npz`` that
        :func:`embed_trial` wrote.
    """
    trials = trials[trials["budget"].isin([0.0, 100.0])].reset_index(drop=True)
    embedding = study.settings.embedding
    rows = chosen_rows(store, embedding.most_patches)
    settings = {
        "neighbours": embedding.coherence_neighbours,
        "umap_neighbours": embedding.umap_neighbours,
        "umap_min_dist": embedding.umap_min_dist,
    }
    calls = {}
    for trial in trials.to_dict("records"):
        folder = Path(trial["folder"])
        drawn = trial["seed"] == 0 and trial["method"] in embedding.umap_methods
        own = {**settings, "umap_seeds": embedding.umap_seeds if drawn else 0}
        key = {"encoder": folder.name, "settings": own, "rows": {s: len(r) for s, r in rows.items()}}
        path = cache_path("embeddings", key, ".npz")
        name = str(Trial(trial["method"], trial["seed"], trial["budget"]))
        calls[name] = (store.folder, folder, trial["method"], rows, own, path)
    there = run_trials(study, embed_trial, calls, "embeddings", "measure")
    embedded = trials.assign(path=[str(call[-1]) for call in calls.values()])
    return embedded[[name in there for name in calls]].reset_index(drop=True)


def embed_trial(
    store_folder: Path,
    checkpoint: Path,
    method: str,
    rows: Mapping[str, NDArray[np.int64]],
    settings: Mapping[str, Any],
    path: Path,
) -> Path:
    """Embed the chosen rows and measure the space; runs in its own process.

    The file holds ``embeddings`` (N, F) of the test rows, ``coherence|<split>`` (N,) for each patch the mean
    label Jaccard index of its neighbours, ``measure|<name>`` scalars, ``map|<seed>`` (N, 2) and
    ``trust|<seed>``; for several sensors also ``rank|<direction>`` and ``map_at_k|<direction>`` (N,) of each
    direction such as ``s1_to_s2``, and ``cosine|same`` and ``cosine|different`` over all pairs of sensors.
    """
    store = PackedStore(store_folder)
    inputs = encode_splits(store, checkpoint, rows)
    main, k = main_input(method), settings["neighbours"]
    spaces = {split: coherence.standardise(own[main], inputs["train"][main]) for split, own in inputs.items()}
    labels = {split: store.labels[own] for split, own in rows.items()}
    places = {split: store.index["location"].to_numpy(str)[own] for split, own in rows.items()}
    found: dict[str, Any] = {"embeddings": spaces["test"]}
    for split in ("validation", "test"):
        found[f"coherence|{split}"] = coherence.knn_jaccard(spaces[split], labels[split], places[split], k)
    test, own, where = spaces["test"], labels["test"], places["test"]
    single = coherence.single_label_subset(own)
    measures = {
        **coherence.cluster_measures(test[single], own[single].argmax(1)),
        **coherence.space_measures(test),
        "distance_correlation": coherence.distance_correlation(test, own, where),
        "knn_jaccard": float(found["coherence|test"].mean()),
    }
    found |= {f"measure|{name}": value for name, value in measures.items()}
    for seed in range(settings["umap_seeds"]):
        neighbours = settings["umap_neighbours"]
        points = coherence.umap_map(test, neighbours, settings["umap_min_dist"], seed)
        found[f"map|{seed}"] = points
        found[f"trust|{seed}"] = coherence.trustworthiness(test, points, neighbours)
    sensors = [name for name in inputs["test"] if not name.startswith("fused")]
    if len(sensors) > 1:
        found |= _across_sensors(inputs, sensors, own, where)
    with atomic_path(path) as partial:
        np.savez_compressed(partial, **found)
    return path


def _across_sensors(
    inputs: Mapping[str, Arrays], sensors: Sequence[str], labels: NDArray[np.uint8], places: NDArray[np.str_]
) -> dict[str, NDArray[Any]]:
    """Retrieve scenes of each sensor by each other, after a linear map fitted on training rows."""
    train = {s: coherence.standardise(inputs["train"][s], inputs["train"][s]) for s in sensors}
    test = {s: coherence.standardise(inputs["test"][s], inputs["train"][s]) for s in sensors}
    arrays: dict[str, NDArray[Any]] = {}
    cosines = []
    for source, target in permutations(sensors, 2):
        mapped = coherence.linear_map(train[source], train[target], test[source])
        arrays[f"rank|{source}_to_{target}"] = coherence.retrieval_ranks(mapped, test[target])
        ap = coherence.retrieval_map(mapped, test[target], labels, places)
        arrays[f"map_at_k|{source}_to_{target}"] = ap
        if sensors.index(source) < sensors.index(target):
            same, different = coherence.cross_sensor_cosines(mapped, test[target], places)
            cosines.append((same, np.random.default_rng(0).permutation(different)[:20_000]))
    arrays["cosine|same"], arrays["cosine|different"] = map(np.concatenate, zip(*cosines, strict=True))
    return arrays


def load_arrays(trial: Mapping[str, Any] | pd.Series, prefix: str) -> dict[str, NDArray[Any]]:
    """Return the arrays of an embedded trial whose names start with ``prefix``, by the rest of the name."""
    with np.load(trial["path"]) as file:
        return {name.removeprefix(prefix): file[name] for name in file.files if name.startswith(prefix)}


def per_seed(embedded: pd.DataFrame, method: str, name: str) -> list[NDArray[Any]]:
    """Return an array of each seed of a method, in the order of seeds; empty where it has none."""
    members = embedded[embedded["method"] == method].sort_values("seed")
    arrays = [load_arrays(trial, name).get("") for _, trial in members.iterrows()]
    return [array for array in arrays if array is not None]
