"""Read one GeoTIFF of an archive and check it before any cast, some twenty times as fast as rasterio.

Files of one band of an archive hardly differ but in their pixels and their place. So rasterio reads the first
file of a kind (its directory and the values that refers to); if the strips, put together here, give the same
pixels bit by bit, later files of that kind are read here: classic little-endian TIFF, strips, uncompressed
or deflated. For any other file, and for a damaged one, :func:`read_strips` returns None, and rasterio has to
read it. Tags as in TIFF 6.0 (Adobe, 1992) and OGC GeoTIFF 1.1.
"""

import os
import stat
import struct
import zlib
from collections.abc import Hashable, Sequence
from functools import lru_cache, partial
from math import isfinite, isnan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.enums import Compression, Interleaving
from rasterio.errors import RasterioError
from rasterio.warp import transform

from mosaic.datasets.archive import PatchError

#: Little-endian classic TIFF whose directory follows at once, as GDAL writes it.
_START = b"II*\0\x08\0\0\0"
_FORMATS = {1: "B", 2: "s", 3: "H", 4: "I", 12: "d"}  # type of values -> code in struct
_OFFSETS, _COUNTS, _TIE_POINT, _FILL_ORDER, _PREDICTOR = 273, 279, 33922, 266, 317
#: Tags whose values differ between files of one kind: those above, texts and GDAL's metadata.
_VARYING = {_OFFSETS, _COUNTS, _TIE_POINT, 270, 305, 306, 42112}
_MOST_KINDS, _MOST_VALUES = 4096, 1 << 22  # a damaged header may claim any size
#: Share of a radar image from which on exactly 0 dB means no data even if the file does not say so. SEN12MS
#: clips at 0 dB: up to 0.1 % of a sound patch.
_CLIPPED = 0.01


class Header(NamedTuple):
    """What a file says of its pixels."""

    shape: tuple[int, ...]  # bands, height, width
    dtype: str
    transform: tuple[float, ...]  # first six coefficients of the map from pixels to the ground, metres
    crs: CRS | None
    epsg: int | None  # code of that projection, None where there is none
    nodata: float | None  # value that is declared as no data


Raster = tuple[NDArray[Any], Header]


class _Kind(NamedTuple):
    header: Header
    interleaved: bool
    deflated: bool
    strip_bytes: list[int]  # of each strip, inflated


#: Kinds met so far in this process; None for those left to rasterio.
_kinds: dict[Hashable, _Kind | None] = {}


def read_header(file: Any) -> Header:
    """Return the header of a file that rasterio has opened."""
    epsg = file.crs.to_epsg() if file.crs else None
    if epsg and file.crs != CRS.from_epsg(epsg):
        epsg = None
    transform = tuple(file.transform)[:6]
    return Header((file.count, *file.shape), file.dtypes[0], transform, file.crs, epsg, file.nodata)


def read_strips(path: str | Path) -> Raster | None:
    """Return pixels (bands, height, width), read only, and header, or None, also for what is damaged."""
    try:
        with open(path, "rb") as file:  # a Path takes as long to make as the file to read
            data = file.read()
        if not data.startswith(_START):
            return None
        directory = data[8 : 14 + 12 * struct.unpack_from("<H", data, 8)[0]]
        fields = {tag: form.unpack_from(data, at) for tag, form, at in _entries(directory)}
        key = (directory, *(value for tag, value in fields.items() if tag not in _VARYING))
        if key not in _kinds and len(_kinds) < _MOST_KINDS:
            _kinds[key] = _learn(path, data, fields)
        kind = _kinds.get(key)
        return _decode(data, fields, kind) if kind else None
    except (OSError, ValueError, KeyError, struct.error, zlib.error, RasterioError):
        return None


@lru_cache(maxsize=1024)
def _entries(directory: bytes) -> list[tuple[int, struct.Struct, int]]:
    """Return each tag, the format of its values, and where in the file they stand."""
    entries = []
    for number, (tag, kind, count, offset) in enumerate(struct.iter_unpack("<HHII", directory[2:-4])):
        form = struct.Struct(f"<{count}{_FORMATS[kind]}")
        # values of up to four bytes stand in the entry itself
        entries.append((tag, form, 18 + 12 * number if form.size <= 4 else offset))
    return entries


def _learn(path: str | Path, data: bytes, fields: dict[int, tuple[Any, ...]]) -> _Kind | None:
    """Return how to read files like this one; None for a kind that is left to rasterio."""
    with rasterio.open(path, driver="GTiff") as file:
        if file.count * file.width * file.height > _MOST_VALUES:
            return None
        pixels, header, compression = file.read(), read_header(file), file.compression
        (rows, columns), interleaving = file.block_shapes[0], file.interleaving
    bands, height, width = header.shape
    if columns != width or compression not in (None, Compression.deflate):
        return None
    if any(fields.get(tag, (1,)) != (1,) for tag in (_FILL_ORDER, _PREDICTOR)):
        return None
    interleaved = bands > 1 and interleaving == Interleaving.pixel
    row = width * pixels.itemsize * (bands if interleaved else 1)
    strips = [row * min(rows, height - top) for top in range(0, height, rows)]
    kind = _Kind(header, interleaved, compression is not None, strips * (1 if interleaved else bands))
    decoded = _decode(data, fields, kind)
    if decoded is None or decoded[0].tobytes() != pixels.tobytes() or decoded[1] != header:
        raise ValueError  # perhaps this file is odd, e.g. sparse, and the next one shows its kind
    return kind


