"""SCT Fusion: one vision transformer a sensor, whose class tokens are fused after every block.

Hoffmann, Clasen and Demir 2023, "Transformer-based multi-modal learning for multi-label remote sensing image
classification" (arXiv:2306.01523): after each block the class tokens of all sensors go through a trainable
map, and the fused token takes the place of each sensor's own.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn


class ClassTokenFusion(nn.Module):
    """Encoder of stacked bands with one transformer for each sensor.

    Args:
        recipe: keyword arguments of ``timm.create_model`` for a vision transformer, without ``in_chans``.
        bands: number of bands of each sensor, in the order they are stacked.
    """

    def __init__(self, recipe: dict[str, Any], bands: Sequence[int]) -> None:
        super().__init__()
        import timm  # takes seconds

        self.bands = list(bands)
        vits: list[Any] = [timm.create_model(pretrained=False, in_chans=count, **recipe) for count in bands]
        self.sensors = nn.ModuleList(vits)
        width, depth = vits[0].embed_dim, len(vits[0].blocks)
        self.fusions = nn.ModuleList(nn.Linear(len(self.bands) * width, width) for _ in range(depth))

    def forward(self, images: Tensor) -> Tensor:
        """Return the fused class token (B, D) of stacked images (B, sum of bands, H, W)."""
        parts = torch.split(images, self.bands, dim=1)
        vits: list[Any] = list(self.sensors)
        tokens = [
            vit.norm_pre(vit._pos_embed(vit.patch_embed(part))) for vit, part in zip(vits, parts, strict=True)
        ]
        for depth, fusion in enumerate(self.fusions):
            tokens = [vit.blocks[depth](stream) for vit, stream in zip(vits, tokens, strict=True)]
            fused = fusion(torch.cat([stream[:, 0] for stream in tokens], dim=1))
            tokens = [torch.cat([fused[:, None], stream[:, 1:]], dim=1) for stream in tokens]
        return torch.stack([vit.norm(stream)[:, 0] for vit, stream in zip(vits, tokens, strict=True)]).mean(0)
