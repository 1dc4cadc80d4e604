"""Layout of one packed record: which band lies where, at which size and in which unit."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Self

import numpy as np

from mosaic.datasets.sensors import Augmentation, Sensor
from mosaic.utils.errors import PackError


@dataclass(frozen=True)
class BandGroup:
    """Bands of one sensor that share a native size and lie contiguously in a record.

    Attributes:
        name: the sensor's name; with the size in pixels where a sensor has several, such as ``"s2_120"``.
        size: height and width in pixels.
        offset: start of the group, in int16 elements from the start of the record.
        scale: physical value = stored integer * scale.
    """

    name: str
    sensor: str
    bands: tuple[str, ...]
    size: int
    offset: int
    scale: float

    @property
    def shape(self) -> tuple[int, int, int]:
        """(bands, size, size)."""
        return len(self.bands), self.size, self.size

    @property
    def elements(self) -> int:
        """Number of int16 elements."""
        return len(self.bands) * self.size * self.size


@dataclass(frozen=True)
class BandLayout:
    """Layout of every record of a packed archive, and the statistics that normalise its views.

    Attributes:
        sensors: in canonical order, which is that of streams and of stacked bands.
        band_sizes: height (= width) of each band in pixels.
        statistics: per band ``{"mean": m, "std": s}`` of the training split at native resolution, in physical
            units. Empty while packing.

    Raises:
        PackError: when there is no band.
    """

    sensors: tuple[Sensor, ...]
    band_sizes: Mapping[str, int]
    statistics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.bands:
            raise PackError("nothing to pack: the archive offers no band")

    @property
    def bands(self) -> tuple[str, ...]:
        """Bands of all sensors, in canonical order."""
        return tuple(band for sensor in self.sensors for band in sensor.bands)

    @property
    def sensor_names(self) -> tuple[str, ...]:
        """Names of the sensors, in canonical order."""
        return tuple(sensor.name for sensor in self.sensors)

    def sensor(self, name: str) -> Sensor:
        """Return the sensor called ``name``; PackError when there is none."""
        if name not in self.sensor_names:
            raise PackError(f"no sensor {name!r} is packed; packed are {', '.join(self.sensor_names)}")
        return self.sensors[self.sensor_names.index(name)]

    def sensor_of(self, band: str) -> Sensor:
        """Return the sensor that ``band`` belongs to; PackError when it is not packed."""
        return self.sensor(self.group_of(band)[0].sensor)

    @cached_property
    def groups(self) -> tuple[BandGroup, ...]:
        """Groups in record order: the last sensor comes first, its bands from fine to coarse."""
        groups: list[BandGroup] = []
        offset = 0
        for sensor in reversed(self.sensors):
            sizes = sorted({self.band_sizes[band] for band in sensor.bands}, reverse=True)
            for size in sizes:
                name = sensor.name if len(sizes) == 1 else f"{sensor.name}_{size}"
                bands = tuple(band for band in sensor.bands if self.band_sizes[band] == size)
                groups.append(BandGroup(name, sensor.name, bands, size, offset, sensor.scale))
                offset += groups[-1].elements
        return tuple(groups)

    def select(self, bands: Collection[str]) -> Self:
        """Return the layout of records that hold only ``bands``; PackError when one is not packed."""
        for band in bands:
            self.group_of(band)
        chosen = (replace(s, bands=tuple(b for b in s.bands if b in bands)) for s in self.sensors)
        return type(self)(
            tuple(sensor for sensor in chosen if sensor.bands),
            {band: size for band, size in self.band_sizes.items() if band in bands},
            {band: values for band, values in self.statistics.items() if band in bands},
        )

    @property
    def record_bytes(self) -> int:
        """Bytes of one record: 217,600 for 2 + 12 bands of BigEarthNet."""
        return 2 * sum(group.elements for group in self.groups)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """One record as a NumPy structured type: a field per group, little-endian int16 of its shape."""
        return np.dtype([(group.name, "<i2", group.shape) for group in self.groups])

    def group_of(self, band: str) -> tuple[BandGroup, int]:
        """Return the group that holds ``band`` and its position there; PackError when it is not packed."""
        for group in self.groups:
            if band in group.bands:
                return group, group.bands.index(band)
        raise PackError(f"band {band!r} is not packed; packed are {', '.join(self.bands)}")

    def to_json(self) -> dict[str, Any]:
        """Return the layout as plain JSON content."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Build the layout from the content that ``to_json`` returned."""
        sensors = (
            Sensor(**{**s, "bands": tuple(s["bands"]), "augmentation": Augmentation(**s["augmentation"])})
            for s in content["sensors"]
        )
        return cls(tuple(sensors), content["band_sizes"], content["statistics"])


def averaging_block(band_sizes: Mapping[str, int], most_pixels: int | None) -> int:
    """Return the side of the blocks to average so that no band is longer than ``most_pixels``.

    That is the least number that is large enough and divides the size of every band; 1, no averaging, when
    ``most_pixels`` is None.

    Raises:
        PackError: when no such number exists.
    """
    sizes = set(band_sizes.values())
    if most_pixels is None or max(sizes) <= most_pixels:
        return 1
    for block in range(2, min(sizes) + 1):
        if max(sizes) <= block * most_pixels and all(size % block == 0 for size in sizes):
            return block
    raise PackError(
        f"patches of {', '.join(map(str, sorted(sizes)))} pixels cannot be averaged in whole blocks to at "
        f"most {most_pixels}: choose another most_pixels, or None"
    )
