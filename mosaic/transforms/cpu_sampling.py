"""Sampling of views on a CPU: crop, flip, turn, up-sampling, radiometry and normalisation in one pass.

A view is turned by quarters only, so it samples the patch along its sides: first between the columns of each
row of the patch, then between the rows. Compiled by Numba; equal to ``grid_sample`` with
``padding_mode="border"`` up to rounding.
"""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numba import njit
from numpy.typing import NDArray
from torch import Tensor

from mosaic.transforms.torch_sampling import GRAIN_UNIT


def sample(
    stored: Tensor,
    theta: Tensor,
    factor: Tensor,
    shift: Tensor,
    channels: Tensor,
    image: Tensor,
    clip: float,
    noise: tuple[Tensor, Tensor] | None = None,
) -> None:
    """Do what :func:`mosaic.transforms.torch_sampling.sample` does, whose arguments it takes, on a CPU."""
    seeds, strength = noise or (torch.zeros(len(stored), dtype=torch.int32), torch.zeros(image.shape[1]))
    per_scene = [t.contiguous().numpy() for t in (stored, theta, factor, shift)]
    batch = [*per_scene, image.numpy(), seeds.contiguous().numpy()]
    shared = channels.numpy(), (strength * GRAIN_UNIT).numpy(), np.float32(clip)
    threads = torch.get_num_threads()
    share = -(-len(stored) // threads)

    def work(start: int) -> None:
        _sample(*(array[start : start + share] for array in batch), *shared)  # type: ignore[call-arg, arg-type]

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(0, len(stored), share)))


@njit(nogil=True, cache=True, fastmath=True)
def _positions(
    slope: float, centre: float, size: int, low: NDArray[Any], high: NDArray[Any], weight: NDArray[Any]
) -> None:
    """Fill, for each position along a side of the view, the two pixels it lies between and its weight."""
    side = len(weight)
    for k in range(side):
        at = slope * (np.float32(2 * k + 1) / np.float32(side) - np.float32(1)) + centre
        at = ((at + np.float32(1)) * np.float32(size) - np.float32(1)) * np.float32(0.5)
        at = min(max(at, np.float32(0)), np.float32(size - 1))
        low[k] = np.uint32(at)
        high[k] = min(low[k] + np.uint32(1), np.uint32(size - 1))
        weight[k] = at - np.float32(low[k])


@njit(nogil=True, cache=True, fastmath=True)
def _grain(seed: int, first: int, strength: float, out: NDArray[Any]) -> None:
    """Fill a row with the ``grain`` from its pixel ``first`` on, times ``strength`` / ``GRAIN_UNIT``."""
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


@njit(nogil=True, cache=True, fastmath=True)
def _sample(
    stored: NDArray[Any],
    theta: NDArray[Any],
    factor: NDArray[Any],
    shift: NDArray[Any],
    image: NDArray[Any],
    seeds: NDArray[Any],
    channels: NDArray[Any],
    strength: NDArray[Any],
    clip: float,
) -> None:
    size, side = stored.shape[2], image.shape[2]
    x0, x1 = np.empty(side, np.uint32), np.empty(side, np.uint32)
    y0, y1 = np.empty(side, np.uint32), np.empty(side, np.uint32)
    wx, wy = np.empty(side, np.float32), np.empty(side, np.float32)
    narrow, upright = np.empty((size, side), np.float32), np.empty((size, size), np.int16)
    noise = np.empty(side, np.float32)
    noisy = strength.max() > 0
    for b in range(stored.shape[0]):
        t = theta[b]
        turned = t[0, 0] == 0 and t[1, 1] == 0
        across, down = (1, 0) if turned else (0, 1)  # sides of the patch
        _positions(t[across, 0], t[across, 2], size, x0, x1, wx)
        _positions(t[down, 1], t[down, 2], size, y0, y1, wy)
        for band in range(channels.shape[0]):
            c, pixels = channels[band], stored[b, band]
            if turned:
                for i in range(size):
                    for j in range(size):
                        upright[j, i] = pixels[i, j]
                pixels = upright
            for i in range(min(y0[0], y0[side - 1]), max(y1[0], y1[side - 1]) + 1):
                source, row = pixels[i], narrow[i]
                for k in range(side):
                    left = np.float32(source[x0[k]])
                    row[k] = left + wx[k] * (np.float32(source[x1[k]]) - left)
            a, o, s = factor[b, c], shift[b, c], strength[c]
            for j in range(side):
                above, below, target = narrow[y0[j]], narrow[y1[j]], image[b, c, j]
                nearer, further = a * (np.float32(1) - wy[j]), a * wy[j]
                if noisy:
                    _grain(seeds[b], (c * side + j) * side, s, noise)
                    for k in range(side):
                        value = nearer * above[k] + (further * below[k] + (o + noise[k]))
                        target[k] = min(max(value, -clip), clip)
                else:
                    for k in range(side):
                        value = nearer * above[k] + (further * below[k] + o)
                        target[k] = min(max(value, -clip), clip)
