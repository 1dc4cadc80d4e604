"""Encoders whose weights others have published: rows with ``weights`` in the table of methods.

Weights are TorchGeo's. Those of ResNets come with their normalisation and expect 13 bands above the
atmosphere: SEN12MS has them, BigEarthNet v2 has 12 bands of surface reflectance. Transformers take images
normalised by the data's own statistics. A wrong band set is refused, never padded.
"""

import pickle
import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.hub import HASH_REGEX

from mosaic.models.encoders import Encoder
from mosaic.models.foundation import FOUNDATION, torchgeo_models
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import CheckpointError, RunError
from mosaic.utils.files import sha256_file

#: Weights that come with a normalisation -> members of ``torchgeo.models.ResNet50_Weights``, one a sensor.
PUBLISHED: dict[str, tuple[str, str]] = {
    "moco": ("SENTINEL1_ALL_MOCO", "SENTINEL2_ALL_MOCO"),
    "decur": ("SENTINEL1_ALL_DECUR", "SENTINEL2_ALL_DECUR"),
    "softcon": ("SENTINEL1_GRD_SOFTCON", "SENTINEL2_ALL_SOFTCON"),
}


def check_published(name: str, layout: BandLayout, image_size: int) -> None:
    """Refuse data that published weights do not fit, as :func:`load_published` does, without reading them."""
    for sensor in layout.sensors:
        if name in FOUNDATION:
            FOUNDATION[name].require(sensor.bands, image_size)
        else:
            _matching(PUBLISHED[name], sensor.bands)


def load_published(name: str, layout: BandLayout, image_size: int) -> tuple[Encoder, BandLayout]:
    """Return the encoder of published weights, and the layout with the normalisation they expect.

    The name is a key of :data:`PUBLISHED` or :data:`FOUNDATION`. CheckpointError for bands and SettingsError
    for a size that the weights do not take; RunError when TorchGeo is missing, or the file is damaged, or
    neither there nor can be downloaded.
    """
    check_published(name, layout, image_size)
    channels = {sensor.name: len(sensor.bands) for sensor in layout.sensors}
    backbone: Any
    if name in FOUNDATION:
        enum, member = FOUNDATION[name].weights
        state = _state(getattr(getattr(torchgeo_models(), enum), member), f"{enum}.{member}")
        encoder = Encoder(name, channels, image_size)
        for stream, backbone in encoder.backbones.items():
            backbone.load_published(state, layout.sensor(stream).bands)
        return encoder, layout
    statistics: dict[str, Mapping[str, float]] = {}
    encoder = Encoder("resnet50", channels, image_size)
    for sensor in layout.sensors:
        member, weights, expected = _matching(PUBLISHED[name], sensor.bands)
        step = next(part for part in weights.transforms if hasattr(part, "mean") and hasattr(part, "std"))
        values = (torch.as_tensor(v, dtype=torch.float64).flatten() for v in (step.mean, step.std))
        mean, std = (value.expand(len(expected)).tolist() for value in values)  # one value stands for all
        statistics |= {b: {"mean": m, "std": s} for b, m, s in zip(expected, mean, std, strict=True)}
        state = {k: v for k, v in _state(weights, member).items() if not k.startswith("fc.")}
        order = [expected.index(band) for band in sensor.bands]
        state["conv1.weight"] = state["conv1.weight"][:, order]
        encoder.backbones[sensor.name].load_state_dict(state)
    return encoder, replace(layout, statistics=statistics)


def _matching(members: Sequence[str], bands: Sequence[str]) -> tuple[str, Any, list[str]]:
    """Return the member of ``ResNet50_Weights`` that expects ``bands``, its weights, and its bands."""
    known = {member: getattr(torchgeo_models().ResNet50_Weights, member) for member in members}
    expected = {  # as the archives spell them: B1 is B01, B8a is B8A
        member: [b if b in ("VV", "VH") else f"B{b[1:].upper().zfill(2)}" for b in weights.meta["bands"]]
        for member, weights in known.items()
    }
    nearest = max(members, key=lambda member: len(set(expected[member]) & set(bands)))
    if set(expected[nearest]) != set(bands):
        lacking = sorted(set(expected[nearest]) - set(bands)) or ["none"]
        surplus = sorted(set(bands) - set(expected[nearest])) or ["none"]
        raise CheckpointError(
            f"{nearest} expects {', '.join(expected[nearest])}; the packed data lack {', '.join(lacking)} "
            f"and have {', '.join(surplus)} in addition: pack exactly those bands (SEN12MS has them, "
            "BigEarthNet v2 has no B10), or leave this method out"
        )
    return nearest, known[nearest], expected[nearest]


def _state(weights: Any, member: str) -> dict[str, Tensor]:
    """Return the state dict, from torch's cache or the network: tensors alone, never code.

    torch compares the checksum in a file's name, which SoftCon's lack, only after downloading.
    """
    name = weights.url.rsplit("/", 1)[-1]
    path, checksum = Path(torch.hub.get_dir(), "checkpoints", name), HASH_REGEX.search(name)
    if checksum and path.exists() and not sha256_file(path).startswith(checksum[1]):
        raise RunError(f"{path} is damaged, its SHA-256 does not start with {checksum[1]}: delete it")
    try:
        return weights.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except (urllib.error.URLError, OSError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        why = str(error).split("In PyTorch")[0].strip()  # without torch's advice to execute the file
        raise RunError(
            f"the weights {member} cannot be downloaded or read ({why}): put {name} from {weights.url} "
            f"into {path.parent}, or leave this method out"
        ) from error
