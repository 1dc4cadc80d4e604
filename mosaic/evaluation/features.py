"""Features of packed patches under a trained encoder, and how those of several sensors are joined."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mosaic.models.checkpoint import layout_for, load_encoder
from mosaic.store.prefetch import read_ahead, read_tensors
from mosaic.store.reader import PackedStore, Rows
from mosaic.transforms.views import Views
from mosaic.utils.devices import autocast

#: Stream or input -> float32 (N, F).
Features = dict[str, NDArray[np.float32]]

_BATCH = 256


def encode_splits(
    store: PackedStore,
    checkpoint: Path,
    rows: Mapping[str, Rows],
    store_statistics: bool = False,
    extract: Callable[[PackedStore, Path, Rows, bool], Features] | None = None,
) -> dict[str, Features]:
    """Return what a trained encoder offers to a classifier: split -> input -> (N, F).

    Inputs are ``"s1"``, ``"s2"`` and so on, ``"fused"``, and ``"fused_without_s1"`` and so on; for early
    fusion the fused ones; for a single sensor that one. The mean over the rows of ``"train"`` replaces the
    features of a missing sensor: zero after the probes' standardisation. ``extract`` may replace
    :func:`extract_features`, by one that keeps features for example.
    """
    extract = extract or extract_features
    features = {s: extract(store, checkpoint, r, store_statistics) for s, r in rows.items()}
    mean = {stream: values.mean(0, np.float64) for stream, values in features["train"].items()}
    return {split: _inputs(streams, mean) for split, streams in features.items()}


def _inputs(features: Features, mean: Mapping[str, NDArray[np.float64]]) -> Features:
    """Return the inputs that the features of each stream make."""
    if "early" in features:
        return {stream.replace("early", "fused"): values for stream, values in features.items()}
    if len(features) == 1:
        return features
    inputs = {**features, "fused": fuse(features)}
    for stream, values in features.items():
        replacement = np.broadcast_to(mean[stream].astype(np.float32), values.shape)
        inputs[f"fused_without_{stream}"] = fuse({**features, stream: replacement})
    return inputs


def fuse(features: Features) -> NDArray[np.float32]:
    """Join the streams' features side by side: (N, sum of F), streams in their order."""
    return np.concatenate(list(features.values()), axis=1, dtype=np.float32)


@torch.inference_mode()
def extract_features(
    store: PackedStore, checkpoint: Path, rows: Rows, store_statistics: bool = False
) -> Features:
    """Encode whole patches without augmentation, in the precision of training: stream -> (N, F).

    For early fusion also ``"early_without_s1"`` and so on for each sensor. With ``store_statistics`` the
    store's moments normalise, not those of training: for an encoder of another archive. CheckpointError when
    the checkpoint is damaged or its bands are not the store's.
    """
    loaded = load_encoder(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = layout_for(loaded, store.layout)  # also refuses other bands
    views = Views(store.layout if store_statistics else layout, loaded.encoder.image_size)
    encoder, precision = loaded.to(device).encoder, loaded.card["settings"]["precision"]
    chunks = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    batches: list[dict[str, torch.Tensor]] = []
    for records in read_ahead(lambda rows: read_tensors(store, rows, device.type), chunks):
        images = views.evaluation({name: r.to(device, non_blocking=True) for name, r in records.items()})
        with autocast(device, precision):
            features = encoder(images)
            for sensor in images if "early" in features else ():
                others = {name: image for name, image in images.items() if name != sensor}
                features[f"early_without_{sensor}"] = encoder(others)["early"]
        batches.append({stream: feature.float().cpu() for stream, feature in features.items()})
    return {stream: torch.cat([batch[stream] for batch in batches]).numpy() for stream in batches[0]}
