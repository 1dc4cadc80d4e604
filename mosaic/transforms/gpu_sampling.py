"""Sampling of views on a GPU: all that is done to a group of bands in one Triton kernel.

Equal to :mod:`mosaic.transforms.torch_sampling` up to rounding.
"""

from typing import Any

import triton
import triton.language as tl
from torch import Tensor

from mosaic.transforms.torch_sampling import GRAIN_UNIT, Noise

_BLOCK = 128  # pixels of a program


def sample(
    stored: Tensor, affine: Tensor, channels: Tensor, image: Tensor, clip: float, noise: Noise = None
) -> None:
    """Do what :func:`mosaic.transforms.torch_sampling.sample` does, whose arguments it takes, on a GPU."""
    batch, bands, size = stored.shape[:3]
    side = image.shape[-1]
    seeds, strength = noise or (channels, affine)  # not read without noise
    kernel: Any = _sample
    kernel[(batch, triton.cdiv(side * side, _BLOCK))](
        *(stored.contiguous(), affine, channels, image, seeds, strength),
        *(affine.stride(0), seeds.stride(0), image.shape[1], bands, size, side, clip, GRAIN_UNIT),
        NOISE=noise is not None,
        BANDS=triton.next_power_of_2(bands),
        BLOCK=_BLOCK,
    )


@triton.jit
def _sample(  # type: ignore[no-untyped-def]
    stored,
    affine,
    channels,
    image,
    seeds,
    strength,
    affine_stride,
    seeds_stride,
    all_channels,
    bands,
    size,
    side,
    clip,
    grain_unit,
    NOISE: tl.constexpr,
    BANDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    scene = tl.program_id(0).to(tl.int64)
    pixel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    row, column = pixel // side, pixel % side
    band = tl.arange(0, BANDS)
    inside = (pixel < side * side)[:, None] & (band < bands)[None, :]
    # positions in the patch, cut at its border
    x = (2 * column + 1).to(tl.float32) / side - 1
    y = (2 * row + 1).to(tl.float32) / side - 1
    t = affine + scene * affine_stride
    along = tl.load(t) * x + tl.load(t + 1) * y + tl.load(t + 2)
    down = tl.load(t + 3) * x + tl.load(t + 4) * y + tl.load(t + 5)
    along = tl.minimum(tl.maximum(((along + 1) * size - 1) * 0.5, 0.0), (size - 1).to(tl.float32))
    down = tl.minimum(tl.maximum(((down + 1) * size - 1) * 0.5, 0.0), (size - 1).to(tl.float32))
    x0, y0 = along.to(tl.int32), down.to(tl.int32)
    x1, y1 = tl.minimum(x0 + 1, size - 1), tl.minimum(y0 + 1, size - 1)
    wx, wy = (along - x0)[:, None], (down - y0)[:, None]
    # bilinear between four stored values
    plane = stored + (scene * bands + band[None, :]) * size * size
    above, below = plane + (y0 * size)[:, None], plane + (y1 * size)[:, None]
    a = tl.load(above + x0[:, None], mask=inside, other=0).to(tl.float32)
    b = tl.load(above + x1[:, None], mask=inside, other=0).to(tl.float32)
    c = tl.load(below + x0[:, None], mask=inside, other=0).to(tl.float32)
    d = tl.load(below + x1[:, None], mask=inside, other=0).to(tl.float32)
    upper, lower = a + wx * (b - a), c + wx * (d - c)
    value = upper + wy * (lower - upper)
    channel = tl.load(channels + band, mask=band < bands, other=0).to(tl.int32)
    gain = tl.load(t + 6 + channel)[None, :]
    offset = tl.load(t + 6 + all_channels + channel)[None, :]
    value = value * gain + offset
    if NOISE:  # the hash of torch_sampling.grain
        place = (channel[None, :] * side + row[:, None]) * side + column[:, None]
        seed = tl.load(seeds + scene * seeds_stride).to(tl.uint32, bitcast=True)
        h = seed + place.to(tl.uint32) * 0x9E3779B9
        h = (h ^ (h >> 16)) * 0x85EBCA6B
        h = (h ^ (h >> 13)) * 0xC2B2AE35
        h = h ^ (h >> 16)
        total = (h & 255) + ((h >> 8) & 255) + ((h >> 16) & 255) + (h >> 24)
        grain = (total.to(tl.float32) - 510) * grain_unit
        value += grain * (tl.load(strength + channel)[None, :] * (gain != 0).to(tl.float32))
    value = tl.minimum(tl.maximum(value, -clip), clip)
    target = ((scene * side + row[:, None]) * side + column[:, None]) * all_channels + channel[None, :]
    tl.store(image + target, value, mask=inside)
