"""Sampling of views on a CPU: crop, flip, turn, up-sampling, radiometry and normalisation in one pass.

A view is turned by quarters only, so it samples the patch along its sides: between rows and then between
columns, or the other way round where that is less work, from the stored integers to the finished value.
Compiled by Numba; equal to ``grid_sample`` with ``padding_mode="border"`` up to rounding.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from mosaic.method.views import GRAIN_UNIT


def sample(
    stored: Tensor,
    theta: Tensor,
    scale: Tensor,
    offset: Tensor,
    places: Tensor,
    image: Tensor,
    clip: float,
    noise: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Write ``stored`` sampled where ``theta`` says, times ``scale`` plus ``offset``, into ``image``.

    Args:
        stored: (B, bands, size, size), int16.
        theta: (B, 2, 3), from view to patch coordinates, both (x, y) in [-1, 1]; its matrix is diagonal or
            anti-diagonal.
        scale: (B, channels, 1, 1).
        offset: (B, channels, 1, 1).
        places: (bands,), channels of the image that the bands go to.
        image: (B, channels, side, side), contiguous.
        clip: values are cut at plus and minus this.
        noise: seeds (B,) int32 and strength (channels,): :func:`mosaic.method.views.grain` times the strength
            is added before the cut.
    """
    seeds, strength = noise or (torch.zeros(len(stored), dtype=torch.int32), torch.zeros(image.shape[1]))
    strength = strength * GRAIN_UNIT
    whole = (stored, theta, scale[..., 0, 0], offset[..., 0, 0], image, seeds)
    arrays = [tensor.numpy() for tensor in whole]
    shared = (places.numpy(), strength.numpy(), clip)

    threads = torch.get_num_threads()
    share = -(-len(stored) // threads)

    def work(start: int) -> None:
        _sample(*(array[start : start + share] for array in arrays), *shared)

    helped = [_helpers(threads - 1).submit(work, start) for start in range(share, len(stored), share)]
    work(0)
    for helper in helped:
        helper.result()


@lru_cache(maxsize=1)
def _helpers(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "mosaic-views")


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first use, to run without the interpreter's lock; kept on disk for later processes."""
    return njit(nogil=True, cache=True, fastmath=True)(function)


@_compiled
def _lines(
    slope: float, centre: float, size: int, low: NDArray[Any], high: NDArray[Any], w: NDArray[Any]
) -> None:
    """Fill, for each position along a side of the view, the two pixels it lies between and its weight."""
    side = len(w)
    for k in range(side):
        at = slope * (np.float32(2 * k + 1) / np.float32(side) - np.float32(1)) + centre
        at = ((at + np.float32(1)) * np.float32(size) - np.float32(1)) * np.float32(0.5)
        at = min(max(at, np.float32(0)), np.float32(size - 1))
        low[k] = np.uint32(at)
        high[k] = min(low[k] + np.uint32(1), np.uint32(size - 1))
        w[k] = at - np.float32(low[k])


@_compiled
def _four_bytes(seed: int, first: int) -> Any:
    """Return the random bits of one pixel; see ``views.grain``."""
    # Numba widens products of 32 bits to 64
    x = np.uint32(np.uint32(seed) + np.uint32(first) * np.uint32(0x9E3779B9))
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
    x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
    return np.uint32(x ^ (x >> np.uint32(16)))


@_compiled
def _sample(
    stored: NDArray[Any],
    theta: NDArray[Any],
    scale: NDArray[Any],
    offset: NDArray[Any],
    image: NDArray[Any],
    seeds: NDArray[Any],
    places: NDArray[Any],
    strength: NDArray[Any],
    clip: float,
) -> None:
    size, side = stored.shape[2], image.shape[2]
    x0, x1 = np.empty(side, np.uint32), np.empty(side, np.uint32)
    y0, y1 = np.empty(side, np.uint32), np.empty(side, np.uint32)
    wx, wy = np.empty(side, np.float32), np.empty(side, np.float32)
    row, line = np.empty(size, np.float32), np.empty(side, np.float32)
    columns = np.empty((size, side), np.float32)
    most = np.float32(clip)
    for b in range(stored.shape[0]):
        t = theta[b]
        turned = t[0, 0] == 0 and t[1, 1] == 0
        # x and y are the patch's; in a turned view x runs along its columns
        _lines(t[0, 1] if turned else t[0, 0], t[0, 2], size, x0, x1, wx)
        _lines(t[1, 0] if turned else t[1, 1], t[1, 2], size, y0, y1, wy)
        first, last = min(y0[0], y0[side - 1]), max(y1[0], y1[side - 1])
        few = last - first < side  # fewer rows of the patch than of the view
        for band in range(places.shape[0]):
            c, pixels = places[band], stored[b, band]
            a, o, s = scale[b, c], offset[b, c], strength[c]
            if few:
                for r in range(first, last + 1):
                    whole, narrow = pixels[r], columns[r]
                    for k in range(size):
                        row[k] = np.float32(whole[k])
                    for k in range(side):
                        left = row[x0[k]]
                        narrow[k] = left + wx[k] * (row[x1[k]] - left)
            for j in range(side):
                w = wy[j]
                if few:
                    above, below = columns[y0[j]], columns[y1[j]]
                    for k in range(side):
                        line[k] = above[k] + w * (below[k] - above[k])
                else:
                    upper, lower = pixels[y0[j]], pixels[y1[j]]
                    for k in range(size):
                        top = np.float32(upper[k])
                        row[k] = top + w * (np.float32(lower[k]) - top)
                    for k in range(side):
                        left = row[x0[k]]
                        line[k] = left + wx[k] * (row[x1[k]] - left)
                for k in range(side):
                    line[k] = line[k] * a + o
                if s > 0:
                    start, step = (j, side) if turned else (j * side, 1)
                    for k in range(side):
                        x = _four_bytes(seeds[b], c * side * side + start + k * step)
                        total = (x & np.uint32(255)) + (x >> np.uint32(8) & np.uint32(255))
                        total += (x >> np.uint32(16) & np.uint32(255)) + (x >> np.uint32(24))
                        line[k] += s * (np.float32(total) - np.float32(510))
                target = image[b, c, :, j] if turned else image[b, c, j]
                for k in range(side):
                    target[k] = min(max(line[k], -most), most)
