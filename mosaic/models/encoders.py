"""Backbones from timm, one for each stream of a method."""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from mosaic.methods import Method
from mosaic.models.foundation import FOUNDATION
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import SettingsError, suggest
from mosaic.utils.interrupts import after_import

#: Encoder name -> timm architecture and its arguments. ``light`` is a ten-layer ResNet-T with narrow stages,
#: for CPUs: 1.2 million parameters and 256 features, at a fifth of the time of ResNet-18.
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "light": ("resnet10t", {"channels": (24, 48, 128, 256), "stem_width": 16}),
    "resnet18": ("resnet18", {}),
    "resnet50": ("resnet50", {}),
    "vit_light": (
        "vit_tiny_patch16_224",
        {"patch_size": 8, "dynamic_img_size": True, "embed_dim": 128, "depth": 4, "num_heads": 4},
    ),
    "vit_small": ("vit_small_patch16_224", {"patch_size": 8, "dynamic_img_size": True}),
}
#: Encoder without weights, see :class:`BandStatistics`.
STATISTICS = "statistics"
#: Encoders that fuse class tokens of one such transformer for each sensor; only for the stream ``"early"``.
FUSIONS: dict[str, str] = {"sct_light": "vit_light", "sct_small": "vit_small"}


def timm_recipe(name: str, in_channels: int, image_size: int) -> dict[str, Any]:
    """Return the arguments with which ``timm.create_model`` builds a backbone without a classifier.

    The name is a key of :data:`ENCODERS`, or any of ``timm.list_models()``; SettingsError for another.
    """
    import timm  # takes seconds

    architecture, arguments = ENCODERS.get(name, (name, {}))
    if not timm.is_model(architecture):
        names = dict.fromkeys((*ENCODERS, *FUSIONS, *timm.list_models()))
        near = " or ".join(map(repr, get_close_matches(name, names)))
        known = ", ".join(ENCODERS)
        hint = f"did you mean {near}?" if near else f"take {known}, or a name timm knows"
        raise SettingsError(f"unknown encoder {name!r}: {hint}")
    recipe = {"model_name": architecture, "in_chans": in_channels, "num_classes": 0, **arguments}
    fixed_size = getattr(timm.get_pretrained_cfg(architecture), "fixed_input_size", False)
    return {**recipe, "img_size": image_size} if fixed_size else recipe


def encoder_for(method: Method, encoder: str, vit: str) -> str:
    """Return the encoder of a method: ``encoder``, or ``vit`` or its fusion where it needs a transformer."""
    if method.architecture in ("", STATISTICS):
        return method.architecture or encoder
    fusions = {transformer: fusion for fusion, transformer in FUSIONS.items()}
    if vit not in fusions:
        raise SettingsError(f"{vit!r} is no vision transformer{suggest(vit, fusions)}")
    return fusions[vit] if method.architecture == "sct" else vit


def check_architecture(method: Method, encoder: str) -> None:
    """Refuse, by a SettingsError, an encoder other than those that a method is about."""
    known = {"vit": tuple(FUSIONS.values()), "sct": tuple(FUSIONS), STATISTICS: (STATISTICS,)}
    fitting = known.get(method.architecture)
    if fitting and encoder not in fitting:
        raise SettingsError(f"method {method.name!r} needs one of the encoders {', '.join(fitting)}")


def check_encoder(method: Method, encoder: str, layout: BandLayout, image_size: int) -> None:
    """Refuse an encoder that cannot be built for the images of a method, without computing anything."""
    check_architecture(method, encoder)
    with torch.device("meta"):
        Encoder(encoder, channels_of(method, layout), image_size)


def build_backbone(name: str, bands: Sequence[int], image_size: int) -> nn.Module:
    """Build a backbone, (B, sum of bands, H, W) -> (B, F), with weights from torch's global generator.

    ``name`` is a key of :data:`ENCODERS`, :data:`FUSIONS` or :data:`FOUNDATION`, or any that timm knows;
    ``bands`` are the numbers of bands of the sensors that are stacked. SettingsError for others, or a size
    that the patches of a transformer do not divide.
    """
    if name == STATISTICS:
        return BandStatistics()
    if name in FOUNDATION:
        return FOUNDATION[name](sum(bands), image_size)
    with after_import():
        import timm  # takes seconds
        from timm.layers.patch_embed import PatchEmbed

    backbone: nn.Module
    if name in FUSIONS:
        recipe = timm_recipe(FUSIONS[name], 0, image_size)
        del recipe["in_chans"]
        backbone = ClassTokenFusion(recipe, bands)
    else:
        backbone = timm.create_model(pretrained=False, **timm_recipe(name, sum(bands), image_size))
    for module in backbone.modules():
        side = module.patch_size[0] if isinstance(module, PatchEmbed) else 1
        if image_size % side:
            raise SettingsError(
                f"image_size is {image_size}; encoder {name!r} cuts images into patches of {side} pixels: "
                f"choose a multiple of {side}"
            )
    return backbone


