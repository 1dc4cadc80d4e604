"""Views: from stored int16 records to normalised, augmented images, batched, on the device of the records.

One affine map of the patch drives the sampling of all band sizes at once, so up-sampling is never stored.
Sampling is bilinear without antialiasing: from 120 to 64 pixels the reduction stays below two.
"""

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
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

#: From a function such as ``torch.rand`` and a shape to numbers (B, *shape), one row a scene.
Draw = Callable[..., Tensor]


@dataclass(eq=False)
class Views:
    """Makes views of records: random ones for training, plain ones of the whole patch for evaluation.

    Example:
        >>> make = Views(store.layout, image_size=64)
        >>> records = {name: torch.from_numpy(values) for name, values in store.read(rows).items()}
        >>> make(records, torch.Generator().manual_seed(0))["s2"].shape
        torch.Size([8, 12, 64, 64])

    Raises:
        SettingsError: when ``radiometry`` would drop every band.
    """

    layout: BandLayout  # sensors, groups and normalisation statistics of the packed data
    image_size: int  # side of a view, pixels
    shared_geometry: bool = True  # all sensors of a view take the same crop, flip and turn
    crop_scale: float = 0.4  # least share of the patch's area in a crop, in (0, 1]; 1 keeps the whole patch
    dihedral: bool = True  # random flips and quarter turns
    radiometry: float = 1.0  # factor on the strengths of each sensor's mosaic.datasets.sensors.Augmentation

    def __post_init__(self) -> None:
        if any(self.radiometry * s.augmentation.band_dropout >= 1 for s in self.layout.sensors):
            raise SettingsError(
                f"radiometry {self.radiometry:g} times band_dropout drops all bands: lower it"
            )
        self._constants = cache(partial(_constants, self.layout))  # by sensor and device

    def __call__(
        self, records: Mapping[str, Tensor], generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one random view of each record: :meth:`draw`, then :meth:`apply`.

        From ``records``, group name -> stored int16 (B, bands, size, size), to sensor -> (B, bands, H, W):
        float32, in standard deviations from the training mean, within +-``CLIP``, bands in the sensor's
        canonical order. Sensors without a group in ``records`` are left out.
        """
        batch, device = _shape(records)
        drawn = self.draw(self.shown(records), batch, generator)
        return self.apply((records,), {name: values.to(device) for name, values in drawn.items()})

    def draw(
        self,
        sensors: Sequence[str],
        batch: int,
        generator: torch.Generator | None = None,
        shard: tuple[int, int] = (0, 1),
        views: int = 1,
    ) -> dict[str, Tensor]:
        """Draw what decides ``views`` random views of ``batch`` scenes, on the CPU for every device.

        ``sensors`` are those that the records show, in the order of the layout. With ``shard``, (shard_index,
        num_shards), the scenes are one of equal shards of a larger batch. Numbers are drawn for the whole
        batch, so a scene's view does not depend on the number of shards.

        Returns:
            ``"affine"``, float32 (B, columns): for each view and sensor the affine map from view to patch
            coordinates, row by row, then factor and shift of each band; and ``"seeds"`` of the speckle, int32
            (B, views x sensors).
        """
        index, count = shard
        affine: list[Tensor] = []
        seeds: list[Tensor] = []

        def draw(function: Callable[..., Tensor], *shape: int) -> Tensor:
            whole = function((batch * count, *shape), generator=generator)
            return whole[batch * index : batch * (index + 1)]

        for _ in range(views):
            theta = self._random_theta(draw)
            for name in sensors:
                if not self.shared_geometry and name != self.layout.sensor_names[0]:
                    theta = self._random_theta(draw)
                factor, shift, seed = self._random_radiometry(self.layout.sensor(name), draw, batch)
                affine += [theta.flatten(1), factor.flatten(1), shift.flatten(1)]
                seeds.append(seed)
        return {"affine": torch.cat(affine, 1), "seeds": torch.stack(seeds, 1)}

    @torch.no_grad()
    def evaluation(self, records: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole patch at the view's size, without augmentation; shapes as in ``__call__``."""
        batch, device = _shape(records)
        row: list[Tensor] = []
        for name in self.shown(records):
            _, gain, shift, _ = self._constants(self.layout.sensor(name), device)
            row += [torch.eye(2, 3, device=device), gain, shift]
        return self.apply((records,), {"affine": torch.cat([t.flatten() for t in row]).expand(batch, -1)})

    @torch.no_grad()
    def apply(
        self, several: Sequence[Mapping[str, Tensor]], parameters: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Return views of ``several`` batches of records, one after the other along the batch.

        Nothing is random or depends on values here, so it may be part of a CUDA graph. ``parameters`` are
        what :meth:`draw` returns, on the records' device; without ``"seeds"`` there is no speckle.
        """
        batch, device = _shape(several[0])
        empty = partial(torch.empty, device=device, memory_format=torch.channels_last)
        side, sample = self.image_size, _sampler(device.type)
        images = {
            name: empty((len(several) * batch, len(self.layout.sensor(name).bands), side, side))
            for name in self.shown(several[0])
        }
        seeds, column, number = parameters.get("seeds"), 0, 0
        for i, records in enumerate(several):
            for name, image in images.items():
                sensor, bands = self.layout.sensor(name), image.shape[1]
                channels_of_group, _, _, per_unit = self._constants(sensor, device)
                affine = parameters["affine"][:, column : column + 6 + 2 * bands]
                speckle = self.radiometry * sensor.augmentation.speckle
                noise = None
                if seeds is not None and speckle > 0:
                    noise = seeds[:, number], speckle * per_unit.flatten()
                target = image[i * batch : (i + 1) * batch]
                for group, channels in channels_of_group.items():
                    sample(records[group], affine, channels, target, CLIP, noise)
                column, number = column + affine.shape[1], number + 1
        return images

    def shown(self, groups: Container[str]) -> list[str]:
        """Return the sensors of groups of bands, in the order of the layout."""
        shown = {group.sensor for group in self.layout.groups if group.name in groups}
        return [name for name in self.layout.sensor_names if name in shown]

    def _random_theta(self, draw: Draw) -> Tensor:
        """Draw affine maps (B, 2, 3) from view to patch coordinates, both (x, y) in [-1, 1]."""
        uniform = draw(torch.rand, 5).T
        area = self.crop_scale + (1 - self.crop_scale) * uniform[0]
        aspect = torch.exp(_LOG_ASPECT * (2 * uniform[1] - 1))
        # a crop longer than the patch is cut to it; for the whole patch that is both sides
        half = torch.stack([(area * aspect).sqrt(), (area / aspect).sqrt()], dim=1).clamp(max=1)[:, :, None]
        if self.crop_scale == 1:
            half = torch.ones_like(half)
        centre = (2 * uniform[2:4].T[:, :, None] - 1) * (1 - half)
        symmetry = (8 * uniform[4]).long() if self.dihedral else torch.zeros_like(area, dtype=torch.long)
        return torch.cat([half * _SYMMETRIES[symmetry], centre], dim=2)

    def _random_radiometry(self, sensor: Sensor, draw: Draw, batch: int) -> tuple[Tensor, Tensor, Tensor]:
        """Draw factor and shift (B, bands, 1, 1) of stored values, and the seeds (B,) of the speckle.

        Numbers are drawn even for ``radiometry`` 0, so that it leaves the geometry as it is.
        """
        _, gain, mean, per_unit = self._constants(sensor, torch.device("cpu"))
        factor, shift = gain.expand(batch, -1, 1, 1), mean.expand(batch, -1, 1, 1)
        strength, k = sensor.augmentation, self.radiometry
        if strength.gain:
            shift = shift + k * strength.gain * draw(torch.randn, 1, 1, 1) * per_unit
        if strength.brightness:
            factor = factor * torch.exp(k * strength.brightness * draw(torch.randn, 1, 1, 1))
        if strength.offset:
            shift = shift + k * strength.offset * draw(torch.randn, 1, 1, 1)
        if strength.band_dropout:
            keep = (draw(torch.rand, len(per_unit), 1, 1) >= k * strength.band_dropout).float()
            factor, shift = factor * keep, shift * keep
        if not strength.speckle:
            return factor, shift, torch.zeros(batch, dtype=torch.int32)
        return factor, shift, draw(partial(torch.randint, -(2**31), 2**31)).int()


def _constants(
    layout: BandLayout, sensor: Sensor, device: torch.device
) -> tuple[dict[str, Tensor], Tensor, Tensor, Tensor]:
    """Return group name -> channels (bands,) of a sensor's view, and how its values are normalised.

    ``stored * gain + shift`` is in standard deviations from the mean. Gain, shift and one physical unit in
    standard deviations, (bands, 1, 1) each, follow the channels.
    """
    channels = {
        group.name: torch.tensor([sensor.bands.index(band) for band in group.bands], device=device)
        for group in layout.groups
        if group.sensor == sensor.name
    }
    mean = torch.tensor([layout.statistics[band]["mean"] for band in sensor.bands]).view(-1, 1, 1)
    # a band that never varies is centred and otherwise left alone
    deviation = torch.tensor([layout.statistics[band]["std"] or 1.0 for band in sensor.bands]).view(-1, 1, 1)
    gain = torch.full_like(mean, sensor.scale) / deviation
    return channels, gain.to(device), (-mean / deviation).to(device), (1 / deviation).to(device)


@cache
def _sampler(device: str) -> Callable[..., None]:
    """Return the fastest installed sampler for a type of device."""
    if device == "cuda" and find_spec("triton") is not None:
        from mosaic.transforms import gpu_sampling  # needs Triton

        return torch_sampling.guarded(gpu_sampling.sample)
    return torch_sampling.sample


def _shape(records: Mapping[str, Tensor]) -> tuple[int, torch.device]:
    first = next(iter(records.values()))
    return len(first), first.device


#: The eight symmetries of the square as matrices acting on (x, y), (8, 2, 2); the first is the identity.
_FLIPS = torch.diag_embed(torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]))
_SYMMETRIES = torch.stack([_FLIPS, _FLIPS.flip(2)], dim=1).flatten(0, 1)
