"""Spatial patterns of covers: what tells them apart in an image, and not in the statistics of its bands."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, gaussian_laplace
from scipy.special import ndtri

Field = NDArray[np.float64]

#: Standard deviation of what a pixel has by itself, in those of its pattern.
_GRAIN = 0.4


def draw_texture(
    patterns: NDArray[np.str_], parcels: NDArray[np.int64], random: np.random.Generator
) -> Field:
    """Return the texture (side, side) of a ground: the pattern of each pixel's cover, turned by parcel.

    Whatever the pattern, its values are standard normal.
    """
    side = len(parcels)
    rows, columns = np.mgrid[0:side, 0:side].astype(float)
    numbers, index = np.unique(parcels, return_inverse=True)
    angle = random.uniform(0, np.pi, len(numbers))[index].reshape(side, side)
    along = columns * np.cos(angle) + rows * np.sin(angle)
    across = rows * np.cos(angle) - columns * np.sin(angle)
    texture = np.zeros((side, side))
    for name in np.unique(patterns):
        field = _PATTERNS[name](along, across, random)
        field = field / field.std() + _GRAIN * random.standard_normal((side, side))
        texture = np.where(patterns == name, _gaussian(field), texture)
    return texture


def draw_relief(random: np.random.Generator, side: int) -> tuple[Field, Field]:
    """Return slopes (side, side) towards the sun and towards the radar, standard normal each."""
    width = random.uniform(8, 16)
    height = gaussian_filter(random.standard_normal((side, side)), width, mode="reflect")
    south, east = np.gradient(height / height.std() * width)
    return south / south.std() + random.normal(), east / east.std() + random.normal()


def _gaussian(field: Field) -> Field:
    """Return a field with the same order of values and a normal distribution."""
    order = field.ravel().argsort(kind="stable").argsort(kind="stable")
    return ndtri((order + 0.5) / field.size).reshape(field.shape)


def _noise(shape: tuple[int, ...], width: float, random: np.random.Generator) -> Field:
    return gaussian_filter(random.standard_normal(shape), width, mode="wrap")


def _wave(x: Field, period: float) -> Field:
    return np.cos(2 * np.pi * x / period)


def _streets(x: Field, y: Field, random: np.random.Generator) -> Field:
    blocks = np.maximum(_wave(x, 12), _wave(y, 12)) > 0.7
    return blocks * 2.0 + 0.3 * _noise(x.shape, 0.5, random)


def _halls(x: Field, y: Field, random: np.random.Generator) -> Field:
    bright = random.standard_normal((997,))[(np.floor(x / 9) * 31 + np.floor(y / 14) * 7).astype(int) % 997]
    return bright + 0.2 * _noise(x.shape, 1.0, random)


_PATTERNS: dict[str, Callable[[Field, Field, np.random.Generator], Field]] = {
    "streets": _streets,
    "halls": _halls,
    "rows": lambda x, y, r: _wave(x, 9) + 4 * _noise(x.shape, 2.5, r),
    "streaks": lambda x, y, r: gaussian_filter(r.standard_normal(x.shape), (0.7, 6.0), mode="wrap"),
    "lattice": lambda x, y, r: _wave(x, 10) * _wave(y, 10) + 1.5 * _noise(x.shape, 2.0, r),
    "hedges": lambda x, y, r: (_wave(x, 22) > 0.75) + 2 * _noise(x.shape, 3.0, r),
    "grain": lambda x, y, r: _noise(x.shape, 1.0, r),
    "clumps": lambda x, y, r: _noise(x.shape, 3.0, r),
    "crowns": lambda x, y, r: np.maximum(_noise(x.shape, 2.0, r) * 7, 0.8),
    "labyrinth": lambda x, y, r: -gaussian_laplace(r.standard_normal(x.shape), 2.5, mode="wrap"),
    "pools": lambda x, y, r: np.minimum(_noise(x.shape, 4.0, r) * 14, -0.5),
    "waves": lambda x, y, r: _wave(x + 25 * _noise(x.shape, 8.0, r), 14),
    "smooth": lambda x, y, r: _noise(x.shape, 9.0, r),
}