class BandStatistics(nn.Module):
    """What a method must beat: mean, deviation and 10, 50, 90 % quantiles of each band, nothing learned."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the statistics (B, 5 x bands) of images (B, bands, H, W)."""
        pixels = images.flatten(2).sort(-1).values  # torch.quantile takes 2^24 values at most
        at = [0.1 * (pixels.shape[-1] - 1), 0.5 * (pixels.shape[-1] - 1), 0.9 * (pixels.shape[-1] - 1)]
        quantiles = [pixels[..., int(i)].lerp(pixels[..., -int(-i // 1)], i % 1) for i in at]
        moments = [pixels.mean(-1), pixels.std(-1, correction=0)]
        return torch.cat([*moments, *quantiles], dim=1)


class ClassTokenFusion(nn.Module):
    """SCT Fusion: one vision transformer a sensor, whose class tokens are fused after every block.

    Hoffmann et al. 2023 (arXiv:2306.01523): after each block the class tokens of all sensors go through a
    trainable map, and the fused token takes the place of each sensor's own. ``recipe`` is of a vision
    transformer, without ``in_chans``.
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


class Encoder(nn.Module):
    """One backbone for each stream, from its number of bands, or sensor -> number of bands to be stacked.

    SettingsError for a ``name`` that :func:`build_backbone` does not know, or one that takes other numbers of
    bands or another ``image_size``, the side of a view in pixels.
    """

    def __init__(
        self, name: str, in_channels: Mapping[str, int | Mapping[str, int]], image_size: int = 64
    ) -> None:
        super().__init__()
        self.name, self.image_size = name, image_size
        self.in_channels = {
            stream: {stream: bands} if isinstance(bands, int) else dict(bands)
            for stream, bands in in_channels.items()
        }
        self.backbones = nn.ModuleDict()
        self.feature_dims = {}  # stream -> F, the width of its pooled features
        for stream, sensors in self.in_channels.items():
            image = torch.zeros(1, sum(sensors.values()), image_size, image_size)
            try:
                backbone = build_backbone(name, list(sensors.values()), image_size)
                with torch.no_grad():  # timm's num_features is not always the pooled width
                    self.feature_dims[stream] = backbone.eval()(image).shape[1]
            except (AssertionError, LookupError, RuntimeError, TypeError) as error:  # of timm
                raise SettingsError(
                    f"encoder {name!r} does not take {image.shape[1]} bands of {image_size} pixels "
                    f"({error}): choose another image_size or encoder"
                ) from error
            self.backbones[stream] = backbone.train()
        self.to(memory_format=torch.channels_last)

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode sensor -> (B, bands, H, W), in standard deviations from the mean, to stream -> (B, F).

        A stream of none of these sensors is left out; one of several sees 0 in the bands of a missing one.
        """
        return {stream: self.backbones[stream](image) for stream, image in self._stack(images).items()}

    def with_maps(self, images: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return stream -> (B, F), and before pooling (B, F, h, w); of a transformer, (B, F, tokens, 1)."""
        pooled, maps = {}, {}
        backbone: Any  # of timm
        for stream, image in self._stack(images).items():
            backbone = self.backbones[stream]
            values = backbone.forward_features(image)
            pooled[stream] = backbone.forward_head(values, pre_logits=True)
            if values.ndim == 3:
                values = values[:, backbone.num_prefix_tokens :].transpose(1, 2).unsqueeze(-1)
            elif getattr(backbone, "output_fmt", "NCHW") == "NHWC":  # Swin
                values = values.permute(0, 3, 1, 2)
            maps[stream] = values
        return pooled, maps

    def _stack(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return stream -> stacked images of its sensors."""
        stacked = {}
        for stream, sensors in self.in_channels.items():
            like = next((images[sensor] for sensor in sensors if sensor in images), None)
            if like is not None:
                batch, _, *side = like.shape
                parts = [
                    images[sensor] if sensor in images else like.new_zeros(batch, bands, *side)
                    for sensor, bands in sensors.items()
                ]
                stacked[stream] = torch.cat(parts, dim=1) if len(parts) > 1 else like
        return stacked

    def fused(self, features: Mapping[str, Tensor], missing: Tensor | None = None) -> Tensor:
        """Join the features (B, F) of all streams to (B, sum of F).

        ``missing`` (sum of F,) stands in for those of a missing stream, zeros by default.
        """
        like, widths = next(iter(features.values())), self.feature_dims
        filled = like.new_zeros(sum(widths.values())) if missing is None else missing
        fill = zip(widths, torch.split(filled, list(widths.values())), strict=True)
        return torch.cat([features.get(s, part.expand(like.shape[0], -1)) for s, part in fill], dim=1)


def channels_of(method: Method, layout: BandLayout) -> dict[str, dict[str, int]]:
    """Return stream -> sensor -> number of bands of a method's streams; ``"early"`` stacks all sensors."""
    bands = {sensor.name: len(sensor.bands) for sensor in layout.sensors}
    return {
        stream: bands if stream == "early" else {stream: len(layout.sensor(stream).bands)}
        for stream in method.streams
    }
