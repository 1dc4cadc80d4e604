"""Features of trained encoders, kept for all that is computed from them, and linear probes across stores."""

import functools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic.evaluation.features import Features, encode_splits, extract_features
from mosaic.evaluation.probes import linear_probe
from mosaic.experiments.predictions import main_input, read_arrays, save_arrays
from mosaic.experiments.study import cache_path, reusable
from mosaic.methods import get_method
from mosaic.models.checkpoint import CARD
from mosaic.models.published_weights import PUBLISHED
from mosaic.store.reader import PackedStore, Rows
from mosaic.utils.files import atomic_path, hash_json, read_json


def split_rows(store: PackedStore) -> dict[str, Rows]:
    """Return the rows of each split."""
    return {split: store.split_rows(split) for split in ("train", "validation", "test")}


def kept_features(
    store: PackedStore, checkpoint: Path, rows: Rows, store_statistics: bool = False
) -> Features:
    """Do what ``extract_features`` does, for ``rows`` of one split, once for an encoder and split.

    Features are kept in the cache, unless they would take more than a tenth of the disk's free space.
    """
    other_data = store_statistics and read_json(checkpoint / CARD)["data"] != store.fingerprint
    key = {"encoder": checkpoint.name, "data": store.fingerprint, "store_statistics": other_data}
    split = store.split_rows(store.index["split"].iloc[rows[0]])
    whole, path = (
        cache_path("features", {**key, "rows": hash_json(each.tolist())}, ".npz") for each in (split, rows)
    )
    for known, positions in ((path, slice(None)), (whole, np.searchsorted(split, rows))):
        if reusable(known):
            return {stream: values[positions] for stream, values in read_arrays(known).items()}
    features = extract_features(store, checkpoint, rows, store_statistics)
    path.parent.mkdir(parents=True, exist_ok=True)
    if 10 * sum(values.nbytes for values in features.values()) < shutil.disk_usage(path.parent).free:
        with atomic_path(path) as partial:
            np.savez(partial, **features)  # type: ignore[arg-type]  # its stub knows no keyword arrays
    return features


#: Return split -> input -> (N, F) of an encoder, as :func:`mosaic.evaluation.features.encode_splits` does.
encode = functools.partial(encode_splits, extract=kept_features)


def coarse_labels(store: PackedStore, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Return label vectors (N, K) over coarse classes: 1 where a patch carries a class of theirs."""
    groups = [[store.class_names.index(c) for c in store.manifest.coarse[name]] for name in classes]
    return np.stack([store.labels[:, members].any(1) for members in groups], axis=1).astype(np.uint8)


@dataclass(frozen=True)
class Probe:
    """What a linear probe learns from; validation of the same store chooses its strength."""

    store: PackedStore
    rows: Rows  # training rows whose labels it may use
    classes: Sequence[str] | None = None  # coarse classes; None for the store's own


def probe_trial(
    encoder: Mapping[str, Any], probes: Mapping[str, Probe], store: PackedStore, rows: Rows, path: Path
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
            inputs = encode(data, Path(encoder["folder"]), splits, store_statistics=not published)
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
