"""Format of packed data: where each band lies in a record, at which size and unit, and the manifest."""

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from pydantic import TypeAdapter

from mosaic.datasets.sensors import Sensor
from mosaic.utils.errors import PackError
from mosaic.utils.files import read_json, sealed, unsealed, write_json

#: Increased whenever files of an older version can no longer be read.
VERSION = 6
MANIFEST = "manifest.json"
INDEX = "index.parquet"


@dataclass(frozen=True)
class BandGroup:
    """Bands of one sensor that share a native size and lie contiguously in a record."""

    name: str  # the sensor's; with the size in pixels where a sensor has several, such as "s2_120"
    sensor: str
    bands: tuple[str, ...]
    size: int  # height and width, pixels
    scale: float  # physical value = stored integer * scale

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

    PackError when there is no band.
    """

    sensors: tuple[Sensor, ...]  # in canonical order, which is that of streams and of stacked bands
    band_sizes: Mapping[str, int]  # height (= width) in pixels
    #: Band -> ``{"mean": m, "std": s}`` of the training split at native resolution, in physical units; empty
    #: while packing.
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

    @cached_property
    def groups(self) -> tuple[BandGroup, ...]:
        """Groups in record order: the last sensor comes first, its bands from fine to coarse."""
        groups: list[BandGroup] = []
        for sensor in reversed(self.sensors):
            sizes = sorted({self.band_sizes[band] for band in sensor.bands}, reverse=True)
            for size in sizes:
                name = sensor.name if len(sizes) == 1 else f"{sensor.name}_{size}"
                bands = tuple(band for band in sensor.bands if self.band_sizes[band] == size)
                groups.append(BandGroup(name, sensor.name, bands, size, sensor.scale))
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
        return self.dtype.itemsize

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        """One record as a NumPy structured type: a field per group, little-endian int16 of its shape."""
        return np.dtype([(group.name, "<i2", group.shape) for group in self.groups])

    def group_of(self, band: str) -> tuple[BandGroup, int]:
        """Return the group that holds ``band`` and its position there; PackError when it is not packed."""
        for group in self.groups:
            if band in group.bands:
                return group, group.bands.index(band)
        raise PackError(f"band {band!r} is not packed; packed are {', '.join(self.bands)}")


@dataclass(frozen=True)
class Shard:
    """One file of contiguous records."""

    file: str
    records: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of a folder of packed data; written last, so a folder without it is unfinished.

    Classes and groups of classes are those of the :class:`~mosaic.datasets.archive.Archive`.
    """

    version: int
    dataset: str
    source: str  # folder that was packed
    fingerprint: str  # of the source, as the archive gave it
    class_names: tuple[str, ...]
    class_colors: tuple[str, ...]
    level1: dict[str, tuple[str, ...]]
    confusable: dict[str, tuple[str, ...]]
    coarse: dict[str, tuple[str, ...]]
    layout: BandLayout
    shards: tuple[Shard, ...]  # in order of rows
    index_sha256: str
    counts: dict[str, int]  # patches per split, in all ("patches") and left out ("skipped")
    skipped: tuple[dict[str, str], ...]  # left out on request, each with patch_id, path and reason

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a manifest; PackError when it is damaged or of another version."""
        remedy = "pack again, it is made anew"

        def build(content: dict[str, Any]) -> Any:
            if content["version"] != VERSION:
                found = f"of format version {content['version']}, this code reads {VERSION}"
                raise PackError(f"{path} is {found}: {remedy}")
            return TypeAdapter(cls).validate_python(unsealed(content))

        manifest: Self = read_json(path, {"version": int}, build=build, error=PackError, remedy=remedy)
        return manifest

    def write(self, path: Path) -> None:
        """Write the manifest with a seal, by which a later change is noticed."""
        write_json(path, sealed(asdict(self)))
