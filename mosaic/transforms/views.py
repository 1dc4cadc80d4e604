"""Views: from stored int16 records to normalised, augmented images, batched, on the device of the records.

One affine map of the patch drives the sampling of the 10, 20 and 60 m bands at once, so up-sampling costs
nothing of its own and is never stored. Sampling is bilinear without antialiasing: from 120 to 64 pixels the
reduction stays below two. On a CPU it is done by :mod:`mosaic.transforms.cpu_sampling`, elsewhere by
:mod:`mosaic.transforms.torch_sampling`, on a GPU in fused kernels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from mosaic.store.record_format import BandGroup, BandLayout
from mosaic.transforms import torch_sampling
from mosaic.utils.errors import SettingsError

#: Normalised values are cut at this many standard deviations.
CLIP = 8.0

_LOG_ASPECT = 0.28768207  # log(4/3): crops are between 3:4 and 4:3


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the augmentations.

    Attributes:
        scale: least share of the patch's area in a crop, in (0, 1]; 1 keeps the whole patch.
        dihedral: random flips and quarter turns.
        s1_gain: standard deviation of a gain common to VV and VH, dB.
        s1_speckle: standard deviation of further speckle, dB; 1.0 is that of about 19 looks.
        s2_brightness: standard deviation of the logarithm of a factor on the reflectance of a scene.
        s2_offset: standard deviation of an offset of all bands, in standard deviations of the band.
        band_dropout: probability that an optical band is replaced by its mean, in [0, 1).

    Raises:
        SettingsError: for a value outside its range.
    """

    scale: float = 0.4
    dihedral: bool = True
    s1_gain: float = 1.0
    s1_speckle: float = 1.0
    s2_brightness: float = 0.15
    s2_offset: float = 0.15
    band_dropout: float = 0.1

    @classmethod
    def scaled(cls, scale: float = 0.4, radiometry: float = 1.0) -> "Augmentation":
        """Return the defaults, with crops of at least ``scale`` and ``radiometry`` times the radiometry."""
        names = ("s1_gain", "s1_speckle", "s2_brightness", "s2_offset", "band_dropout")
        return cls(scale=scale, **{name: radiometry * getattr(cls, name) for name in names})

    def __post_init__(self) -> None:
        if not 0 < self.scale <= 1:
            raise SettingsError(f"scale of the crops is {self.scale}; it must be above 0 and at most 1")
        if not 0 <= self.band_dropout < 1:
            raise SettingsError(f"band_dropout is {self.band_dropout}; it must be at least 0 and below 1")


@dataclass(frozen=True)
class _Sensor:
    """How one sensor is read. ``stored * gain + shift`` is in standard deviations from the training mean.

    Attributes:
        groups: its groups.
        places: for each group, the channels of its bands in the view.
        gain: (bands, 1, 1).
        shift: (bands, 1, 1).
        per_db: what one dB is in standard deviations, (bands, 1, 1); only of use for S1.
    """

    groups: tuple[BandGroup, ...]
    places: tuple[Tensor, ...]
    gain: Tensor
    shift: Tensor
    per_db: Tensor

    @classmethod
    def of(cls, layout: BandLayout, name: str, device: torch.device) -> "_Sensor":
        bands = {"s1": layout.s1_bands, "s2": layout.s2_bands}[name]
        groups = tuple(group for group in layout.groups if group.sensor == name)
        places = tuple(torch.tensor([bands.index(b) for b in group.bands], device=device) for group in groups)
        scale = torch.tensor([layout.group_of(band)[0].scale for band in bands])
        mean = torch.tensor([layout.statistics[band]["mean"] for band in bands])
        # a band that never varies is centred and otherwise left alone
        deviation = torch.tensor([layout.statistics[band]["std"] or 1.0 for band in bands])
        constants = (scale / deviation, -mean / deviation, 1 / deviation)
        gain, shift, per_db = (constant.view(-1, 1, 1).to(device) for constant in constants)
        return cls(groups, places, gain, shift, per_db)


