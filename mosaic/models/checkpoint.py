"""Trained encoders as files: safetensors weights and a JSON card that says everything needed to use them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional

from mosaic.datasets.sensors import Sensor
from mosaic.models.encoders import FUSIONS, STATISTICS, Encoder, timm_recipe
from mosaic.models.foundation import FOUNDATION
from mosaic.models.heads import ChoquetClassifier
from mosaic.store.record_format import BandLayout
from mosaic.transforms.views import CLIP
from mosaic.utils.errors import CheckpointError, SettingsError
from mosaic.utils.files import (
    atomic_path,
    read_json,
    require_regular,
    sealed,
    sha256_file,
    unsealed,
    write_json,
)

WEIGHTS = "encoder.safetensors"
CARD = "card.json"
FORMAT = 3
_FAR = 3.0  # between units: a mean off by 3 deviations, or a spread by a factor of 20


class LoadedEncoder(nn.Module):
    """A trained encoder, ready for use: in evaluation mode, on the CPU until moved."""

    def __init__(self, encoder: Encoder, classifier: nn.Module | None, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.card = dict(card)  # content of card.json: method, class names, bands, settings, timing
        self.encoder, self.classifier = encoder, classifier
        self.layout = TypeAdapter(BandLayout).validate_python(
            card["layout"]
        )  # with the statistics it was trained with

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode normalised images as :meth:`Encoder.forward` does."""
        return self.encoder(images)

    @torch.inference_mode()
    def embed(self, images: Mapping[str, Tensor | NDArray[Any]]) -> Tensor:
        """Return the joined features of images in physical units; a missing sensor counts as zeros.

        Args:
            images: sensor -> (B, bands, H, W) in its unit: dB for ``"s1"``, DN (reflectance x 1e4) for
                ``"s2"``. Bands as in ``layout.sensor("s2").bands``, up-sampled to one size; any H and W.

        Returns:
            (B, sum of F) features of all streams in their order.

        Raises:
            CheckpointError: for no sensor or an unknown one, other bands, NaN, or values that look like
                another unit beside the statistics of the training data.
        """
        known = self.layout.sensor_names
        if not isinstance(images, Mapping) or not images or set(images) - set(known):
            found = type(images).__name__ if not isinstance(images, Mapping) else ", ".join(map(str, images))
            found = found or "nothing"
            raise CheckpointError(
                f"images are a mapping from one or more of {', '.join(known)}, found {found}"
            )
        normalised = {sensor: self._normalise(sensor, image) for sensor, image in images.items()}
        numbers = {sensor: len(image) for sensor, image in normalised.items()}
        if len({*numbers.values()}) > 1:
            raise CheckpointError(
                f"sensors show different numbers of images, {numbers}: give the same scenes"
            )
        return self.encoder.fused(self(normalised))

    @torch.inference_mode()
    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each class (N, C) from joined features (N, sum of F).

        CheckpointError when the encoder was trained without a classifier.
        """
        if self.classifier is None:
            raise CheckpointError(f"{self.card['method']!r} trains no classifier: use a probe, or fine-tune")
        logits = self.classifier(torch.from_numpy(features).to(next(self.classifier.parameters()).device))
        return torch.sigmoid(logits).cpu().numpy()

    def _normalise(self, name: str, given: Tensor | NDArray[Any]) -> Tensor:
        sensor = self.layout.sensor(name)
        image = given if isinstance(given, Tensor) else torch.from_numpy(np.array(given, dtype=np.float32))
        image = image.to(next(self.encoder.parameters(), image)).float()  # statistics have none
        if image.ndim != 4 or image.shape[1] != len(sensor.bands) or not image.numel():
            raise CheckpointError(
                f"{name} has shape {tuple(image.shape)}, expected (images, bands, height, width) of "
                f"{len(sensor.bands)} bands: {', '.join(sensor.bands)}"
            )
        if not image.isfinite().all():
            raise CheckpointError(f"{name} holds NaN or infinite values: fill them or leave the images out")
        mean, std = (
            torch.tensor([self.layout.statistics[b][key] for b in sensor.bands]).to(image).view(-1, 1, 1)
            for key in ("mean", "std")
        )
        std = std.clamp_min(1e-6)
        if found := _other_unit(sensor, image, mean, std):
            raise CheckpointError(
                f"{name} looks like {found}: this encoder expects {sensor.unit}, in training with means of "
                f"{_listed(mean)} and deviations of {_listed(std)}"
            )
        side = self.encoder.image_size
        image = functional.interpolate(image, (side, side), mode="bilinear", align_corners=False)
        return ((image - mean) / std).clamp_(-CLIP, CLIP)


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.flatten().tolist())


def _other_unit(sensor: Sensor, image: Tensor, mean: Tensor, std: Tensor) -> str | None:
    """Return the unit in which images would be far more like the training data than as they are."""
    units = {"standard deviations from the mean": image * std + mean}
    if sensor.scale != 1:
        units[f"multiples of {sensor.scale:g} {sensor.unit}"] = image * sensor.scale
    if sensor.unit == "dB" and image.min() >= 0:
        units["linear power"] = 10 * image.clamp_min(1e-6).log10()
    if sensor.unit == "DN" and image.max() <= 2:
        units["reflectance in [0, 1]"] = image * 1e4
    if sensor.unit == "DN" and image.max() <= 200:
        units["reflectance in percent"] = image * 100

    def distance(values: Tensor) -> float:
        """In deviations of the mean, and in e-foldings of the spread."""
        spread, average = torch.std_mean(values, (0, 2, 3), correction=0)
        off = (average - mean.flatten()).abs() / std.flatten() + (spread / std.flatten()).log().abs()
        return float(off.mean())

    distances = {unit: distance(values) for unit, values in units.items()}
    best = min(distances, key=distances.__getitem__)
    return best if distance(image) - distances[best] > _FAR else None


def save_encoder(
    folder: Path, encoder: Encoder, card: Mapping[str, Any], classifier: nn.Module | None = None
) -> None:
    """Write ``encoder.safetensors`` and then ``card.json``, which marks the folder finished.

    The card has ``layout``, ``method`` and ``class_names`` at least; the classifier sees the joined features.
    """
    parts = {"encoder": encoder, **({} if classifier is None else {"classifier": classifier})}
    tensors = nn.ModuleDict(parts).state_dict()
    with atomic_path(folder / WEIGHTS) as partial:
        content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        partial.write_bytes(content)  # OSError where the disk is full; safetensors' own is none
    kind = "choquet" if isinstance(classifier, ChoquetClassifier) else "linear"
    size, timm_model = encoder.image_size, encoder.name not in (*FUSIONS, *FOUNDATION, STATISTICS)
    bands = {s: sum(sensors.values()) for s, sensors in encoder.in_channels.items() if timm_model}
    architecture = {
        "format": FORMAT,
        "encoder": encoder.name,
        "timm": {stream: timm_recipe(encoder.name, number, size) for stream, number in bands.items()},
        "in_channels": encoder.in_channels,
        "image_size": encoder.image_size,
        "feature_dims": encoder.feature_dims,
        "classifier": None if classifier is None else kind,
        "weights": {"file": WEIGHTS, "sha256": sha256_file(folder / WEIGHTS)},
    }
    write_json(folder / CARD, sealed({**architecture, **card}))


def read_card(path: Path | str) -> dict[str, Any]:
    """Return the card of a finished checkpoint; CheckpointError when a file is missing or changed."""
    folder, remedy = Path(path), "train the encoder again, in an empty folder"

    def unchanged(card: dict[str, Any]) -> dict[str, Any]:
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']}, this code reads {FORMAT}")
        return unsealed(card)

    card: dict[str, Any] = read_json(
        folder / CARD, {"format": int}, build=unchanged, error=CheckpointError, remedy=remedy
    )
    weights, expected = folder / WEIGHTS, card["weights"]["sha256"]
    require_regular(weights, CheckpointError, remedy)
    if (sha256 := sha256_file(weights)) != expected:
        raise CheckpointError(
            f"{weights} is damaged: SHA-256 {sha256[:12]}…, expected {expected[:12]}…: {remedy}"
        )
    return card


def load_encoder(path: Path | str) -> LoadedEncoder:
    """Load a trained encoder from the folder of its checkpoint.

    Example:
        >>> import mosaic
        >>> encoder = mosaic.load_encoder("path/of/the/checkpoint")
        >>> embedding = encoder.embed({"s1": s1_in_db, "s2": s2_in_dn})

    Raises:
        CheckpointError: when it is missing, damaged, or of another architecture than its card says.
    """
    card = read_card(path)
    classifier: nn.Module | None = None
    try:
        encoder = Encoder(card["encoder"], card["in_channels"], card["image_size"])
        widths, classes = encoder.feature_dims, len(card["class_names"])
        if card["classifier"] == "choquet":
            classifier = ChoquetClassifier(widths, classes)
        elif card["classifier"]:
            classifier = nn.Linear(sum(widths.values()), classes)
        loaded = LoadedEncoder(encoder, classifier, card)
        loaded.load_state_dict(load_file(Path(path) / WEIGHTS))
    except (SafetensorError, SettingsError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{Path(path) / WEIGHTS} cannot be read as encoder {card['encoder']!r} ({reason}): train it again"
        ) from error
    return loaded.eval()


def layout_for(encoder: LoadedEncoder, layout: BandLayout) -> BandLayout:
    """Return the layout of other data with the normalisation statistics that the encoder was trained with.

    CheckpointError when the bands are not the encoder's.
    """
    trained = encoder.layout
    if trained.bands != layout.bands:
        raise CheckpointError(
            f"the encoder was trained on {', '.join(trained.bands)}, the data hold "
            f"{', '.join(layout.bands)}: pack the same bands, or train again"
        )
    return replace(layout, statistics=trained.statistics)


def to_timm_state_dict(encoder: LoadedEncoder, stream: str) -> dict[str, Tensor]:
    """Return the weights of one stream, such as ``"s2"``, under timm's own names.

    They load into ``timm.create_model(**encoder.card["timm"][stream])``. CheckpointError for no such stream.
    """
    backbones = encoder.encoder.backbones
    if stream not in backbones:
        raise CheckpointError(f"this encoder has no stream {stream!r}, only {', '.join(backbones)}")
    return {name: value.detach().clone() for name, value in backbones[stream].state_dict().items()}
