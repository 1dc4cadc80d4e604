"""A reader of the one kind of GeoTIFF that the official archives are made of: whole strips, read at once.

Classic little-endian TIFF, one image, strips uncompressed or deflated without predictor, uint8, uint16 or
float32, placed by one tie point and a pixel size. Any tag or value outside of that makes :func:`read_strips`
return None, and the file is left to rasterio; so does any contradiction, such as a file that is cut short.
Tags as in TIFF 6.0 (Adobe, 1992) and OGC GeoTIFF 1.1. Files beside the image, such as world files, are not
looked at.
"""

import os
import struct
import zlib
from collections.abc import Hashable
from functools import lru_cache
from itertools import accumulate
from operator import add
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _COLOURS, _OFFSETS = 256, 257, 258, 259, 262, 273
_SAMPLES, _ROWS, _COUNTS, _PLANAR, _FURTHER, _FORMAT = 277, 278, 279, 284, 338, 339
_SCALE, _TIE = 33550, 33922
_GEOGRAPHY = 34735, 34736, 34737  # keys of the projection, and their parameters
#: Types of values -> their code in ``struct``: text, 16 and 32 bits, 64-bit floating point.
_CODES = {2: "s", 3: "H", 4: "I", 12: "d"}
_MANY = 1 << 16


class _Rule(NamedTuple):
    """What a tag may hold: codes of types, the largest number of values, and which, None for any."""

    types: str
    most: int = 1
    allowed: tuple[int, ...] | None = None


_RULES = {
    **dict.fromkeys((_WIDTH, _HEIGHT, _ROWS), _Rule("HI")),
    **dict.fromkeys((_OFFSETS, _COUNTS), _Rule("HI", _MANY)),
    _SAMPLES: _Rule("H"),
    **dict.fromkeys((_BITS, _FURTHER, _FORMAT), _Rule("H", _MANY)),
    **dict.fromkeys((_SCALE, _TIE), _Rule("d", _MANY)),
    **dict.fromkeys(_GEOGRAPHY, _Rule("Hds", _MANY)),
    **dict.fromkeys((270, 305, 306), _Rule("s", _MANY)),  # description, software, date
    **dict.fromkeys((42112, 42113), _Rule("s", _MANY)),  # GDAL's metadata and no-data value
    254: _Rule("I", allowed=(0,)),  # no thumbnail, no mask
    _COMPRESSION: _Rule("H", allowed=(1, 8)),
    _COLOURS: _Rule("H", allowed=(1, 2)),  # grey or RGB, not inverted, no index into a palette
    266: _Rule("H", allowed=(1,)),  # order of bits
    274: _Rule("H", allowed=(1,)),  # first row on top
    _PLANAR: _Rule("H", allowed=(1, 2)),
    317: _Rule("H", allowed=(1,)),  # no predictor
}
#: (format of samples, bits) -> type.
_DTYPES: dict[Any, np.dtype[Any]] = {
    (1, 8): np.dtype("u1"),
    (1, 16): np.dtype("<u2"),
    (3, 32): np.dtype("<f4"),
}
#: Told of each sample.
_OF_SAMPLES = _BITS, _FURTHER, _FORMAT
#: Little-endian classic TIFF whose directory follows at once, as GDAL writes it.
_START = b"II*\0\x08\0\0\0"
_WIDEST, _MOST_BANDS = 1 << 13, 64


class Strips(NamedTuple):
    """What a file holds.

    Attributes:
        values: (bands, height, width), as stored; may be read only.
        dtype: their type.
        transform: the first six coefficients of the affine map from pixels to the ground.
        projection: the GeoTIFF keys and their parameters, uninterpreted.
    """

    values: NDArray[Any]
    dtype: str
    transform: tuple[float, ...]
    projection: Hashable


class _Directory(NamedTuple):
    """The fields of a directory: the values that lie in it, and where the others do."""

    inline: dict[int, tuple[Any, ...]]
    outside: list[tuple[int, struct.Struct, int]]


class _Layout(NamedTuple):
    """What the tags of a file's shape amount to."""

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    dtype_name: str
    deflated: bool
    interleaved: bool
    strips: tuple[int, ...]  # bytes of each, inflated


