"""Reading one band file, checked before any cast."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from mosaic.archives.nomenclature import PATCH_METRES
from mosaic.archives.patches import PatchError


@dataclass(frozen=True)
class Expected:
    """What a band file must be.

    Attributes:
        size: height and width in pixels.
        dtype: type of the values on disk.
        corner: (EPSG code, easting, northing) of the upper-left corner, metres.
        low: smallest value allowed.
        high: largest value allowed.
        unit: of the values, for messages.
    """

    size: int
    dtype: str
    corner: tuple[int, int, int]
    low: float = 0
    high: float = 65535
    unit: str = ""


def read_band(path: Path, patch_id: str, expected: Expected) -> NDArray[Any]:
    """Read a single-band GeoTIFF as it is stored, (size, size).

    Nothing is resampled or cast: a file of another size or type is an error, and so are values that are not
    finite or out of range.

    Raises:
        PatchError: names the patch, the file, what was found and what was expected.
    """

    def fault(kind: str, reason: str) -> PatchError:
        return PatchError(patch_id, path, f"{reason}: restore the file from the archive", kind)

    if not path.is_file():
        raise fault("missing file", "the file is missing")
    try:
        with rasterio.open(path) as file:
            found = (file.count, *file.shape)
            if found != (1, expected.size, expected.size):
                raise fault("shape", f"shape is {found}, expected (1, {expected.size}, {expected.size})")
            if file.dtypes[0] != expected.dtype:
                raise fault("dtype", f"values are {file.dtypes[0]}, expected {expected.dtype}")
            _check_place(file, expected, fault)
            values: NDArray[Any] = file.read(1)
    except RasterioError as error:
        raise fault("unreadable", f"the file is truncated or no TIFF ({error})") from error
    finite = np.isfinite(values)
    if not finite.all():
        raise fault("not finite", f"{(~finite).sum()} of {values.size} values are NaN or infinite")
    low, high = values.min(), values.max()
    if low < expected.low or high > expected.high:
        unit = f" {expected.unit}" if expected.unit else ""
        found_range, allowed = f"{low:g} to {high:g}{unit}", f"{expected.low:g} to {expected.high:g}{unit}"
        raise fault("range", f"values are {found_range}, expected {allowed}")
    return values


def _check_place(file: Any, expected: Expected, fault: Any) -> None:
    """Does the file lie where the patch's name says?"""
    epsg, easting, northing = expected.corner
    step = PATCH_METRES / expected.size
    wanted = (step, 0.0, float(easting), 0.0, -step, float(northing))
    found = tuple(file.transform)[:6]
    if not np.allclose(found, wanted, rtol=0, atol=1e-3):
        raise fault("place", f"the geotransform is {found}, its name says {wanted}")
    if file.crs is None or file.crs != CRS.from_epsg(epsg):
        raise fault("place", f"the projection is {file.crs}, its name says EPSG:{epsg}")
