"""Views: from stored int16 records to normalised, augmented images, batched, on the device of the records.

One affine map of the patch drives the sampling of the 10, 20 and 60 m bands at once, so up-sampling costs
nothing of its own and is never stored. Sampling is bilinear without antialiasing (at 64 pixels from 120 the
reduction stays below two).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mosaic.packed.layout import BandLayout

#: Normalised values are cut at this many standard deviations.
CLIP = 8.0


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the augmentations; all zero (and ``scale`` 1) gives the plain patch.

    Attributes:
        scale: least share of the patch's area in a crop, (0, 1].
        dihedral: random flips and quarter turns.
        s1_gain: standard deviation of a gain shared by VV and VH, dB.
        s1_speckle: standard deviation of further speckle, dB (1.0 is about 19 looks).
        s2_brightness: standard deviation of a factor on all bands of a scene.
        s2_offset: standard deviation of an offset of all bands, in standard deviations.
        band_dropout: probability that an optical band is replaced by its mean.
    """

    scale: float = 0.4
    dihedral: bool = True
    s1_gain: float = 1.0
    s1_speckle: float = 1.0
    s2_brightness: float = 0.15
    s2_offset: float = 0.15
    band_dropout: float = 0.1


class Views:
    """Makes views of records.

    Args:
        layout: bands, groups and normalisation statistics of the packed data.
        image_size: side of a view, pixels.
        shared_geometry: both sensors of a view take the same crop, flip and turn.
        augmentation: strengths.
    """

    def __init__(
        self,
        layout: BandLayout,
        image_size: int,
        shared_geometry: bool = True,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.layout = layout
        self.image_size = image_size
        self.shared_geometry = shared_geometry
        self.augmentation = augmentation or Augmentation()
        self._sensors = {"s1": list(layout.s1_bands), "s2": list(layout.s2_bands)}
        order = {sensor: [b for g in layout.groups if g.sensor == sensor for b in g.bands] for sensor in self._sensors}
        self._order = {s: torch.tensor([order[s].index(b) for b in bands]) for s, bands in self._sensors.items()}
        scale = {band: group.scale for group in layout.groups for band in group.bands}
        # stored * gain + shift is the value in standard deviations from the training mean
        self._gain, self._shift = {}, {}
        for sensor, bands in self._sensors.items():
            mean = torch.tensor([layout.statistics[b]["mean"] for b in bands])
            std = torch.tensor([max(layout.statistics[b]["std"], 1e-6) for b in bands])
            self._gain[sensor] = torch.tensor([scale[b] for b in bands]) / std
            self._shift[sensor] = -mean / std

    def __call__(self, records: Mapping[str, Tensor], generator: torch.Generator | None = None) -> dict[str, Tensor]:
        """Return one random view of each record.

        Args:
            records: group name -> stored int16 (B, bands, size, size).
            generator: source of randomness; it lives on the CPU, so a seed gives the same view on any device.

        Returns:
            ``"s1"`` (B, 2, H, W) and ``"s2"`` (B, bands, H, W), float32, in standard deviations from the
            training mean, bands as in the layout, channels-last.
        """
        batch, device = _shape(records)
        theta = self._random_theta(batch, generator).to(device)
        images = {}
        for sensor in self._sensors:
            if sensor == "s2" and not self.shared_geometry:
                theta = self._random_theta(batch, generator).to(device)
            images[sensor] = self._sample(records, sensor, theta)
        s1 = self._radar(images["s1"], generator)
        s2 = self._optical(images["s2"], generator)
        return {"s1": s1.clamp_(-CLIP, CLIP), "s2": s2.clamp_(-CLIP, CLIP)}

    def evaluation(self, records: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole patch at the view's size, without augmentation. Shapes as in ``__call__``."""
        batch, device = _shape(records)
        theta = torch.eye(2, 3, device=device).expand(batch, 2, 3)
        return {s: self._sample(records, s, theta).clamp_(-CLIP, CLIP) for s in self._sensors}

    def _random_theta(self, batch: int, generator: torch.Generator | None) -> Tensor:
        """Draw affine maps (B, 2, 3) from view to patch coordinates, both in [-1, 1]."""
        strength = self.augmentation
        draw = torch.rand(5, batch, generator=generator)
        area = strength.scale + (1 - strength.scale) * draw[0]
        ratio = torch.exp((draw[1] - 0.5) * 2 * 0.2877)  # 3/4 to 4/3, uniform in the logarithm
        width = (area * ratio).sqrt().clamp(max=1)
        height = (area / ratio).sqrt().clamp(max=1)
        if strength.scale >= 1:
            width, height = torch.ones(batch), torch.ones(batch)
        dx, dy = (2 * draw[2] - 1) * (1 - width), (2 * draw[3] - 1) * (1 - height)
        turn = (draw[4] * 8).long().clamp(max=7) if strength.dihedral else torch.zeros(batch, dtype=torch.long)
        linear = _DIHEDRAL[turn] * torch.stack([width, height], dim=1)[:, :, None]
        return torch.cat([linear, torch.stack([dx, dy], dim=1)[:, :, None]], dim=2)

    def _sample(self, records: Mapping[str, Tensor], sensor: str, theta: Tensor) -> Tensor:
        """Sample all groups of one sensor with one grid and normalise, (B, bands, H, W)."""
        device = theta.device
        side = self.image_size
        grid = functional.affine_grid(theta, [len(theta), 1, side, side], align_corners=False)
        parts = [
            functional.grid_sample(
                records[group.name].float(), grid, mode="bilinear", padding_mode="border", align_corners=False
            )
            for group in self.layout.groups
            if group.sensor == sensor
        ]
        image = torch.cat(parts, dim=1)[:, self._order[sensor].to(device)]
        gain, shift = self._gain[sensor].to(device), self._shift[sensor].to(device)
        image = image * gain[:, None, None] + shift[:, None, None]
        return image.contiguous(memory_format=torch.channels_last)

    def _radar(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """Gain and speckle: additive in dB, so additive here after division by each band's deviation."""
        strength = self.augmentation
        per_db = (self._gain["s1"] / self._scale_of("s1")).to(image.device)
        gain = strength.s1_gain * _normal((len(image), 1, 1, 1), generator, image.device)
        image = image + gain * per_db[:, None, None]
        if strength.s1_speckle > 0:
            speckle = strength.s1_speckle * _normal(tuple(image.shape), generator, image.device)
            image = image + speckle * per_db[:, None, None]
        return image

    def _scale_of(self, sensor: str) -> Tensor:
        scale = {band: group.scale for group in self.layout.groups for band in group.bands}
        return torch.tensor([scale[band] for band in self._sensors[sensor]])

    def _optical(self, image: Tensor, generator: torch.Generator | None) -> Tensor:
        """Brightness as a factor on reflectance, an offset, and dropped bands."""
        strength = self.augmentation
        batch, bands = image.shape[:2]
        factor = torch.exp(strength.s2_brightness * _normal((batch, 1, 1, 1), generator, image.device))
        # in normalised units reflectance is image - shift, so the factor acts around reflectance 0
        zero = self._shift["s2"].to(image.device)[:, None, None]
        image = (image - zero) * factor + zero
        image = image + strength.s2_offset * _normal((batch, 1, 1, 1), generator, image.device)
        if strength.band_dropout > 0:
            keep = torch.rand(batch, bands, 1, 1, generator=generator) >= strength.band_dropout
            image = image * keep.to(image)
        return image


def _shape(records: Mapping[str, Tensor]) -> tuple[int, torch.device]:
    first = next(iter(records.values()))
    return len(first), first.device


def _normal(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=generator).to(device)


#: The eight symmetries of the square as 2 x 2 matrices, (8, 2, 2).
_DIHEDRAL = torch.tensor(
    [
        [[sx, 0], [0, sy]] if not swap else [[0, sx], [sy, 0]]
        for swap in (False, True)
        for sx in (1, -1)
        for sy in (1, -1)
    ],
    dtype=torch.float32,
)