def _decode(data: bytes, fields: dict[int, tuple[Any, ...]], kind: _Kind) -> Raster | None:
    """Return pixels and header; None when strips or tie point are not as they must be."""
    offsets, counts, tie_point = fields[_OFFSETS], fields[_COUNTS], fields[_TIE_POINT]
    strips: list[Any] = [memoryview(data)[at : at + count] for at, count in zip(offsets, counts, strict=True)]
    if kind.deflated:
        strips = [_inflate(strip, size) for strip, size in zip(strips, kind.strip_bytes, strict=True)]
    if [len(strip) for strip in strips] != kind.strip_bytes or tie_point[:2] != (0, 0):
        return None
    bands, height, width = kind.header.shape
    values = np.frombuffer(b"".join(strips), np.dtype(kind.header.dtype).newbyteorder("<"))
    if kind.interleaved:
        values = values.reshape(height, width, bands).transpose(2, 0, 1)
    a, b, _, d, e, _ = kind.header.transform
    header = kind.header._replace(transform=(a, b, tie_point[3], d, e, tie_point[4]))
    return values.reshape(kind.header.shape), header


def _inflate(strip: memoryview, size: int) -> bytes:
    """Return what a strip inflates to; nothing if it is cut short or longer than ``size`` bytes."""
    inflater = zlib.decompressobj()
    inflated = inflater.decompress(strip, size + 1)
    return inflated if inflater.eof and not inflater.unused_data else b""


def file_error(patch_id: str, path: str | Path, kind: str, reason: str) -> PatchError:
    """Return the error of one file of a patch, with the remedy."""
    return PatchError(patch_id, Path(path), f"{reason}: restore the file from the archive", kind)


def read_raster(
    path: str | Path,
    patch_id: str,
    shape: tuple[int, ...] | None = None,
    dtypes: Sequence[str] = (),
    limits: tuple[float, float, str] | None = None,
) -> Raster:
    """Return the values (bands, height, width) of a GeoTIFF, perhaps read only, and its header.

    Values without data are masked if they are floating-point numbers, with the mean of the others of the band
    below the mask; integers are 0 there. ``limits`` are the least and largest value, and the unit. Any shape
    and type will do where none is given.

    Raises:
        PatchError: when the file is missing, damaged, of another shape or type, or its values are not finite
            or out of range.
    """
    fault = partial(file_error, patch_id, path)
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # a FIFO would be waited for
            raise fault("unreadable", "it is not a regular file")
        raster = read_strips(path)
        if raster is None:
            with rasterio.open(path, driver="GTiff") as file:
                header = read_header(file)
                raster = file.read() if shape in (None, header.shape) else np.empty(0), header
    except FileNotFoundError as error:
        other = Path(path).with_suffix(".TIF")
        hint = f" (rename {other.name}, which is there, to .tif)" if other.is_file() else ""
        raise fault("missing file", f"the file is missing{hint}") from error
    except RasterioError as error:
        raise fault("unreadable", f"the file is truncated or no TIFF ({error})") from error
    except OSError as error:  # a loop of links, a folder that may not be read
        raise fault("unreadable", f"the file cannot be opened ({error.strerror})") from error
    values, header = raster
    if shape not in (None, header.shape):
        raise fault("shape", f"shape is {header.shape}, expected {shape}")
    if dtypes and header.dtype not in dtypes:
        raise fault("dtype", f"values are {header.dtype}, expected {' or '.join(dtypes)}")
    values = _without_nodata(values, header.nodata)
    with_data = np.asarray(values)
    low, high = float(with_data.min()), float(with_data.max())
    if not (isfinite(low) and isfinite(high)):
        bad = np.count_nonzero(~np.isfinite(values))
        raise fault("not finite", f"{bad} of {values.size} values are NaN or infinite")
    if limits is None:
        return values, header
    least, most, unit = limits
    found = f"values are {low:g} to {high:g}"
    if unit == "dB" and high > low >= 0:
        looks = "linear power" if np.median(values) < 1 else "dB without their sign"
        raise fault("unit", f"{found}, none negative: this looks like {looks}, expected are dB")
    if low < least or high > most:
        raise fault("range", f"{found} {unit}, expected {least:g} to {most:g} {unit}")
    return values, header


def _without_nodata(values: NDArray[Any], nodata: float | None) -> NDArray[Any]:
    if values.dtype.kind != "f":
        return np.where(values == nodata, 0, values).astype(values.dtype) if nodata else values
    empty = np.isnan(values) if nodata is not None and isnan(nodata) else values == (nodata or 0)
    if not empty.any() or (nodata is None and empty.mean() < _CLIPPED):
        return values
    filled = values.copy()
    for band, where in zip(filled, empty, strict=True):
        band[where] = band[~where].mean() if not where.all() else 0
    return np.ma.MaskedArray(filled, empty)


def is_near(first: Sequence[float], second: Sequence[float]) -> bool:
    """Return whether two geotransforms agree to a millimetre."""
    return first == second or bool(np.allclose(first, second, rtol=0, atol=1e-3))


def to_degrees(epsg: int | None, easting: float, northing: float) -> tuple[float, float]:
    """Return longitude and latitude of a point, degrees (WGS 84); NaN without a projection."""
    if epsg is None:
        return np.nan, np.nan
    (longitude,), (latitude,) = transform(f"EPSG:{epsg}", "EPSG:4326", [easting], [northing])[:2]
    return float(longitude), float(latitude)