class Views:
    """Makes views of records.

    Args:
        layout: bands, groups and normalisation statistics of the packed data.
        image_size: side of a view, pixels.
        shared_geometry: both sensors of a view take the same crop, flip and turn.
        augmentation: strengths; the defaults of :class:`Augmentation` when not given.
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
        self._names = [name for name in ("s1", "s2") if any(group.sensor == name for group in layout.groups)]
        self._sensors: dict[tuple[str, torch.device], _Sensor] = {}

    @torch.no_grad()
    def __call__(
        self,
        records: Mapping[str, Tensor],
        generator: torch.Generator | None = None,
        part: tuple[int, int] = (0, 1),
        out: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return one random view of each record.

        Args:
            records: group name -> stored int16 (B, bands, size, size). Sensors without a group here are
                left out.
            generator: source of randomness. Numbers are drawn on its device and moved to the records; without
                one, on the device of the records.
            part: (i, n): the records are part i of n equal parts of a batch. Numbers are drawn for the whole
                batch, so that a scene's view does not depend on how many processes share the work.
            out: images to write into, as :meth:`allocate` makes them.

        Returns:
            ``"s1"`` (B, 2, H, W) and ``"s2"`` (B, bands, H, W): float32, in standard deviations from the
            training mean, within +-``CLIP``, bands in the layout's canonical order.
        """
        batch, device = _shape(records)
        draw = _Draw(generator, device, batch, part)
        theta = self._random_theta(draw)
        images = {}
        for name in self._present(records):
            sensor = self._sensor(name, device)
            if name == "s2" and not self.shared_geometry:
                theta = self._random_theta(draw)
            scale, offset = self._radar(sensor, draw) if name == "s1" else self._optical(sensor, draw)
            noise = None
            if name == "s1" and self.augmentation.s1_speckle > 0:
                noise = draw.seeds(), self.augmentation.s1_speckle * sensor.per_db.flatten()
            image = out[name] if out else self._empty(sensor, batch, device)
            images[name] = self._sample(records, sensor, theta, scale, offset, noise, image)
        return images

    @torch.no_grad()
    def evaluation(self, records: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole patch at the view's size, without augmentation; shapes as in ``__call__``."""
        batch, device = _shape(records)
        theta = torch.eye(2, 3, device=device).expand(batch, 2, 3)
        images = {}
        for name in self._present(records):
            sensor = self._sensor(name, device)
            plain = sensor.gain.expand(batch, -1, 1, 1), sensor.shift.expand(batch, -1, 1, 1)
            image = self._empty(sensor, batch, device)
            images[name] = self._sample(records, sensor, theta, *plain, None, image)
        return images

    def allocate(self, records: Mapping[str, Tensor], views: int) -> dict[str, Tensor]:
        """Return uninitialised images (views x B, bands, H, W) of the sensors that the records show."""
        batch, device = _shape(records)
        present = {name: self._sensor(name, device) for name in self._present(records)}
        return {name: self._empty(sensor, views * batch, device) for name, sensor in present.items()}

    def _empty(self, sensor: _Sensor, batch: int, device: torch.device) -> Tensor:
        # the first convolution of a network in channels-last takes either; each sampler writes what it can
        memory = torch.contiguous_format if device.type == "cpu" else torch.channels_last
        shape = (batch, len(sensor.gain), self.image_size, self.image_size)
        return torch.empty(shape, device=device, memory_format=memory)

    def _present(self, records: Mapping[str, Tensor]) -> list[str]:
        given = {group.sensor for group in self.layout.groups if group.name in records}
        return [name for name in self._names if name in given]

    def _sensor(self, name: str, device: torch.device) -> _Sensor:
        if (name, device) not in self._sensors:
            self._sensors[name, device] = _Sensor.of(self.layout, name, device)
        return self._sensors[name, device]

    def _random_theta(self, draw: "_Draw") -> Tensor:
        """Draw affine maps (B, 2, 3) from view to patch coordinates, both (x, y) in [-1, 1]."""
        strength = self.augmentation
        uniform = draw.uniform(5).T
        area = strength.scale + (1 - strength.scale) * uniform[0]
        aspect = torch.exp(_LOG_ASPECT * (2 * uniform[1] - 1))
        # a crop longer than the patch is cut to it; for the whole patch that is both sides
        width = (area * aspect).sqrt().clamp(max=1) if strength.scale < 1 else torch.ones_like(area)
        height = (area / aspect).sqrt().clamp(max=1) if strength.scale < 1 else torch.ones_like(area)
        half = torch.stack([width, height], dim=1)[:, :, None]
        centre = (2 * uniform[2:4].T[:, :, None] - 1) * (1 - half)
        symmetry = (8 * uniform[4]).long() if strength.dihedral else torch.zeros_like(area, dtype=torch.long)
        return torch.cat([half * _SYMMETRIES.to(uniform.device)[symmetry], centre], dim=2)

    def _radar(self, sensor: _Sensor, draw: "_Draw") -> tuple[Tensor, Tensor]:
        """Draw a gain: a factor on the backscatter, so an offset in dB. Returns as ``_optical``."""
        gain = self.augmentation.s1_gain * draw.normal(1, 1, 1)
        return sensor.gain.expand(len(gain), -1, 1, 1), sensor.shift + gain * sensor.per_db

    def _optical(self, sensor: _Sensor, draw: "_Draw") -> tuple[Tensor, Tensor]:
        """Draw a factor on reflectance, an offset, and bands to be put to their mean.

        Returns:
            a and b, (B, bands, 1, 1) each: the view is stored * a + b.
        """
        strength = self.augmentation
        factor = torch.exp(strength.s2_brightness * draw.normal(1, 1, 1))
        offset = strength.s2_offset * draw.normal(1, 1, 1)
        keep = (draw.uniform(len(sensor.gain), 1, 1) >= strength.band_dropout).float()
        return sensor.gain * factor * keep, (sensor.shift + offset) * keep

    def _sample(
        self,
        records: Mapping[str, Tensor],
        sensor: _Sensor,
        theta: Tensor,
        scale: Tensor,
        offset: Tensor,
        noise: tuple[Tensor, Tensor] | None,
        image: Tensor,
    ) -> Tensor:
        """Sample the bands of one sensor where ``theta`` says: stored * scale + offset + noise, cut.

        Args:
            records: group name -> stored int16 (B, bands, size, size).
            sensor: what to read.
            theta: (B, 2, 3).
            scale: (B, bands, 1, 1).
            offset: (B, bands, 1, 1).
            noise: seeds (B,) of :func:`torch_sampling.grain` and its strength (bands,), or None.
            image: (B, bands, H, W) to write; returned.
        """
        for group, places in zip(sensor.groups, sensor.places, strict=True):
            stored = records[group.name]
            _sampler(image.device.type)(stored, theta, scale, offset, places, image, CLIP, noise)
        return image


@cache
def _sampler(device: str) -> Callable[..., None]:
    """Return what samples fastest on a type of device, of what is installed."""
    if device == "cpu" and find_spec("numba") is not None:
        from mosaic.transforms.cpu_sampling import sample  # compiled when a CPU first samples

        return sample
    if device == "cuda" and find_spec("triton") is not None:
        return torch_sampling.Fused()
    return torch_sampling.sample


class _Draw:
    """Random numbers for one part of a batch, drawn for all of it from one generator."""

    def __init__(
        self,
        generator: torch.Generator | None,
        device: torch.device,
        batch: int,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._generator = generator
        self._source = device if generator is None else generator.device
        self._device = device
        number, parts = part
        self._whole, self._own = batch * parts, slice(batch * number, batch * (number + 1))

    def _keep(self, drawn: Tensor) -> Tensor:
        return drawn[self._own].to(self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Return (B, *shape) in [0, 1)."""
        return self._keep(torch.rand((self._whole, *shape), generator=self._generator, device=self._source))

    def normal(self, *shape: int) -> Tensor:
        """Return (B, *shape) of the standard normal distribution."""
        return self._keep(torch.randn((self._whole, *shape), generator=self._generator, device=self._source))

    def seeds(self) -> Tensor:
        """Return (B,) int32."""
        low, high = -(2**31), 2**31
        return self._keep(
            torch.randint(low, high, (self._whole,), generator=self._generator, device=self._source)
        ).int()


def _shape(records: Mapping[str, Tensor]) -> tuple[int, torch.device]:
    first = next(iter(records.values()))
    return len(first), first.device


#: The eight symmetries of the square as matrices acting on (x, y), (8, 2, 2); the first is the identity.
_SYMMETRIES = torch.tensor(
    [
        matrix
        for x in (1.0, -1.0)
        for y in (1.0, -1.0)
        for matrix in ([[x, 0.0], [0.0, y]], [[0.0, x], [y, 0.0]])
    ]
)
