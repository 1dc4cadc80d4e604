"""Linear probes on the features of one encoder, across stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic.evaluation.features import Features, encode_splits
from mosaic.evaluation.probes import linear_probe
from mosaic.experiments.predictions import main_input, save_arrays
from mosaic.methods import get_method
from mosaic.models.published_weights import PUBLISHED
from mosaic.store.reader import PackedStore

Rows = Mapping[str, NDArray[np.int64]]


def split_rows(store: PackedStore) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each split."""
    return {split: store.split_rows(split) for split in ("train", "validation", "test")}


def coarse_labels(store: PackedStore, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return label vectors (N, K) over coarse classes: 1 where a patch carries a class of theirs."""
    groups = [[store.class_names.index(c) for c in store.manifest.coarse[name]] for name in classes]
    return np.stack([store.labels[:, members].any(1) for members in groups], axis=1).astype(np.uint8)


@dataclass(frozen=True)
class Probe:
    """What a linear probe learns from; validation of the same store chooses its strength."""

    store: PackedStore
    rows: NDArray[np.int64]  # training rows whose labels it may use
    classes: Sequence[str] | None = None  # coarse classes; None for the store's own


def probe_trial(
    encoder: Mapping[str, Any],
    probes: Mapping[str, Probe],
    store: PackedStore,
    rows: NDArray[np.int64],
    path: Path,
) -> None:
    """Fit probes on the main input of an encoder's method, and score rows of a store with each.

    Images are normalised by their own store's statistics, so that a probe is not about the mean of a sensor;
    published weights keep the normalisation that they were published with.

    The ``.npz`` at ``path`` gets the scores (N, K) of each probe, by name, for ``rows`` (N,) of ``store``.
    """
    source, published = main_input(encoder["method"]), get_method(encoder["method"]).weights in PUBLISHED
    features: dict[str, Features] = {}
    for data in [store, *(probe.store for probe in probes.values())]:
        if data.fingerprint not in features:
            splits = {split: data.split_rows(split) for split in ("train", "validation")}
            splits |= {"scored": rows} if data is store else {}
            inputs = encode_splits(data, Path(encoder["folder"]), splits, store_statistics=not published)
            features[data.fingerprint] = {split: each[source] for split, each in inputs.items()}
    scores: Features = {}
    for name, probe in probes.items():
        data, known = probe.store, features[probe.store.fingerprint]
        labels = data.labels if probe.classes is None else coarse_labels(data, probe.classes)
        train = known["train"][np.searchsorted(data.split_rows("train"), probe.rows)]
        validation = labels[data.split_rows("validation")]
        scored = {name: features[store.fingerprint]["scored"]}
        scores |= linear_probe(train, labels[probe.rows], known["validation"], validation, scored)[0]
    save_arrays(path, scores)
