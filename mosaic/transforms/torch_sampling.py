"""Sampling of views by torch, on any device: ``grid_sample``, then radiometry, noise and cut."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mosaic.utils.progress import log

#: Seeds (B,) int32 and strength (channels,) of :func:`grain`.
Noise = tuple[Tensor, Tensor] | None


def sample(
    stored: Tensor, affine: Tensor, channels: Tensor, image: Tensor, clip: float, noise: Noise = None
) -> None:
    """Write stored values, sampled along an affine map, times a factor plus a shift, into ``image``.

    Args:
        stored: (B, bands, size, size), int16.
        affine: (B, 6 + 2 channels), the map (2, 3) from view to patch coordinates, both (x, y) in [-1, 1],
            row by row, then factor and shift of each channel.
        channels: (bands,), channels of the image that the bands go to.
        image: (B, channels, side, side), channels last in memory.
        clip: values are cut at plus and minus this.
        noise: what is added before the cut, but where the factor is 0: these bands are dropped.
    """
    theta, factor, shift = torch.split(affine, [6, image.shape[1], image.shape[1]], 1)
    grid = _grid(theta.view(-1, 2, 3), image.shape[-1])
    sampled = functional.grid_sample(stored.float(), grid, padding_mode="border", align_corners=False)
    factor = factor[:, channels, None, None]
    sampled.mul_(factor).add_(shift[:, channels, None, None])
    if noise is not None:
        seeds, strength = noise
        rough = grain(seeds, image.shape[1], image.shape[-1])
        sampled.addcmul_(rough[:, channels], strength[channels].view(-1, 1, 1) * (factor != 0))
    image[:, channels] = sampled.clamp_(-clip, clip)


def guarded(fast: Callable[..., None], plain: Callable[..., None] = sample) -> Callable[..., None]:
    """Return a sampler that is ``fast``, or ``plain`` from the first call on that fails."""
    chosen = fast

    def run(*arguments: Any) -> None:
        nonlocal chosen
        try:
            chosen(*arguments)
        except Exception as error:  # no compiler, or one that fails: slower, but the same views
            if chosen is plain or isinstance(error, torch.OutOfMemoryError):
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            log(f"views are made by kernels that are not fused: Triton failed ({reason})")
            chosen = plain
            chosen(*arguments)

    return run


def grain(seeds: Tensor, channels: int, side: int) -> Tensor:
    """Return noise of mean 0 and deviation 1, almost normal: the sum of four random bytes.

    A hash of seed and position instead of a generator: a pixel's noise is the same on every device, in any
    order and however the batch is divided. The mixing is the 32-bit finaliser of MurmurHash3 (A. Appleby).
    From ``seeds`` (B,) int32, one a scene, to (B, channels, side, side), float32, within +-3.45.
    """
    pixel = torch.arange(channels * side * side, dtype=torch.int32, device=seeds.device)
    # as signed numbers 0x9E3779B9, 0x85EBCA6B and 0xC2B2AE35
    x = seeds[:, None] + pixel * -0x61C88647
    shifted = torch.empty_like(x)  # in place: new memory takes longer than what is computed
    x.bitwise_xor_(_shifted(x, 16, shifted)).mul_(-0x7A143595)
    x.bitwise_xor_(_shifted(x, 13, shifted)).mul_(-0x3D4D51CB)
    x.bitwise_xor_(_shifted(x, 16, shifted))
    total = x & 255
    for by in (8, 16, 24):
        total.add_(_shifted(x, by, shifted).bitwise_and_(255))
    return total.float().sub_(510).mul_(GRAIN_UNIT).view(-1, channels, side, side)


#: 1 / deviation of the sum of four bytes.
GRAIN_UNIT = float((4 * (256**2 - 1) / 12) ** -0.5)


def _shifted(x: Tensor, by: int, out: Tensor) -> Tensor:
    """Shift int32 to the right as if it had no sign, into ``out``."""
    return torch.bitwise_right_shift(x, by, out=out).bitwise_and_((1 << (32 - by)) - 1)


def _grid(theta: Tensor, side: int) -> Tensor:
    """Return the (B, side, side, 2) of ``affine_grid``; elementwise, for full precision on a GPU."""
    centres = (torch.arange(side, device=theta.device) * 2 + 1) / side - 1
    along_x = theta[:, None, None, :, 0] * centres[None, None, :, None]
    along_y = theta[:, None, None, :, 1] * centres[None, :, None, None]
    return along_x + along_y + theta[:, None, None, :, 2]
