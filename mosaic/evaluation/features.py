"""Features of packed patches under a trained encoder, and how those of several sensors are joined."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mosaic.models.checkpoint import layout_for, load_encoder
from mosaic.models.encoders import Encoder
from mosaic.store.prefetch import prefetch
from mosaic.store.reader import PackedStore, Rows
from mosaic.transforms.views import Views

#: Stream or input -> float32 (N, F), or (F,) for a mean.
Features = dict[str, NDArray[np.float32]]

_BATCH = 256


def encode_splits(
    store: PackedStore, checkpoint: Path, rows: Mapping[str, Rows], store_statistics: bool = False
) -> dict[str, Features]:
    """Encode the rows of several splits, and return what an encoder offers to a classifier.

    A missing sensor's features are replaced by their mean over the rows of ``"train"``.

    Args:
        store: packed data.
        checkpoint: folder of a trained encoder.
        rows: split -> patches; ``"train"`` is needed.
        store_statistics: as in :func:`extract_features`.

    Returns:
        Split -> input -> float32 (N, F), see :func:`representations`.
    """
    features = {s: extract_features(store, checkpoint, r, store_statistics) for s, r in rows.items()}
    fill = mean_features(features["train"])
    return {split: representations(streams, fill) for split, streams in features.items()}


def extract_features(
    store: PackedStore, checkpoint: Path, rows: Rows, store_statistics: bool = False
) -> Features:
    """Encode whole patches without augmentation.

    Args:
        store: packed data.
        checkpoint: folder of a trained encoder.
        rows: patches, in any order (N,).
        store_statistics: normalise by the statistics of the store, not by those the encoder was trained with:
            for an encoder of another archive, whose sensors and seasons give other means.

    Returns:
        Stream -> float32 (N, F). For early fusion also ``"early_without_s1"`` and so on for each sensor.

    Raises:
        CheckpointError: when the checkpoint is damaged or its bands are not the store's.
    """
    encoder = load_encoder(checkpoint)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = layout_for(encoder, store.layout)  # also refuses other bands
    views = Views(store.layout if store_statistics else layout, encoder.encoder.image_size)
    return encode_rows(store, encoder.to(device).encoder, views, rows, device, drop_sensors=True)


@torch.inference_mode()
def encode_rows(
    store: PackedStore,
    encoder: Encoder,
    views: Views,
    rows: Rows,
    device: torch.device,
    drop_sensors: bool = False,
) -> Features:
    """Encode whole patches with the encoder as it stands.

    Args:
        store: packed data.
        encoder: backbones.
        views: makes the images.
        rows: patches (N,).
        device: where the encoder is.
        drop_sensors: encode early fusion without each sensor as well.

    Returns:
        Stream -> float32 (N, F); and ``"early_without_s1"`` and so on as asked.
    """
    chunks = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    batches: list[dict[str, torch.Tensor]] = []
    for _, records in prefetch(store, chunks, device.type):
        images = views.evaluation({name: r.to(device, non_blocking=True) for name, r in records.items()})
        features = encoder(images)
        for sensor in images if drop_sensors and "early" in features else ():
            others = {name: image for name, image in images.items() if name != sensor}
            features[f"early_without_{sensor}"] = encoder(others)["early"]
        batches.append({stream: feature.float().cpu() for stream, feature in features.items()})
    return {stream: torch.cat([batch[stream] for batch in batches]).numpy() for stream in batches[0]}


def mean_features(features: Features) -> Features:
    """Return the mean of each stream's features over the patches: stream -> (F,)."""
    return {s: values.mean(axis=0, dtype=np.float64).astype(np.float32) for s, values in features.items()}


def fuse(features: Features) -> NDArray[np.float32]:
    """Join the streams' features side by side: float32 (N, sum of F), streams in their order."""
    return np.concatenate(list(features.values()), axis=1, dtype=np.float32)


def representations(features: Features, fill: Features) -> Features:
    """Return what an encoder offers to a classifier, by the input it was given.

    Args:
        features: of :func:`extract_features`.
        fill: :func:`mean_features` of the training rows, for the features of a missing sensor. After the
            probes' standardisation that is zero, so it says nothing.

    Returns:
        Input -> (N, F): for an encoder of each sensor ``"s1"``, ``"s2"`` and so on, ``"fused"``, and
        ``"fused_without_s1"`` and so on; for early fusion the fused ones; for a single sensor that one.
    """
    if "early" in features:
        return {stream.replace("early", "fused"): values for stream, values in features.items()}
    if len(features) == 1:
        return dict(features)
    inputs = {**features, "fused": fuse(features)}
    for stream, values in features.items():
        replaced = {**features, stream: np.broadcast_to(fill[stream], values.shape)}
        inputs[f"fused_without_{stream}"] = fuse(replaced)
    return inputs
