"""Views: from stored int16 records to normalised, augmented images, batched, on the device of the records.

One affine map of the patch drives the sampling of all band sizes at once, so up-sampling costs nothing of its
own and is never stored. Sampling is bilinear without antialiasing: from 120 to 64 pixels the reduction stays
below two. On a CPU it is done by :mod:`mosaic.transforms.cpu_sampling`, elsewhere by
:mod:`mosaic.transforms.torch_sampling`, on a GPU in fused kernels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec

import torch
from torch import Tensor

from mosaic.datasets.sensors import Sensor
from mosaic.store.record_format import BandLayout
from mosaic.transforms import torch_sampling
from mosaic.utils.errors import SettingsError

#: Normalised values are cut at this many standard deviations.
CLIP = 8.0

_LOG_ASPECT = 0.28768207  # log(4/3): crops are between 3:4 and 4:3


@dataclass(frozen=True)
class _Constants:
    """Normalisation of one sensor: ``stored * gain + shift`` is in standard deviations from the mean.

    Attributes:
        sensor: bands and strengths of augmentation.
        channels: group name -> channels (bands,) of its bands in the view.
        gain: (bands, 1, 1).
        shift: (bands, 1, 1).
        per_unit: one physical unit in standard deviations, (bands, 1, 1).
    """

    sensor: Sensor
    channels: Mapping[str, Tensor]
    gain: Tensor
    shift: Tensor
    per_unit: Tensor

    @classmethod
    def of(cls, layout: BandLayout, sensor: Sensor, device: torch.device) -> "_Constants":
        channels = {
            group.name: torch.tensor([sensor.bands.index(band) for band in group.bands], device=device)
            for group in layout.groups
            if group.sensor == sensor.name
        }
        mean = torch.tensor([layout.statistics[band]["mean"] for band in sensor.bands])
        # a band that never varies is centred and otherwise left alone
        deviation = torch.tensor([layout.statistics[band]["std"] or 1.0 for band in sensor.bands])
        constants = (torch.full_like(mean, sensor.scale) / deviation, -mean / deviation, 1 / deviation)
        gain, shift, per_unit = (constant.view(-1, 1, 1).to(device) for constant in constants)
        return cls(sensor, channels, gain, shift, per_unit)


class Views:
    """Makes views of records: random ones for training, and plain ones of the whole patch for evaluation.

    Example:
        >>> make = Views(store.layout, image_size=64)
        >>> records = {name: torch.from_numpy(values) for name, values in store.read(rows).items()}
        >>> make(records, torch.Generator().manual_seed(0))["s2"].shape
        torch.Size([8, 12, 64, 64])

    Args:
        layout: sensors, groups and normalisation statistics of the packed data.
        image_size: side of a view, pixels.
        shared_geometry: all sensors of a view take the same crop, flip and turn.
        crop_scale: least share of the patch's area in a crop, in (0, 1]; 1 keeps the whole patch.
        dihedral: random flips and quarter turns.
        radiometry: factor on the strengths of each sensor's :class:`~mosaic.datasets.sensors.Augmentation`.

    Raises:
        SettingsError: when ``crop_scale`` or a probability of dropping a band is out of range.
    """

    def __init__(
        self,
        layout: BandLayout,
        image_size: int,
        shared_geometry: bool = True,
        crop_scale: float = 0.4,
        dihedral: bool = True,
        radiometry: float = 1.0,
    ) -> None:
        if not 0 < crop_scale <= 1:
            raise SettingsError(f"crop_scale is {crop_scale}; it must be above 0 and at most 1")
        for sensor in layout.sensors:
            if not 0 <= radiometry * sensor.augmentation.band_dropout < 1:
                raise SettingsError(
                    f"band_dropout of {sensor.title} is {sensor.augmentation.band_dropout} x {radiometry}; "
                    "it must be at least 0 and below 1: lower radiometry"
                )
        self.layout = layout
        self.image_size = image_size
        self.shared_geometry = shared_geometry
        self.crop_scale = crop_scale
        self.dihedral = dihedral
        self.radiometry = radiometry
        self._cache: dict[tuple[str, torch.device], _Constants] = {}

    @torch.no_grad()
    def __call__(
        self,
        records: Mapping[str, Tensor],
        generator: torch.Generator | None = None,
        shard: tuple[int, int] = (0, 1),
        out: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return one random view of each record.

        Args:
            records: group name -> stored int16 (B, bands, size, size). Sensors without a group here are
                left out.
            generator: source of randomness. Numbers are drawn on its device and moved to the records; without
                one, on the device of the records.
            shard: (shard_index, num_shards): the records are one of equal shards of a batch. Numbers are
                drawn for the whole batch, so that a scene's view does not depend on how many processes share
                the work.
            out: images to write into, as :meth:`allocate` makes them.

        Returns:
            Sensor -> (B, bands, H, W): float32, in standard deviations from the training mean, within
            +-``CLIP``, bands in the sensor's canonical order.
        """
        batch, device = _shape(records)
        draw = _Draw(generator, device, batch, shard)
        theta = self._random_theta(draw)
        images = {}
        for constants in self._present(records, device):
            name = constants.sensor.name
            if not self.shared_geometry and name != self.layout.sensor_names[0]:
                theta = self._random_theta(draw)
            image = out[name] if out else self._empty(constants, batch, device)
            _sample(records, constants, theta, *self._radiometry(constants, draw, batch), image)
            images[name] = image
        return images

    @torch.no_grad()
    def evaluation(self, records: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole patch at the view's size, without augmentation; shapes as in ``__call__``."""
        batch, device = _shape(records)
        theta = torch.eye(2, 3, device=device).expand(batch, 2, 3)
        images = {}
        for constants in self._present(records, device):
            image = images[constants.sensor.name] = self._empty(constants, batch, device)
            scale, shift = (c.expand(batch, -1, 1, 1) for c in (constants.gain, constants.shift))
            _sample(records, constants, theta, scale, shift, None, image)
        return images

    def allocate(self, records: Mapping[str, Tensor], views: int) -> dict[str, Tensor]:
        """Return uninitialised images (views x B, bands, H, W) of the sensors that the records show."""
        batch, device = _shape(records)
        present = self._present(records, device)
        return {c.sensor.name: self._empty(c, views * batch, device) for c in present}

    def _empty(self, constants: _Constants, batch: int, device: torch.device) -> Tensor:
        # the first convolution of a network in channels-last takes either; each sampler writes what it can
        memory = torch.contiguous_format if device.type == "cpu" else torch.channels_last
        shape = (batch, len(constants.gain), self.image_size, self.image_size)
        return torch.empty(shape, device=device, memory_format=memory)

    def _present(self, records: Mapping[str, Tensor], device: torch.device) -> list[_Constants]:
        names = {group.sensor for group in self.layout.groups if group.name in records}
        for sensor in self.layout.sensors:
            if sensor.name in names and (sensor.name, device) not in self._cache:
                self._cache[sensor.name, device] = _Constants.of(self.layout, sensor, device)
        return [self._cache[name, device] for name in self.layout.sensor_names if name in names]

    def _random_theta(self, draw: "_Draw") -> Tensor:
        """Draw affine maps (B, 2, 3) from view to patch coordinates, both (x, y) in [-1, 1]."""
        uniform = draw.uniform(5).T
        area = self.crop_scale + (1 - self.crop_scale) * uniform[0]
        aspect = torch.exp(_LOG_ASPECT * (2 * uniform[1] - 1))
        # a crop longer than the patch is cut to it; for the whole patch that is both sides
        width = (area * aspect).sqrt().clamp(max=1) if self.crop_scale < 1 else torch.ones_like(area)
        height = (area / aspect).sqrt().clamp(max=1) if self.crop_scale < 1 else torch.ones_like(area)
        half = torch.stack([width, height], dim=1)[:, :, None]
        centre = (2 * uniform[2:4].T[:, :, None] - 1) * (1 - half)
        symmetry = (8 * uniform[4]).long() if self.dihedral else torch.zeros_like(area, dtype=torch.long)
        return torch.cat([half * _SYMMETRIES.to(uniform.device)[symmetry], centre], dim=2)

    def _radiometry(
        self, constants: _Constants, draw: "_Draw", batch: int
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Draw the radiometry of a sensor. Zero times a strength still draws, so geometry does not change.

        Returns:
            Factor and shift (B, bands, 1, 1), the view is stored * factor + shift; and of the speckle the
            seeds (B,) and strength (bands,), or None.
        """
        strength, k, per_unit = constants.sensor.augmentation, self.radiometry, constants.per_unit
        factor, shift = (c.expand(batch, -1, 1, 1) for c in (constants.gain, constants.shift))
        if strength.gain:
            shift = shift + k * strength.gain * draw.normal(1, 1, 1) * per_unit
        if strength.brightness:
            factor = factor * torch.exp(k * strength.brightness * draw.normal(1, 1, 1))
        if strength.offset:
            shift = shift + k * strength.offset * draw.normal(1, 1, 1)
        if strength.band_dropout:
            keep = (draw.uniform(len(per_unit), 1, 1) >= k * strength.band_dropout).float()
            factor, shift = factor * keep, shift * keep
        speckle = k * strength.speckle
        return factor, shift, (draw.seeds(), speckle * per_unit.flatten()) if speckle > 0 else None


def _sample(
    records: Mapping[str, Tensor],
    constants: _Constants,
    theta: Tensor,
    factor: Tensor,
    shift: Tensor,
    noise: tuple[Tensor, Tensor] | None,
    image: Tensor,
) -> None:
    """Sample the bands of one sensor into ``image``: stored * factor + shift + noise, cut."""
    sample = _sampler(image.device.type)
    for name, channels in constants.channels.items():
        sample(records[name], theta, factor, shift, channels, image, CLIP, noise)


@cache
def _sampler(device: str) -> Callable[..., None]:
    """Return the fastest installed sampler for a type of device."""
    if device == "cpu" and find_spec("numba") is not None:
        from mosaic.transforms.cpu_sampling import sample  # compiled when a CPU first samples

        return sample
    if device == "cuda" and find_spec("triton") is not None:
        return torch_sampling.Fused()
    return torch_sampling.sample


class _Draw:
    """Random numbers for one shard of a batch, drawn for all of it from one generator."""

    def __init__(
        self,
        generator: torch.Generator | None,
        device: torch.device,
        batch: int,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        self._generator = generator
        self._source = device if generator is None else generator.device
        self._device = device
        index, count = shard
        self._batch, self._rows = batch * count, slice(batch * index, batch * (index + 1))

    def _keep(self, drawn: Tensor) -> Tensor:
        return drawn[self._rows].to(self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Return (B, *shape) in [0, 1)."""
        return self._keep(torch.rand((self._batch, *shape), generator=self._generator, device=self._source))

    def normal(self, *shape: int) -> Tensor:
        """Return (B, *shape) of the standard normal distribution."""
        return self._keep(torch.randn((self._batch, *shape), generator=self._generator, device=self._source))

    def seeds(self) -> Tensor:
        """Return (B,) int32."""
        bounds = -(2**31), 2**31
        drawn = torch.randint(*bounds, (self._batch,), generator=self._generator, device=self._source)
        return self._keep(drawn).int()


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
