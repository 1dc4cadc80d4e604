"""What the pixels of an archive tell beyond one patch: copies under another name, values in another unit."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.archive import Problem
from mosaic.datasets.reference import read_moments
from mosaic.datasets.sensors import Sensor

_STEP = 4  # every fourth pixel a side tells the quantiles
_QUANTILES = np.array([0.01, 0.5, 0.99])
_OFFSET = 1000  # of DN from processing baseline 04.00 on
_BRIGHT = 2500  # DN; a patch whose darkest band has a larger median shows snow or clouds
_WATER = 6.5  # brightest over darkest band, each over its official mean; land, even stretched, has less


class Contents(NamedTuple):
    """Of a patch: sensor -> hash of its pixels, and band -> quantiles .01, .5 and .99 of those with data.

    Sensors that lack a band or show one value a band, and bands without data, are left out.
    """

    pixels: dict[str, str]
    quantiles: dict[str, list[float]]


def contents_of(sensors: Iterable[Sensor], sample: Mapping[str, NDArray[Any]]) -> Contents:
    """Return what :func:`whole_archive_problems` compares, of a sample of band -> (size, size)."""
    contents = Contents({}, {})
    for sensor in sensors:
        images = {band: np.asarray(sample[band]) for band in sensor.bands if band in sample}
        if len(images) == len(sensor.bands) and any((a != a.flat[0]).any() for a in images.values()):
            pixels = b"".join(image.tobytes() for image in images.values())
            contents.pixels[sensor.name] = hashlib.sha256(pixels).hexdigest()[:16]
        for band, image in images.items():
            empty = np.ma.getmaskarray(sample[band]) if sensor.signed else image == 0
            values = image[::_STEP, ::_STEP][~empty[::_STEP, ::_STEP]]
            if values.size:
                at = (_QUANTILES * (values.size - 1)).round().astype(int)
                contents.quantiles[band] = np.sort(values)[at].tolist()  # np.quantile takes six times as long
    return contents


def whole_archive_problems(
    sensors: Sequence[Sensor], index: pd.DataFrame, contents: Sequence[Contents]
) -> list[Problem]:
    """Return copies and wrong units; ``contents`` has an entry a row of the index."""
    return [*_copies(sensors, index, contents), *_units(sensors, contents)]


def _copies(
    sensors: Sequence[Sensor], index: pd.DataFrame, contents: Sequence[Contents]
) -> Iterable[Problem]:
    """Yield patches that have the pixels of an earlier one, of a sensor or all; within a split as a note."""
    found: dict[tuple[int, int], list[str]] = {}
    for sensor in sensors:
        first: dict[str, int] = {}
        for i, patch in enumerate(contents):
            pixels = patch.pixels.get(sensor.name)
            if pixels and first.setdefault(pixels, i) != i:
                found.setdefault((first[pixels], i), []).append(sensor.title)
    ids, splits = index["patch_id"].tolist(), index["split"].tolist()
    for (one, other), titles in found.items():
        which = "" if len(titles) == len(sensors) else f"{' and '.join(titles)} "
        detail = f"({splits[other]}) has the {which}pixels of {ids[one]} ({splits[one]})"
        yield Problem(ids[other], "same pixels", detail, note=splits[one] == splits[other])


def _units(sensors: Sequence[Sensor], contents: Sequence[Contents]) -> Iterable[Problem]:
    """Yield units that whole sensors of Sentinel-1 (dB) and Sentinel-2 (DN) seem to have instead."""
    means = {band: mean for band, (mean, _) in read_moments("bigearthnet").items()}
    for sensor in sensors:
        complete = [
            [patch.quantiles[band] for band in sensor.bands]
            for patch in contents
            if patch.quantiles.keys() >= {*sensor.bands}
        ]
        if not complete:
            continue
        low, median, high = np.array(complete).transpose(2, 0, 1)  # (patches, bands) each
        found = ""
        if sensor.unit == "dB":
            for band, positive in zip(sensor.bands, (median >= 0).mean(0), strict=True):
                if positive > 0.5:
                    found += f"{band} is positive in most pixels of {100 * positive:.0f} % of the patches; "
            if found:
                detail = (
                    f"{found}backscatter in dB is negative: its sign was lost, give 10 log10 of the power"
                )
                yield Problem("", "unit", detail)
        elif sensor.unit == "DN":
            known = [k for k, band in enumerate(sensor.bands) if band in means]
            bright = np.quantile(median, 0.95, axis=0)[known] / [means[sensor.bands[k]] for k in known]
            eight_bits = np.quantile(high, 0.95, axis=0).max() <= 255
            if known and eight_bits and bright.max() < _WATER * bright.min():
                detail = "values of 0 to 255 look like 8 bits, expected are DN (reflectance x 10,000): "
                yield Problem("", "unit", f"{sensor.title} {detail}give the values before the conversion")
            offset = ((low >= _OFFSET).all(1) & (median.min(1) < _BRIGHT)).mean()
            if offset > 0.5:
                detail = f"no {sensor.title} band falls below {_OFFSET} DN in {100 * offset:.0f} % of the "
                detail += "patches, as with the offset of processing baseline 04.00 and later: subtract it"
                yield Problem("", "offset", detail, note=True)
