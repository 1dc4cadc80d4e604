"""Reading one file of an archive, checked before any cast.

Most files are read by :mod:`mosaic.datasets.tiff_strips`; whatever it does not know, and whatever is wrong,
is rasterio's to read or to name.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import RasterioError

from mosaic.datasets.corine import PATCH_METRES
from mosaic.datasets.problems import PatchError
from mosaic.datasets.tiff_strips import Strips, read_strips

#: From kind of fault and reason to the error that names patch, file and remedy.
Fault = Callable[[str, str], PatchError]
_NEAR = 1e-3  # metres


class Header(NamedTuple):
    """What a file says of itself.

    Attributes:
        shape: (bands, height, width).
        dtype: type of the values on disk.
        transform: the first six coefficients of the affine map from pixels to the ground, metres.
        crs: the projection, None where the file tells none.
        epsg: the code whose definition it equals, None where there is none.
    """

    shape: tuple[int, ...]
    dtype: str
    transform: tuple[float, ...]
    crs: CRS | None
    epsg: int | None


@dataclass(frozen=True)
class Expected:
    """What a band file must be.

    Attributes:
        size: height and width in pixels.
        dtype: type of the values on disk.
        low: smallest value allowed.
        high: largest value allowed.
        unit: of the values, for messages.
    """

    size: int
    dtype: str
    low: float = 0
    high: float = 65535
    unit: str = ""


def fault_of(patch_id: str, path: str | Path) -> Fault:
    """Return what makes the error of one file of a patch."""

    def fault(kind: str, reason: str) -> PatchError:
        return PatchError(patch_id, Path(path), f"{reason}: restore the file from the archive", kind)

    return fault


def read_raster(
    path: str | Path, fault: Fault, check: Callable[[Header], None], bands: Sequence[int] | None = None
) -> tuple[NDArray[Any], Header]:
    """Read a GeoTIFF as it is stored, once ``check`` has let its header pass.

    Args:
        path: of the file.
        fault: makes the error of a missing or damaged file.
        check: raises if the header is not as it must be.
        bands: counted from 0; None for all.

    Returns:
        Values (bands, height, width), perhaps read only, and the header.

    Raises:
        PatchError: when the file is missing or damaged.
    """
    try:
        strips = read_strips(path)
        header = _header(path, strips) if strips else None
        if strips and header:
            check(header)
            return strips.values if bands is None else strips.values[list(bands)], header
        if not Path(path).is_file():
            raise fault("missing file", "the file is missing")
        with rasterio.open(path) as file:
            header = Header((file.count, *file.shape), file.dtypes[0], tuple(file.transform)[:6], *_crs(file))
            check(header)
            return file.read(None if bands is None else [band + 1 for band in bands]), header
    except RasterioError as error:
        raise fault("unreadable", f"the file is truncated or no TIFF ({error})") from error


def _header(path: str | Path, strips: Strips) -> Header | None:
    """Return the header of a file, None unless rasterio makes a projection of its keys."""
    known = _projections.get(strips.projection)
    if known is None:
        with rasterio.open(path) as file:
            # the keys also tell whether the tie point is a corner or the middle of a pixel
            same = tuple(file.transform)[:6] == strips.transform
            known = _projections[strips.projection] = _crs(file) if same else (None, None)
    return Header(strips.values.shape, strips.dtype, strips.transform, *known) if known[0] else None


#: GeoTIFF keys -> projection and code, as rasterio told when it first met them.
_projections: dict[Hashable, tuple[CRS | None, int | None]] = {}


def _crs(file: Any) -> tuple[CRS | None, int | None]:
    crs = file.crs
    epsg = crs.to_epsg() if crs else None
    return crs, epsg if epsg and crs == CRS.from_epsg(epsg) else None


def read_band(
    path: str | Path, patch_id: str, corner: tuple[int, int, int], expected: Expected
) -> NDArray[Any]:
    """Read a single-band GeoTIFF as it is stored, (size, size); perhaps read only.

    Nothing is resampled or cast: a file of another size or type is an error, and so are values that are not
    finite or out of range.

    Args:
        path: of the file.
        patch_id: for messages.
        corner: (EPSG code, easting, northing) of the upper-left corner, metres.
        expected: what the file must be otherwise.

    Raises:
        PatchError: names the patch, the file, what was found and what was expected.
    """
    fault = fault_of(patch_id, path)

    def check(header: Header) -> None:
        if header.shape != (1, expected.size, expected.size):
            raise fault("shape", f"shape is {header.shape}, expected (1, {expected.size}, {expected.size})")
        if header.dtype != expected.dtype:
            raise fault("dtype", f"values are {header.dtype}, expected {expected.dtype}")
        _check_place(header, corner, PATCH_METRES / expected.size, fault)

    values = read_raster(path, fault, check)[0][0]
    low, high = values.min() if expected.low else 0, values.max()  # without a sign none is below 0
    if not (isfinite(low) and isfinite(high)):
        bad = np.count_nonzero(~np.isfinite(values))
        raise fault("not finite", f"{bad} of {values.size} values are NaN or infinite")
    if low < expected.low or high > expected.high:
        unit = f" {expected.unit}" if expected.unit else ""
        found_range = f"{values.min():g} to {high:g}{unit}"
        allowed = f"{expected.low:g} to {expected.high:g}{unit}"
        raise fault("range", f"values are {found_range}, expected {allowed}")
    return values


def _check_place(header: Header, corner: tuple[int, int, int], step: float, fault: Fault) -> None:
    """Does the file lie where the patch's name says?"""
    epsg, easting, northing = corner
    wanted = (step, 0.0, float(easting), 0.0, -step, float(northing))
    found = header.transform
    if found != wanted and not np.allclose(found, wanted, rtol=0, atol=_NEAR):
        raise fault("place", f"the geotransform is {found}, its name says {wanted}")
    if header.epsg != epsg:
        raise fault("place", f"the projection is {header.crs}, its name says EPSG:{epsg}")
