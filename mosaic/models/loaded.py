"""A trained encoder in use: features and probabilities of images in physical units, and its export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch.nn import functional

from mosaic.datasets.sensors import Sensor
from mosaic.models.encoders import Encoder
from mosaic.store.record_format import BandLayout
from mosaic.transforms.views import CLIP
from mosaic.utils.errors import CheckpointError

_FAR = 3.0  # between units: a mean off by 3 deviations, or a spread by a factor of 20


class LoadedEncoder(nn.Module):
    """A trained encoder, ready for use: in evaluation mode, on the CPU until moved.

    Images are given by sensor: dB for ``s1``, DN (reflectance x 1e4) for ``s2``, NumPy or torch, one patch
    (bands, H, W) or several (B, bands, H, W), with the bands of :attr:`bands` up-sampled to one size of any
    H and W. Each method raises a CheckpointError for no sensor or an unknown one, other bands, NaN, or values
    that look like another unit beside the statistics of the training data.
    """

    def __init__(self, encoder: Encoder, classifier: nn.Module | None, card: Mapping[str, Any]) -> None:
        super().__init__()
        self.card = dict(card)  # content of card.json: method, class names, bands, settings, timing
        self.encoder, self.classifier = encoder, classifier
        #: With the statistics it was trained with.
        self.layout = TypeAdapter(BandLayout).validate_python(card["layout"])
        #: Class -> probability from which on it is present; those of a run are chosen on validation.
        self.thresholds: dict[str, float] = dict.fromkeys(card["class_names"], 0.5)
        #: Features (sum of F,) that stand in for a missing stream; those of a run are its training mean.
        self.mean: Tensor
        self.register_buffer("mean", torch.zeros(sum(encoder.feature_dims.values())), persistent=False)

    @property
    def bands(self) -> dict[str, tuple[str, ...]]:
        """Sensor -> its bands in the order in which they are expected."""
        taken = {sensor for sensors in self.encoder.in_channels.values() for sensor in sensors}
        return {sensor.name: sensor.bands for sensor in self.layout.sensors if sensor.name in taken}

    def __repr__(self) -> str:
        lines = [f"{self.card['method']}: {self.encoder.name}, {len(self.mean)} features"]
        for name, bands in self.bands.items():
            lines.append(f"  {name} ({self.layout.sensor(name).unit}): {', '.join(bands)}")
        if self.classifier is not None:
            lines.append(f"  {len(self.thresholds)} classes: {', '.join(self.thresholds)}")
        return "\n".join(lines)

    def forward(self, images: Mapping[str, Tensor]) -> Tensor:
        """Return the joined features of images (B, bands, H, W) of all sensors, which are not checked."""
        return self.encoder.fused(self.encoder({s: self._normalised(s, i) for s, i in images.items()}))

    def embed(self, *, differentiable: bool = False, **images: Tensor | NDArray[Any]) -> Any:
        """Return the joined features of all streams: (sum of F,) of one patch, (B, sum of F) of several.

        They are an array where all images are, otherwise a tensor, and so with ``differentiable``: with a
        graph to images and weights. :attr:`mean` stands in for a missing sensor.

        Example:
            >>> encoder = mosaic.load("demo", "mosaic")
            >>> features = encoder.embed(s1=s1_in_db, s2=s2_in_dn)
        """
        with torch.inference_mode(not differentiable):
            features = self.encoder.fused(self.encoder(self.normalise(**images)), self.mean)
        if all(image.ndim == 3 for image in images.values()):
            features = features[0]
        arrays = not differentiable and not any(isinstance(image, Tensor) for image in images.values())
        return features.cpu().numpy() if arrays else features

    def predict(self, **images: Any) -> dict[str, Any]:
        """Return class -> probability, of several patches (B,); compare it with :attr:`thresholds`."""
        features = np.asarray(torch.as_tensor(self.embed(**images)).cpu())
        probabilities = self.classify(np.atleast_2d(features)).T
        values = probabilities if features.ndim == 2 else probabilities[:, 0].tolist()
        return dict(zip(self.thresholds, values, strict=True))

    @torch.inference_mode()
    def classify(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the probability of each class (N, C) from joined features (N, sum of F).

        CheckpointError when there is neither a classifier nor a probe.
        """
        if self.classifier is None:
            remedy = "load it from a run whose evaluations hold 'linear', or fine-tune"
            raise CheckpointError(f"{self.card['method']!r} trains no classifier: {remedy}")
        logits = self.classifier(torch.from_numpy(features).to(next(self.classifier.parameters()).device))
        return torch.sigmoid(logits).cpu().numpy()

    def normalise(self, **images: Tensor | NDArray[Any]) -> dict[str, Tensor]:
        """Return what the backbones see: (B, bands, side, side) in standard deviations from the mean."""
        if not images or set(images) - set(self.bands):
            found = ", ".join(images) or "nothing"
            raise CheckpointError(f"images are of one or more of {', '.join(self.bands)}, found {found}")
        checked = {name: self._checked(name, image) for name, image in images.items()}
        numbers = {name: len(image) for name, image in checked.items()}
        if len({*numbers.values()}) > 1:
            raise CheckpointError(f"different numbers of images, {numbers}: give the same scenes")
        return {name: self._normalised(name, image) for name, image in checked.items()}

    def _moments(self, name: str) -> Tensor:
        """Return mean and deviation of a sensor's bands, (2, bands, 1, 1)."""
        known = [self.layout.statistics[band] for band in self.layout.sensor(name).bands]
        moments = [[band["mean"] for band in known], [band["std"] or 1.0 for band in known]]
        return torch.tensor(moments, device=self.mean.device)[:, :, None, None]

    def _normalised(self, name: str, image: Tensor) -> Tensor:
        side, (mean, std) = self.encoder.image_size, self._moments(name)
        image = functional.interpolate(image, (side, side), mode="bilinear", align_corners=False)
        return ((image - mean) / std).clamp(-CLIP, CLIP)

    def _checked(self, name: str, given: Tensor | NDArray[Any]) -> Tensor:
        """Return images (B, bands, H, W) on the device of the encoder."""
        sensor = self.layout.sensor(name)
        image = given if isinstance(given, Tensor) else torch.from_numpy(np.array(given, dtype=np.float32))
        image = (image[None] if image.ndim == 3 else image).to(self.mean)
        if image.ndim != 4 or image.shape[1] != len(sensor.bands) or not image.numel():
            raise CheckpointError(
                f"{name} has shape {tuple(given.shape)}, expected ([images,] bands, height, width) "
                f"of {len(sensor.bands)} bands: {', '.join(sensor.bands)}"
            )
        if not image.isfinite().all():
            raise CheckpointError(f"{name} holds NaN or infinite values: fill them or leave the images out")
        mean, std = self._moments(name)
        if found := _other_unit(sensor, image.detach(), mean, std):
            raise CheckpointError(
                f"{name} looks like {found}: this encoder expects {sensor.unit}, in training with means of "
                f"{_listed(mean)} and deviations of {_listed(std)}"
            )
        return image

    def export(self, path: Path | str) -> Path:
        """Write a graph from images of all sensors, (B, bands, H, W) each in its unit, to joined features.

        The suffix says how: ``.onnx`` (needs onnxscript) or ``.pt2`` (``torch.export.load``); CheckpointError
        for another. Number and size of images are free; nothing of them is checked.
        """
        path = Path(path)
        if path.suffix not in (".onnx", ".pt2"):
            raise CheckpointError(f"{path} ends in neither .onnx nor .pt2: name it so")
        dim, images, free = torch.export.Dim, {}, {}
        for name, bands in self.bands.items():
            images[name] = torch.zeros(2, len(bands), 96, 80).to(self.mean)
            free[name] = {0: dim("batch"), 2: dim(f"{name}_height"), 3: dim(f"{name}_width")}
        program = torch.export.export(self, (images,), dynamic_shapes={"images": free})
        if path.suffix == ".pt2":
            torch.export.save(program, path)
        else:
            torch.onnx.export(
                program, f=path, dynamo=True, external_data=False, verbose=False, input_names=list(images)
            )
        return path


def _listed(values: Tensor) -> str:
    return ", ".join(f"{value:.4g}" for value in values.flatten().tolist())


def _other_unit(sensor: Sensor, image: Tensor, mean: Tensor, std: Tensor) -> str | None:
    """Return the unit in which images would be far more like the training data than as they are."""
    units = {"standard deviations from the mean": image * std + mean}
    if sensor.scale != 1:
        units[f"multiples of {sensor.scale:g} {sensor.unit}"] = image * sensor.scale
    if sensor.unit == "dB" and image.min() >= 0:
        units["linear power"] = 10 * image.clamp_min(1e-6).log10()
    if sensor.unit == "dB" and image.mean() > 0:
        units["dB without their sign"] = -image
    if sensor.unit == "DN" and image.max() <= 255:
        units["8 bits"] = image * (1e4 / 255)
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
