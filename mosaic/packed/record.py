"""One patch as one packed record. Every check comes before the cast that would hide the fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic.packed.layout import BandGroup, BandLayout

_MOST = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class Record:
    """One packed patch.

    Attributes:
        data: the groups in order, little-endian int16.
        constant_bands: names of the bands that hold one value only, joined by blanks; usually empty.
        nodata_share: share of Sentinel-2 values that are DN 0, in [0, 1].
        moments: per band the number, sum and sum of squares of the stored integers: exact, so that statistics
            do not depend on the order of summation.
    """

    data: bytes
    constant_bands: str
    nodata_share: float
    moments: dict[str, list[int]]


def to_record(sample: Mapping[str, NDArray[Any]], layout: BandLayout) -> Record:
    """Check one patch and turn it into a record.

    Args:
        sample: band -> native array (size, size): Sentinel-2 integer DN, Sentinel-1 float dB.
        layout: where each band goes.

    Raises:
        ValueError: when a band is missing, of another shape or type, not finite or out of range, or when all
            values of a sensor are zero.
    """
    record = np.empty((), layout.dtype)
    constant: list[str] = []
    moments: dict[str, list[int]] = {}
    for group in layout.groups:
        for place, band in enumerate(group.bands):
            if band not in sample:
                raise ValueError(f"band {band} is missing")
            stored = _stored(sample[band], band, group)
            record[group.name][place] = stored
            if stored.min() == stored.max():
                constant.append(band)
            moments[band] = [stored.size, int(stored.sum()), int((stored * stored).sum())]
    for sensor, bands in (("Sentinel-1", layout.s1_bands), ("Sentinel-2", layout.s2_bands)):
        if bands and not any(moments[band][2] for band in bands):
            raise ValueError(f"all {sensor} values are zero")
    optical = [record[group.name] for group in layout.groups if group.sensor == "s2"]
    zeros = sum(int(np.count_nonzero(values == 0)) for values in optical)
    share = zeros / max(1, sum(values.size for values in optical))
    return Record(record.tobytes(), " ".join(constant), share, moments)


def averaged(
    sample: Mapping[str, NDArray[Any]], layout: BandLayout, block: int
) -> Mapping[str, NDArray[Any]]:
    """Average square blocks of pixels of every band: reflectance as it is, backscatter as power.

    Args:
        sample: band -> native array (size, size), as :func:`to_record` takes it.
        layout: tells the sensors apart.
        block: side of a block; 1 returns the sample itself.
    """
    if block == 1:
        return sample
    small: dict[str, NDArray[Any]] = {}
    for band, values in sample.items():
        size = len(values) // block
        wide = values.astype(np.float64)
        radar = band in layout.s1_bands
        power = 10 ** (wide / 10) if radar else wide
        mean = power.reshape(size, block, size, block).mean((1, 3))
        small[band] = 10 * np.log10(mean) if radar else np.rint(mean).astype(values.dtype)
    return small


def _stored(values: NDArray[Any], band: str, group: BandGroup) -> NDArray[np.int64]:
    """Return the integers to store, still wide, after all checks."""
    if values.shape != group.shape[1:]:
        raise ValueError(f"{band} has shape {values.shape}, expected {group.shape[1:]}")
    if group.sensor == "s2" and values.dtype.kind not in "ui":
        raise ValueError(f"{band} has type {values.dtype}, expected integer DN (reflectance x 1e4)")
    finite = np.isfinite(values)
    if not finite.all():
        raise ValueError(f"{band} has {np.count_nonzero(~finite)} values that are NaN or infinite")
    stored = np.rint(values / np.float64(group.scale))
    least = 0 if group.sensor == "s2" else -_MOST
    if stored.min() < least or stored.max() > _MOST:
        unit = "DN" if group.sensor == "s2" else "dB"
        raise ValueError(
            f"{band} spans {values.min():g} to {values.max():g} {unit}, "
            f"expected {least * group.scale:g} to {_MOST * group.scale:g}"
        )
    return stored.astype(np.int64)
