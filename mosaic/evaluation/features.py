"""Features of packed patches under a trained encoder, and how streams are joined."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from mosaic.models.checkpoint import LoadedEncoder, layout_for, load_encoder, read_card
from mosaic.models.encoders import Encoder
from mosaic.store.prefetch import prefetch
from mosaic.store.reader import PackedStore, Rows
from mosaic.transforms.views import Views
from mosaic.utils.errors import CheckpointError
from mosaic.utils.files import atomic_path
from mosaic.utils.hashing import hash_json

Features = dict[str, NDArray[np.float32]]

_BATCH = 256


def extract_features(
    store: PackedStore,
    checkpoint: Path,
    rows: Rows,
    folder: Path | None = None,
    own_statistics: bool = False,
) -> Features:
    """Encode whole patches without augmentation.

    Args:
        store: packed data.
        checkpoint: folder of a trained encoder.
        rows: patches, in any order (N,).
        folder: where to keep the features; the same encoder, data and rows are then computed once.
        own_statistics: normalise by the statistics of these data, not by those the encoder was trained with:
            for an encoder of another archive, whose sensors and seasons give other means.

    Returns:
        Stream -> float32 (N, F). For early fusion also ``"early_without_s1"`` and ``"early_without_s2"``.

    Raises:
        CheckpointError: when the checkpoint is damaged or its bands are not the store's.
    """
    if folder is None:
        return _extract(store, load_encoder(checkpoint), rows, own_statistics)
    key = [store.fingerprint, read_card(checkpoint)["weights"]["sha256"], np.asarray(rows).tolist()]
    key += [own_statistics] if own_statistics else []
    path = folder / f"features-{hash_json(key)}.npz"
    if path.is_file():
        with np.load(path) as kept:
            return dict(kept)
    features = _extract(store, load_encoder(checkpoint), rows, own_statistics)
    with atomic_path(path) as partial:
        np.savez(partial, **features)  # type: ignore[arg-type]  # its stub knows no keyword arrays
    return features


def _extract(store: PackedStore, encoder: LoadedEncoder, rows: Rows, own_statistics: bool) -> Features:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    layout = layout_for(encoder, store.layout)  # also refuses other bands
    views = Views(store.layout if own_statistics else layout, encoder.encoder.image_size)
    encoder.to(device)
    return encode_rows(store, encoder.encoder, views, rows, device, without=layout.sensor_names)


@torch.inference_mode()
def encode_rows(
    store: PackedStore,
    encoder: Encoder,
    views: Views,
    rows: Rows,
    device: torch.device,
    without: Sequence[str] = (),
) -> Features:
    """Encode whole patches with the encoder as it stands.

    Args:
        store: packed data.
        encoder: backbones.
        views: makes the images.
        rows: patches (N,).
        device: where the encoder is.
        without: sensors without which early fusion is to be encoded as well.

    Returns:
        Stream -> float32 (N, F); and ``"early_without_s1"``, ``"early_without_s2"`` as asked.
    """
    chunks = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    parts: list[dict[str, torch.Tensor]] = []
    for _, records in prefetch(store, chunks, device.type):
        images = views.evaluation({name: r.to(device, non_blocking=True) for name, r in records.items()})
        features = encoder(images)
        for absent in without if "early" in features else ():
            rest = {sensor: image for sensor, image in images.items() if sensor != absent}
            features[f"early_without_{absent}"] = encoder(rest)["early"]
        parts.append({stream: feature.float().cpu() for stream, feature in features.items()})
    return {stream: torch.cat([part[stream] for part in parts]).numpy() for stream in parts[0]}


def mean_features(features: Mapping[str, NDArray[np.float32]]) -> Features:
    """Return the mean of each stream's features over the patches: stream -> (F,)."""
    return {s: values.mean(axis=0, dtype=np.float64).astype(np.float32) for s, values in features.items()}


def fuse(
    features: Mapping[str, NDArray[np.float32]],
    missing: str | None = None,
    fill: Mapping[str, NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Join the streams' features side by side.

    Args:
        features: stream -> (N, F).
        missing: a stream whose sensor is not there; its features are replaced.
        fill: stream -> (F,), what replaces them: :func:`mean_features` of the training rows. After the
            probes' standardisation that is zero, so it says nothing.

    Returns:
        float32 (N, sum of F), streams in their order.

    Raises:
        CheckpointError: when the missing stream is none of the encoder's, or there is no replacement.
    """
    if missing is not None and (missing not in features or fill is None):
        raise CheckpointError(
            f"cannot leave out {missing!r}: the encoder's streams are {', '.join(features)}, and a "
            "replacement (mean_features of the training rows) is needed"
        )
    parts = [
        np.broadcast_to(fill[stream], values.shape) if fill and stream == missing else values
        for stream, values in features.items()
    ]
    return np.concatenate(parts, axis=1, dtype=np.float32)


def representations(
    features: Mapping[str, NDArray[np.float32]], fill: Mapping[str, NDArray[np.float32]]
) -> Features:
    """Return what an encoder offers to a classifier, by the input it was given.

    Args:
        features: of :func:`extract_features`.
        fill: :func:`mean_features` of the training rows, in place of a missing sensor's features.

    Returns:
        ``"s1"``, ``"s2"``, ``"fused"``, ``"fused_without_s1"``, ``"fused_without_s2"`` -> (N, F): all five
        for an encoder of each sensor, the last three for early fusion, one for an encoder of one sensor.
    """
    if "early" in features:
        return {stream.replace("early", "fused"): values for stream, values in features.items()}
    inputs = dict(features)
    if len(features) > 1:
        inputs["fused"] = fuse(features)
        inputs |= {f"fused_without_{stream}": fuse(features, stream, fill) for stream in features}
    return inputs
