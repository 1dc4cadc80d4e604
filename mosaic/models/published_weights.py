"""Encoders whose weights others have published: rows with ``weights`` in the table of methods.

Weights are TorchGeo's. Those of ResNets come with their normalisation and expect 13 bands above the
atmosphere: SEN12MS has them, BigEarthNet v2 has 12 bands of surface reflectance. Transformers take images
normalised by the data's own statistics. A wrong band set is refused, never padded.
"""

import urllib.error
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mosaic.models.encoders import Encoder
from mosaic.models.foundation import FOUNDATION, torchgeo_models
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import CheckpointError, RunError

#: Weights that come with a normalisation -> members of ``torchgeo.models.ResNet50_Weights`` for Sentinel-1
#: and Sentinel-2.
PUBLISHED: dict[str, tuple[str, str]] = {
    "moco": ("SENTINEL1_ALL_MOCO", "SENTINEL2_ALL_MOCO"),
    "decur": ("SENTINEL1_ALL_DECUR", "SENTINEL2_ALL_DECUR"),
    "softcon": ("SENTINEL1_GRD_SOFTCON", "SENTINEL2_ALL_SOFTCON"),
}
ENCODER = "resnet50"


def load_published(name: str, layout: BandLayout, image_size: int) -> tuple[Encoder, BandLayout]:
    """Return the encoder of published weights, and the layout with the normalisation they expect.

    Args:
        name: a key of :data:`PUBLISHED` or :data:`FOUNDATION`.
        layout: of the packed data.
        image_size: side of a view; published training used 224 pixels of 10 m.

    Raises:
        CheckpointError: when the data do not hold exactly the bands that the weights expect.
        RunError: when TorchGeo is missing, or the file is neither there nor can be downloaded.
    """
    if name in FOUNDATION:
        return _transformers(name, layout, image_size), layout
    statistics: dict[str, Mapping[str, float]] = {}
    states = {}
    for sensor, member, bands in zip(
        ("s1", "s2"), PUBLISHED[name], (layout.s1_bands, layout.s2_bands), strict=True
    ):
        weights = getattr(torchgeo_models().ResNet50_Weights, member)
        expected = [canonical(band) for band in weights.meta["bands"]]
        _require_bands(member, expected, bands)
        mean, std = _normalisation(weights.transforms, len(expected))
        statistics |= {b: {"mean": m, "std": s} for b, m, s in zip(expected, mean, std, strict=True)}
        state = {k: v for k, v in _state(weights, member).items() if not k.startswith("fc.")}
        order = [expected.index(band) for band in bands]
        states[sensor] = {**state, "conv1.weight": state["conv1.weight"][:, order]}
    encoder = Encoder(ENCODER, _channels(layout), image_size)
    for sensor, state in states.items():
        encoder.backbones[sensor].load_state_dict(state)
    return encoder, replace(layout, statistics=statistics)


def _channels(layout: BandLayout) -> dict[str, int]:
    return {"s1": len(layout.s1_bands), "s2": len(layout.s2_bands)}


def _transformers(name: str, layout: BandLayout, image_size: int) -> Encoder:
    kind, bands = FOUNDATION[name], {"s1": layout.s1_bands, "s2": layout.s2_bands}
    for own in bands.values():
        kind.require(own)
    enum, member = kind.weights
    encoder = Encoder(name, _channels(layout), image_size)
    state = _state(getattr(getattr(torchgeo_models(), enum), member), f"{enum}.{member}")
    backbone: Any
    for sensor, backbone in encoder.backbones.items():
        backbone.take(state, bands[sensor])
    return encoder


def canonical(band: str) -> str:
    """Return a band's name as the archives spell it: ``B1`` is ``B01``, ``B8a`` is ``B8A``."""
    if band in ("VV", "VH"):
        return band
    number = band[1:].upper()
    return f"B{number.zfill(2)}"


def _require_bands(member: str, expected: Sequence[str], bands: Sequence[str]) -> None:
    if set(expected) != set(bands):
        lacking = sorted(set(expected) - set(bands)) or ["none"]
        surplus = sorted(set(bands) - set(expected)) or ["none"]
        raise CheckpointError(
            f"{member} expects {', '.join(expected)}; the packed data lack {', '.join(lacking)} and have "
            f"{', '.join(surplus)} beside: pack exactly those bands (SEN12MS has them, BigEarthNet v2 has no "
            "B10), or leave this method out"
        )


def _normalisation(transforms: Any, bands: int) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each band from TorchGeo's transforms, one value standing for all."""
    step = next(part for part in transforms if hasattr(part, "mean") and hasattr(part, "std"))

    def spread(values: Any) -> list[float]:
        numbers = torch.as_tensor(values, dtype=torch.float64).flatten().tolist()
        return numbers * bands if len(numbers) == 1 else numbers

    return spread(step.mean), spread(step.std)


def _state(weights: Any, member: str) -> dict[str, Tensor]:
    """Return the state dict, from torch's cache or the network."""
    try:
        state: dict[str, Tensor] = weights.get_state_dict(progress=False)
    except (urllib.error.URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        raise RunError(
            f"the weights {member} cannot be had ({error}): put {weights.url.rsplit('/', 1)[-1]} from "
            f"{weights.url} into {folder}, or leave this method out"
        ) from error
    return state
