"""One patch as one packed record. Every check comes before the cast that would hide the fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from mosaic.store.record_format import BandGroup, BandLayout

_MOST = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class Record:
    """What is to be known of one packed patch.

    Attributes:
        constant_bands: names of the bands that hold one value only, joined by blanks; usually empty.
        nodata_share: share of Sentinel-2 values that are DN 0, in [0, 1].
        moments: per band the number, sum and sum of squares of the stored integers: exact, so that statistics
            do not depend on the order of summation.
    """

    constant_bands: str
    nodata_share: float
    moments: dict[str, list[int]]


def to_record(sample: Mapping[str, NDArray[Any]], layout: BandLayout, out: memoryview) -> Record:
    """Check one patch and write it as a record: the groups in order, little-endian int16.

    Args:
        sample: band -> native array (size, size): Sentinel-2 integer DN, Sentinel-1 float dB.
        layout: where each band goes.
        out: ``layout.record_bytes`` bytes to write; without meaning after an error.

    Raises:
        ValueError: when a band is missing, of another shape or type, not finite or out of range, or when all
            values of a sensor are zero.
    """
    constant: list[str] = []
    moments: dict[str, list[int]] = {}
    zeros = optical = 0
    for group in layout.groups:
        arrays = [_checked(sample, band, group) for band in group.bands]
        stored = np.frombuffer(out, "<i2", group.elements, 2 * group.offset).reshape(len(arrays), -1)
        store = _store_optical if group.sensor == "s2" else _store_radar
        store(arrays, group, stored)
        measures = zip(group.bands, arrays, _measures(stored).tolist(), strict=True)
        for band, values, (low, high, empty, total, squares) in measures:
            if group.sensor == "s2":
                if low < 0:  # 16 bits without a sign turn negative above the range
                    raise _out_of_range(values, band, group)
                zeros += empty
                optical += stored.shape[1]
            moments[band] = [stored.shape[1], total, squares]
            if low == high:
                constant.append(band)
    for sensor, bands in (("Sentinel-1", layout.s1_bands), ("Sentinel-2", layout.s2_bands)):
        if bands and not any(moments[band][2] for band in bands):
            raise ValueError(f"all {sensor} values are zero")
    return Record(" ".join(constant), zeros / max(1, optical), moments)


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


def _checked(sample: Mapping[str, NDArray[Any]], band: str, group: BandGroup) -> NDArray[Any]:
    if band not in sample:
        raise ValueError(f"band {band} is missing")
    values = sample[band]
    if values.shape != group.shape[1:]:
        raise ValueError(f"{band} has shape {values.shape}, expected {group.shape[1:]}")
    if group.sensor == "s2" and values.dtype.kind not in "ui":
        raise ValueError(f"{band} has type {values.dtype}, expected integer DN (reflectance x 1e4)")
    return values


@njit("int64[:, ::1](int16[:, ::1])", cache=True)  # compiled here, before reading processes are forked
def _measures(stored: NDArray[np.int16]) -> NDArray[np.int64]:
    """Return (bands, 5) of (bands, pixels): least, largest, number of zeros, sum, sum of squares."""
    found = np.empty((stored.shape[0], 5), np.int64)
    for band in range(stored.shape[0]):
        line = stored[band]
        low = high = line[0]
        zeros = total = squares = 0
        for place in range(len(line)):
            value = line[place]
            low, high = min(low, value), max(high, value)
            zeros += value == 0
            total += value
            squares += int(np.int32(np.int32(value) * np.int32(value)))  # at most 2**30
        found[band, 0], found[band, 1], found[band, 2] = low, high, zeros
        found[band, 3], found[band, 4] = total, squares
    return found


def _store_optical(arrays: list[NDArray[Any]], group: BandGroup, stored: NDArray[np.int16]) -> None:
    """Write DN into ``stored`` (bands, pixels)."""
    for values, band, target in zip(arrays, group.bands, stored, strict=True):
        if values.dtype.itemsize > 2 and (values.min() < 0 or values.max() > _MOST):
            raise _out_of_range(values, band, group)
        target[:] = values.ravel()


def _store_radar(arrays: list[NDArray[Any]], group: BandGroup, stored: NDArray[np.int16]) -> None:
    """Write rounded decibels into ``stored`` (bands, pixels), after all checks."""
    wide = np.stack(arrays, dtype=np.float64).reshape(stored.shape)
    wide /= group.scale
    np.rint(wide, out=wide)
    for values, band, low, high in zip(arrays, group.bands, wide.min(1), wide.max(1), strict=True):
        if not (isfinite(low) and isfinite(high)):
            bad = np.count_nonzero(~np.isfinite(values))
            raise ValueError(f"{band} has {bad} values that are NaN or infinite")
        if low < -_MOST or high > _MOST:
            raise _out_of_range(values, band, group)
    stored[:] = wide


def _out_of_range(values: NDArray[Any], band: str, group: BandGroup) -> ValueError:
    least, unit = (0, "DN") if group.sensor == "s2" else (-_MOST, "dB")
    return ValueError(
        f"{band} spans {values.min():g} to {values.max():g} {unit}, "
        f"expected {least * group.scale:g} to {_MOST * group.scale:g}"
    )
