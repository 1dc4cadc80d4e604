"""Sampling of views on a CPU: crop, flip, turn, up-sampling, radiometry and normalisation in one pass.

A view is turned by quarters only, so it samples the patch along its sides: first between the lines that
become its columns, then between its rows. Both times whole lines are combined, as wide registers do best;
blocks transposed in registers bring them into place.
Compiled by Numba; equal to ``grid_sample`` with ``padding_mode="border"`` up to rounding.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

from mosaic.transforms.torch_sampling import GRAIN_UNIT


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
        noise: seeds (B,) int32 and strength (channels,): :func:`mosaic.transforms.torch_sampling.grain` times
            the strength is added before the cut.
    """
    seeds, strength = noise or (torch.zeros(len(stored), dtype=torch.int32), torch.zeros(image.shape[1]))
    strength = strength * GRAIN_UNIT
    whole = (stored.contiguous(), theta, scale[..., 0, 0], offset[..., 0, 0], image, seeds)
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


_EIGHT = ir.VectorType(ir.IntType(32), 8)


@intrinsic
def _turn_block(context: Any, source: Any, row: Any, column: Any, target: Any) -> Any:
    """Transpose 8 x 8 values from (row, column) of ``source`` to (column, row) of ``target``.

    The values of a row must lie side by side. Halves of the block change places, then quarters, then
    neighbours: 24 shuffles of whole lines.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = context.get_data_type(source.dtype)
        line, aligned = ir.VectorType(kind, 8), kind.get_abi_alignment(context.target_data)

        def pointer(which: int, at: Any, lower: int, to: Any) -> Any:
            of = signature.args[which]
            array = context.make_array(of)(context, builder, arguments[which])
            at = builder.add(at, ir.Constant(at.type, lower))
            find: Any = cgutils.get_item_pointer
            place = find(context, builder, of, array, [at, to])
            return builder.bitcast(place, line.as_pointer())

        _, row, column, _ = arguments
        lines = [builder.load(pointer(0, row, k, column)) for k in range(8)]
        for loaded in lines:
            loaded.align = aligned  # as a single value: lines start anywhere
        for by in (4, 2, 1):
            first = ir.Constant(_EIGHT, [k + 8 - by if k & by else k for k in range(8)])
            second = ir.Constant(_EIGHT, [k + 8 if k & by else k + by for k in range(8)])
            for k in range(8):
                if not k & by:
                    pair = lines[k], lines[k + by]
                    lines[k] = builder.shuffle_vector(*pair, first)
                    lines[k + by] = builder.shuffle_vector(*pair, second)
        for k, turned in enumerate(lines):
            builder.store(turned, pointer(3, column, k, row)).align = aligned
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, target), generate


@_compiled
def _transpose(source: NDArray[Any], rows: int, columns: int, target: NDArray[Any]) -> None:
    """Fill ``target[:columns, :rows]`` from ``source[:rows, :columns]``."""
    if rows < 8 or columns < 8:
        for r in range(rows):
            for c in range(columns):
                target[c, r] = source[r, c]
        return
    for r in range(0, rows, 8):
        for c in range(0, columns, 8):
            # the last ones overlap those before them
            _turn_block(source, min(r, rows - 8), min(c, columns - 8), target)  # type: ignore[call-arg]


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
    upright = np.empty((size, size), np.int16)
    tall, narrow = np.empty((side, size), np.float32), np.empty((size, side), np.float32)
    rough = np.empty(side, np.float32)
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
            # upright: the columns of the patch as lines; a quarter turn makes its rows columns of the view
            if turned:
                lines, start = pixels, first
            else:
                _transpose(pixels[first:], count, size, upright)
                lines, start = upright, 0
            # tall: columns of the view along the pixels between which its rows lie; narrow: the same as rows
            for k in range(side):
                left, right, share, line = lines[x0[k]], lines[x1[k]], wx[k], tall[k]
                for i in range(count):
                    near = np.float32(left[start + i])
                    line[i] = near + share * (np.float32(right[start + i]) - near)
            _transpose(tall, side, count, narrow)
            a, o, s = scale[b, c], offset[b, c], strength[c]
            for j in range(side):
                one, other, target = narrow[y0[j]], narrow[y1[j]], image[b, c, j]
                nearer, further = a * (np.float32(1) - wy[j]), a * wy[j]
                if s > 0:
                    _grain(seeds[b], (c * side + j) * side, s, rough)
                    for k in range(side):
                        value = nearer * one[k] + (further * other[k] + (o + rough[k]))
                        target[k] = min(max(value, -most), most)
                else:
                    for k in range(side):
                        value = nearer * one[k] + (further * other[k] + o)
                        target[k] = min(max(value, -most), most)
