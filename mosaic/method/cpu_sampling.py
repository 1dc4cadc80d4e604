"""Sampling of views on a CPU: crop, flip, turn, up-sampling, radiometry and normalisation in one pass.

A view is turned by quarters only, so it samples the patch along its sides: between columns and then between
rows, from the stored integers to the finished value.
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

from mosaic.method.torch_sampling import GRAIN_UNIT


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
        noise: seeds (B,) int32 and strength (channels,): :func:`mosaic.method.torch_sampling.grain` times the
            strength is added before the cut.
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
def _grain(seed: int, first: int, strength: float, out: NDArray[Any]) -> None:
    """Fill a line with the ``grain`` from its pixel ``first`` on, times ``strength`` / ``GRAIN_UNIT``."""
    # Numba widens whatever is done with 32 bits to 64; narrowed at each step it stays in the wide registers
    u = np.uint32
    start = u(u(seed) + u(u(first) * u(0x9E3779B9)))
    for k in range(len(out)):
        x = u(start + u(u(k) * u(0x9E3779B9)))
        x = u(u(x ^ u(x >> u(16))) * u(0x85EBCA6B))
        x = u(u(x ^ u(x >> u(13))) * u(0xC2B2AE35))
        x = u(x ^ u(x >> u(16)))
        pairs = u(u(x & u(0x00FF00FF)) + u(u(x >> u(8)) & u(0x00FF00FF)))
        total = np.int32(u(u(pairs & u(0xFFFF)) + u(pairs >> u(16))))
        out[k] = strength * (np.float32(total) - np.float32(510))


@_compiled
def _between_columns(
    rows: NDArray[Any], count: int, low: NDArray[Any], high: NDArray[Any], w: NDArray[Any], out: NDArray[Any]
) -> None:
    """Fill each of ``count`` rows of ``out`` (..., len(w)) from the columns that its values lie between."""
    for first in range(0, count - 3, 4):  # four rows at a time share the look-up of places
        r0, r1, r2, r3 = rows[first], rows[first + 1], rows[first + 2], rows[first + 3]
        o0, o1, o2, o3 = out[first], out[first + 1], out[first + 2], out[first + 3]
        for k in range(len(w)):
            a, b, share = low[k], high[k], w[k]
            o0[k] = r0[a] + share * (r0[b] - r0[a])
            o1[k] = r1[a] + share * (r1[b] - r1[a])
            o2[k] = r2[a] + share * (r2[b] - r2[a])
            o3[k] = r3[a] + share * (r3[b] - r3[a])
    for r in range(count - count % 4, count):
        for k in range(len(w)):
            left = rows[r, low[k]]
            out[r, k] = left + w[k] * (rows[r, high[k]] - left)


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
    # between which pixels the columns and the rows of the view lie, and how near to the second
    x0, x1 = np.empty(side, np.uint32), np.empty(side, np.uint32)
    y0, y1 = np.empty(side, np.uint32), np.empty(side, np.uint32)
    wx, wy = np.empty(side, np.float32), np.empty(side, np.float32)
    whole, tall = np.empty((size, size), np.float32), np.empty((side, size), np.float32)
    narrow, rough = np.empty((size, side), np.float32), np.zeros(side, np.float32)
    most = np.float32(clip)
    for b in range(stored.shape[0]):
        t = theta[b]
        turned = t[0, 0] == 0 and t[1, 1] == 0
        across, down = (1, 0) if turned else (0, 1)  # sides of the patch
        _lines(t[across, 0], t[across, 2], size, x0, x1, wx)
        _lines(t[down, 1], t[down, 2], size, y0, y1, wy)
        first = min(y0[0], y0[side - 1])
        count = max(y1[0], y1[side - 1]) + 1 - first
        for j in range(side):
            y0[j] -= first
            y1[j] -= first
        for band in range(places.shape[0]):
            c, pixels = places[band], stored[b, band]
            # narrow: the pixels along the rows of the view, already between those across
            if turned:
                for k in range(side):
                    upper, lower, share, line = pixels[x0[k]], pixels[x1[k]], wx[k], tall[k]
                    for i in range(count):
                        above = np.float32(upper[first + i])
                        line[i] = above + share * (np.float32(lower[first + i]) - above)
                for i in range(count):
                    for k in range(side):
                        narrow[i, k] = tall[k, i]
            else:
                for i in range(count):
                    for k in range(size):
                        whole[i, k] = np.float32(pixels[first + i, k])
                _between_columns(whole, count, x0, x1, wx, narrow)
            a, o, s = scale[b, c], offset[b, c], strength[c]
            for j in range(side):
                one, other, share, target = narrow[y0[j]], narrow[y1[j]], wy[j], image[b, c, j]
                if s > 0:
                    _grain(seeds[b], (c * side + j) * side, s, rough)
                for k in range(side):
                    value = (one[k] + share * (other[k] - one[k])) * a + o + rough[k]
                    target[k] = min(max(value, -most), most)
            rough[:] = 0