def read_strips(path: str | Path) -> Strips | None:
    """Read a whole file; None when it is not entirely of the kind above, damaged or not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            data = os.read(descriptor, os.fstat(descriptor).st_size)
        finally:
            os.close(descriptor)
        return _parse(data)
    except (OSError, ValueError, IndexError, struct.error, zlib.error):
        return None


def _parse(data: bytes) -> Strips | None:
    if not data.startswith(_START):
        return None
    entries = data[8 : 14 + 12 * (data[8] | data[9] << 8)]
    directory = _directory(entries)
    if directory is None:
        return None
    outside = {tag: form.unpack_from(data, at) for tag, form, at in directory.outside}
    layout = _layout(entries, *map(outside.get, _OF_SAMPLES))
    scale, tie = outside.get(_SCALE, ()), outside.get(_TIE, ())
    if layout is None or len(scale) != 3 or min(scale[:2]) <= 0 or len(tie) != 6 or tie[:2] != (0, 0):
        return None
    offsets, counts = (outside.get(tag) or directory.inline.get(tag, ()) for tag in (_OFFSETS, _COUNTS))
    pixels = _pixels(data, layout, offsets, counts)
    if pixels is None:
        return None
    bands, height, width = layout.shape
    if layout.interleaved:
        values = pixels.reshape(height, width, bands).transpose(2, 0, 1)
    else:
        values = pixels.reshape(layout.shape)
    projection = tuple([outside.get(tag) for tag in _GEOGRAPHY])
    transform = scale[0], 0.0, tie[3], 0.0, -scale[1], tie[4]
    return Strips(values, layout.dtype_name, transform, projection)


@lru_cache(maxsize=1024)
def _directory(entries: bytes) -> _Directory | None:
    """Return the fields of a file; files of one kind share these bytes."""
    found = _Directory({}, [])
    for number, (tag, kind, count, place) in enumerate(struct.iter_unpack("<HHII", entries[2:-4])):
        rule, code = _RULES.get(tag), _CODES.get(kind)
        if rule is None or code is None or code not in rule.types or not 0 < count <= rule.most:
            return None
        form = struct.Struct(f"<{count}{code}")
        if form.size <= 4:  # what fits into the entry lies in it
            found.inline[tag] = form.unpack_from(entries, 2 + 12 * number + 8)
            if rule.allowed and found.inline[tag][0] not in rule.allowed:
                return None
        else:
            whole = struct.Struct(f"{form.size}s") if tag in _GEOGRAPHY else form
            found.outside.append((tag, whole, place))
    tags = {*found.inline, *(tag for tag, *_ in found.outside)}
    sound = len(tags) == struct.unpack_from("<H", entries)[0] and entries[-4:] == bytes(4)
    return found if sound else None  # no tag twice, no second image


@lru_cache(maxsize=1024)
def _layout(entries: bytes, *of_samples: tuple[int, ...] | None) -> _Layout | None:
    """Return the layout of the pixels; what is told of each sample lies outside where they are many."""
    directory = _directory(entries)
    if directory is None:
        return None
    values = {tag: value for tag, value in zip(_OF_SAMPLES, of_samples, strict=True) if value}
    values |= directory.inline
    (height,), (width,), (rows,) = (values.get(tag, (0,)) for tag in (_HEIGHT, _WIDTH, _ROWS))
    (bands,) = values.get(_SAMPLES, (1,))
    bits, formats = values.get(_BITS, ()), values.get(_FORMAT, (1,) * min(bands, _MOST_BANDS))
    kinds = set(zip(formats, bits, strict=True))
    dtype = _DTYPES.get(kinds.pop()) if len(kinds) == 1 and len(bits) == bands else None
    further = values.get(_FURTHER, ())
    if len(further) > bands - (3 if values.get(_COLOURS) == (2,) else 1) or not set(further) <= {0, 1, 2}:
        return None
    sound = 0 < height <= _WIDEST and 0 < width <= _WIDEST and rows > 0 and bands <= _MOST_BANDS
    if dtype is None or not sound or not {_COMPRESSION, _COLOURS} <= values.keys():
        return None
    interleaved = bands > 1 and values.get(_PLANAR) != (2,)
    tall = [min(rows, height - top) for top in range(0, height, rows)]
    row = width * dtype.itemsize * (bands if interleaved else 1)
    strips = tuple(row * lines for lines in tall) * (1 if interleaved else bands)
    deflated = values[_COMPRESSION] == (8,)
    return _Layout((bands, height, width), dtype, dtype.name, deflated, interleaved, strips)


def _pixels(
    data: bytes, layout: _Layout, offsets: tuple[int, ...], counts: tuple[int, ...]
) -> NDArray[Any] | None:
    """Return the values of all strips, flat, or None when the strips are not of the size they must have."""
    if len(offsets) != len(layout.strips) or len(counts) != len(layout.strips):
        return None
    if max(map(add, offsets, counts)) > len(data):
        return None
    if not layout.deflated and offsets == tuple(accumulate(counts[:-1], initial=offsets[0])):
        if counts != layout.strips:
            return None
        return np.frombuffer(data, layout.dtype, sum(counts) // layout.dtype.itemsize, offsets[0])
    strips = [data[at : at + count] for at, count in zip(offsets, counts, strict=True)]
    if layout.deflated:
        strips = [_inflated(strip, size) for strip, size in zip(strips, layout.strips, strict=True)]
    if tuple(map(len, strips)) != layout.strips:
        return None
    return np.frombuffer(b"".join(strips), layout.dtype)


def _inflated(strip: bytes, size: int) -> bytes:
    """Return what a strip inflates to, nothing unless it is whole and fills ``strip``."""
    inflater = zlib.decompressobj()
    found = inflater.decompress(strip, size + 1)
    return found if inflater.eof and not inflater.unused_data else b""
