"""How one packed record is laid out: which band lies where, at which size and in which unit."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mosaic.utils.errors import PackError

#: Sentinel-1 is stored as hundredths of a dB, so rounding costs at most 0.005 dB.
S1_SCALE = 0.01
S2_SCALE = 1.0


@dataclass(frozen=True)
class BandGroup:
    """Bands of one sensor that share a native size and lie contiguously in a record.

    Attributes:
        name: ``"s1"``, ``"s2_10m"``, ``"s2_20m"`` or ``"s2_60m"``.
        sensor: ``"s1"`` or ``"s2"``.
        bands: band names, in stored order.
        size: height and width in pixels.
        offset: where the group starts, in int16 elements from the start of the record.
        scale: physical value = stored integer * scale. S1: 0.01, giving dB. S2: 1, giving DN
            (reflectance x 1e4).
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
        """Number of int16 elements that the group takes in a record."""
        return len(self.bands) * self.size * self.size


@dataclass(frozen=True)
class BandLayout:
    """The layout of every record of a packed archive, and the statistics its views normalise with.

    Attributes:
        groups: in record order.
        s1_bands: Sentinel-1 bands in canonical order (VV, VH).
        s2_bands: Sentinel-2 bands in canonical order (by wavelength), across the groups.
        statistics: per band ``{"mean": m, "std": s}`` of the training split at native resolution, in physical
            units (DN for Sentinel-2, dB for Sentinel-1). Empty while packing.
    """

    groups: tuple[BandGroup, ...]
    s1_bands: tuple[str, ...]
    s2_bands: tuple[str, ...]
    statistics: Mapping[str, Mapping[str, float]]

    @classmethod
    def of(
        cls,
        s1_bands: Sequence[str],
        s2_bands: Sequence[str],
        band_sizes: Mapping[str, int],
        finest_metres: int = 10,
    ) -> Self:
        """Lay out Sentinel-2 from fine to coarse, then Sentinel-1.

        Args:
            s1_bands: canonical order.
            s2_bands: canonical order; within a group it is kept.
            band_sizes: height (= width) of each band in pixels.
            finest_metres: side of a pixel of the largest band.

        Raises:
            PackError: when there is no band at all, or the bands of Sentinel-1 differ in size.
        """
        if not s1_bands and not s2_bands:
            raise PackError("nothing to pack: the archive offers no band")
        if len({band_sizes[band] for band in s1_bands}) > 1:
            raise PackError(f"Sentinel-1 bands of different sizes: {dict(band_sizes)}; one size is expected")
        finest = max(band_sizes[band] for band in (*s1_bands, *s2_bands))
        groups: list[BandGroup] = []
        offset = 0
        for size in sorted({band_sizes[band] for band in s2_bands}, reverse=True):
            bands = tuple(band for band in s2_bands if band_sizes[band] == size)
            groups.append(
                BandGroup(f"s2_{finest_metres * finest // size}m", "s2", bands, size, offset, S2_SCALE)
            )
            offset += groups[-1].elements
        if s1_bands:
            size = band_sizes[s1_bands[0]]
            groups.append(BandGroup("s1", "s1", tuple(s1_bands), size, offset, S1_SCALE))
        return cls(tuple(groups), tuple(s1_bands), tuple(s2_bands), {})

    def select(self, bands: Collection[str]) -> Self:
        """Return the layout of records that hold only some of the bands, in the same order.

        Raises:
            PackError: when a band is not packed.
        """
        for band in bands:
            self.group_of(band)
        groups: list[BandGroup] = []
        offset = 0
        for group in self.groups:
            kept = tuple(band for band in group.bands if band in bands)
            if kept:
                groups.append(replace(group, bands=kept, offset=offset))
                offset += groups[-1].elements
        s1, s2 = (tuple(band for band in own if band in bands) for own in (self.s1_bands, self.s2_bands))
        statistics = {band: values for band, values in self.statistics.items() if band in bands}
        return type(self)(tuple(groups), s1, s2, statistics)

    @property
    def record_bytes(self) -> int:
        """Bytes of one record: 217,600 for 2 + 12 bands of BigEarthNet."""
        return 2 * sum(group.elements for group in self.groups)

    @property
    def dtype(self) -> np.dtype[np.void]:
        """One record as a NumPy structured type: a field per group, little-endian int16 of its shape."""
        return np.dtype([(group.name, "<i2", group.shape) for group in self.groups])

    def group_of(self, band: str) -> tuple[BandGroup, int]:
        """Return the group that holds ``band``, and the place of the band in it."""
        for group in self.groups:
            if band in group.bands:
                return group, group.bands.index(band)
        known = ", ".join((*self.s1_bands, *self.s2_bands))
        raise PackError(f"band {band!r} is not packed; packed are {known}")

    def physical(self, group: BandGroup, stored: NDArray[np.int16]) -> NDArray[np.float32]:
        """Turn stored integers of ``group`` into DN or dB, float32, same shape."""
        return stored.astype(np.float32) * np.float32(group.scale)

    def to_json(self) -> dict[str, Any]:
        """Return the layout as plain JSON content."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Self:
        """Build the layout from what ``to_json`` gave."""
        groups = tuple(BandGroup(**{**group, "bands": tuple(group["bands"])}) for group in content["groups"])
        return cls(groups, tuple(content["s1_bands"]), tuple(content["s2_bands"]), content["statistics"])


def reduction(band_sizes: Mapping[str, int], most_pixels: int | None) -> int:
    """Return the side of the blocks that are averaged so that no band is longer than ``most_pixels``.

    Args:
        band_sizes: native height (= width) of each band in pixels.
        most_pixels: longest side wanted; None keeps everything as it is.

    Returns:
        The least number that divides every band's size and is large enough; 1 for no averaging.

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
