"""Linear probes on the features of one encoder, across stores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    """What a linear probe learns from; validation of the same store chooses its strength.

    Attributes:
        store: packed data.
        rows: training rows whose labels it may use.
        classes: coarse classes; None for the store's own.
    """

    store: PackedStore
    rows: NDArray[np.int64]
    classes: Sequence[str] | None = None


def probe_trial(
    checkpoint: Path,
    method: str,
    probes: Mapping[str, Probe],
    store: PackedStore,
    rows: NDArray[np.int64],
    path: Path,
) -> None:
    """Fit probes on a method's main input, and score rows of a store with each.

    Images are normalised by their own store's statistics, so that a probe is not about the mean of a sensor;
    published weights keep the normalisation that they were published with, if they were.

    Args:
        checkpoint: folder of the encoder.
        method: its row of the table of methods.
        probes: name -> what it learns from.
        store: whose patches are scored.
        rows: of ``store``.
        path: the ``.npz`` to write: name -> scores (N, K).
    """
    store_statistics = get_method(method).weights not in PUBLISHED
    source = main_input(method)

    def encode(store: PackedStore, **more: NDArray[np.int64]) -> Features:
        splits = {"train": store.split_rows("train"), **more}
        inputs = encode_splits(store, checkpoint, splits, store_statistics)
        return {split: each[source] for split, each in inputs.items()}

    scored = encode(store, scored=rows)["scored"]
    stores = {probe.store.fingerprint: probe.store for probe in probes.values()}
    known = {name: encode(each, validation=each.split_rows("validation")) for name, each in stores.items()}
    scores: Features = {}
    for name, probe in probes.items():
        features, data = known[probe.store.fingerprint], probe.store
        labels = data.labels if probe.classes is None else coarse_labels(data, probe.classes)
        train = features["train"][np.searchsorted(data.split_rows("train"), probe.rows)]
        validation = labels[data.split_rows("validation")]
        fit = linear_probe(train, labels[probe.rows], features["validation"], validation, {name: scored})
        scores |= fit.scores
    save_arrays(path, scores)
