"""One patch as one packed record. Every check comes before the cast that would hide the fault."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mosaic.datasets.sensors import Sensor
from mosaic.store.record_format import BandGroup, BandLayout
from mosaic.utils.errors import PackError

_LARGEST = int(np.iinfo(np.int16).max)


@dataclass(frozen=True)
class Record:
    """Facts about one packed patch."""

    constant_bands: str  # names of bands that hold one value only, joined by blanks; usually empty
    #: Largest share of a sensor's values without data, in [0, 1]: masked ones, and 0 of unsigned sensors.
    nodata_share: float
    #: Per band the number, sum and sum of squares of the stored integers: exact, in any order of summation.
    moments: dict[str, list[int]]


def to_record(sample: Mapping[str, NDArray[Any]], layout: BandLayout, out: memoryview) -> Record:
    """Check one patch and write it to ``out``: the groups in order, little-endian int16.

    The sample is band -> (size, size) in physical units; integers where the sensor's scale is 1.

    Raises:
        ValueError: when a band is missing, of another shape or type, not finite or out of range, or when all
            values of a sensor are zero. ``out`` is then undefined.
    """
    record = np.frombuffer(out, layout.dtype)
    moments: dict[str, list[int]] = {}
    empty: dict[str, int] = dict.fromkeys(layout.sensor_names, 0)  # values without data
    for group in layout.groups:
        sensor = layout.sensor(group.sensor)
        values = _scaled(sample, group, sensor)
        record[group.name][0] = values.reshape(group.shape)
        # integers below 2**53, so their sums are exact although they are floats
        sums, squares = values.sum(1), np.einsum("bp,bp->b", values, values)
        for band, *totals in zip(group.bands, sums, squares, strict=True):
            moments[band] = [values.shape[1], *map(int, totals)]
        if sensor.signed:
            empty[sensor.name] += sum(int(np.sum(np.ma.getmask(sample[band]))) for band in group.bands)
        else:
            empty[sensor.name] += values.size - int(np.count_nonzero(values))
    for sensor in layout.sensors:
        if not any(moments[band][2] for band in sensor.bands):
            raise ValueError(f"all {sensor.title} values are zero")
    shares = [empty[s.name] / sum(moments[band][0] for band in s.bands) for s in layout.sensors]
    # of one value only: without variance
    constant = [band for band, (n, total, squares) in moments.items() if n * squares == total**2]
    return Record(" ".join(constant), max(shares), moments)


def averaging_block(band_sizes: Mapping[str, int], most_pixels: int | None) -> int:
    """Return the least side of blocks to average that leaves no band longer than ``most_pixels``.

    It divides the size of every band, PackError where no number does; 1, no averaging, for None.
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


def averaged(
    sample: Mapping[str, NDArray[Any]], layout: BandLayout, block: int
) -> Mapping[str, NDArray[Any]]:
    """Average what has data in square blocks of ``block`` pixels of every band; values in dB as power."""
    if block == 1:
        return sample
    small: dict[str, NDArray[Any]] = {}
    for band in sample.keys() & layout.bands:
        image, sensor = sample[band], layout.sensor(layout.group_of(band)[0].sensor)
        blocks = (len(image) // block, block) * 2
        empty = (np.ma.getmaskarray(image) if sensor.signed else image == 0).reshape(blocks)
        nothing = np.logical_and.reduce(empty, (1, 3), keepdims=True)
        values = np.asarray(image, np.float64).reshape(blocks)
        linear = 10 ** (values / 10) if sensor.unit == "dB" else values
        mean = np.average(linear, (1, 3), weights=~empty | nothing)
        mean = 10 * np.log10(mean) if sensor.unit == "dB" else mean
        mean = np.rint(mean).astype(image.dtype) if image.dtype.kind in "ui" else mean
        masked = sensor.signed and nothing.any()
        small[band] = np.ma.MaskedArray(mean, nothing[:, 0, :, 0]) if masked else mean
    return small


def _scaled(sample: Mapping[str, NDArray[Any]], group: BandGroup, sensor: Sensor) -> NDArray[np.float64]:
    """Return checked values in units of the scale (bands, pixels)."""
    for band in group.bands:
        if band not in sample:
            raise ValueError(f"band {band} is missing")
        if sample[band].shape != group.shape[1:]:
            raise ValueError(f"{band} has shape {sample[band].shape}, expected {group.shape[1:]}")
        if sensor.scale == 1 and sample[band].dtype.kind not in "ui":
            raise ValueError(f"{band} has type {sample[band].dtype}, expected integer {sensor.unit}")
    scaled = np.stack([np.asarray(sample[band], np.float64) for band in group.bands])
    scaled = scaled.reshape(len(scaled), -1)
    if sensor.scale != 1:
        scaled /= sensor.scale
        np.rint(scaled, out=scaled)
    least = -_LARGEST if sensor.signed else 0
    for band, low, high in zip(group.bands, scaled.min(1), scaled.max(1), strict=True):
        values = sample[band]
        if not (isfinite(low) and isfinite(high)):
            bad = np.count_nonzero(~np.isfinite(values))
            raise ValueError(f"{band} has {bad} values that are NaN or infinite")
        if low < least or high > _LARGEST:
            raise ValueError(
                f"{band} spans {values.min():g} to {values.max():g} {sensor.unit}, "
                f"expected {least * sensor.scale:g} to {_LARGEST * sensor.scale:g}"
            )
    return scaled
