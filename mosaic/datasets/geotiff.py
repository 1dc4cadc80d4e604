"""Read one GeoTIFF of an archive and check it before any cast."""

from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform

from mosaic.datasets.corine import PATCH_METRES
from mosaic.datasets.problems import PatchError
from mosaic.datasets.tiff_strips import Raster, read_header, read_strips

_TOLERANCE = 1e-3  # of coordinates, metres


@dataclass(frozen=True)
class ExpectedBand:
    """What a band file must hold."""

    size: int  # height and width, pixels
    dtype: str  # of the values on disk
    low: float
    high: float
    unit: str = ""


def file_error(patch_id: str, path: str | Path, kind: str, reason: str) -> PatchError:
    """Return the error of one file of a patch, with the remedy."""
    return PatchError(patch_id, Path(path), f"{reason}: restore the file from the archive", kind)


def read_raster(path: str | Path, patch_id: str, shape: tuple[int, ...], *dtypes: str) -> Raster:
    """Return the values of a GeoTIFF as they are stored, perhaps read only, and its header.

    Args:
        path: of the file.
        patch_id: for messages.
        shape: (bands, height, width) that it must have.
        *dtypes: types of values that it may have.

    Raises:
        PatchError: when the file is missing, damaged, or of another shape or type.
    """
    try:
        raster = read_strips(path)
        if raster is None and not Path(path).is_file():
            raise file_error(patch_id, path, "missing file", "the file is missing")
        if raster is None:
            with rasterio.open(path) as file:
                raster = file.read(), read_header(file)
    except RasterioError as error:
        reason = f"the file is truncated or no TIFF ({error})"
        raise file_error(patch_id, path, "unreadable", reason) from error
    header = raster[1]
    if header.shape != shape:
        raise file_error(patch_id, path, "shape", f"shape is {header.shape}, expected {shape}")
    if header.dtype not in dtypes:
        reason = f"values are {header.dtype}, expected {' or '.join(dtypes)}"
        raise file_error(patch_id, path, "dtype", reason)
    return raster


def read_band(
    path: str | Path, patch_id: str, corner: tuple[int, int, int], expected: ExpectedBand
) -> NDArray:
    """Return one band of BigEarthNet as it is stored, (size, size); perhaps read only.

    Args:
        path: of the file.
        patch_id: for messages.
        corner: (EPSG code, easting, northing) of the upper-left corner, metres.
        expected: what the file must hold.

    Raises:
        PatchError: when the file is missing, damaged, misplaced, or of another shape or type; when values are
            not finite or out of range.
    """
    size = expected.size
    (values,), header = read_raster(path, patch_id, (1, size, size), expected.dtype)
    epsg, easting, northing = corner
    named = (PATCH_METRES / size, 0.0, float(easting), 0.0, -PATCH_METRES / size, float(northing))
    if header.transform != named and not np.allclose(header.transform, named, rtol=0, atol=_TOLERANCE):
        reason = f"the geotransform is {header.transform}, its name says {named}"
        raise file_error(patch_id, path, "place", reason)
    if header.epsg != epsg:
        reason = f"the projection is {header.crs}, its name says EPSG:{epsg}"
        raise file_error(patch_id, path, "place", reason)
    low, high = values.min(), values.max()
    if not (isfinite(low) and isfinite(high)):
        bad = np.count_nonzero(~np.isfinite(values))
        raise file_error(patch_id, path, "not finite", f"{bad} of {values.size} values are NaN or infinite")
    if low < expected.low or high > expected.high:
        ranges = (low, high), (expected.low, expected.high)
        found, allowed = (f"{least:g} to {most:g} {expected.unit}" for least, most in ranges)
        reason = f"values are {found}, expected {allowed}"
        raise file_error(patch_id, path, "range", reason)
    return values


def to_degrees(epsg: int | None, easting: float, northing: float) -> tuple[float, float]:
    """Return longitude and latitude of a point, degrees (WGS 84)."""
    (longitude,), (latitude,) = transform(f"EPSG:{epsg}", "EPSG:4326", [easting], [northing])[:2]
    return float(longitude), float(latitude)
