"""Backbones from timm, one for each stream, and the heads that a method needs."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.methods import Method
from mosaic.models.foundation import FOUNDATION
from mosaic.models.sct_fusion import ClassTokenFusion
from mosaic.utils.distributed import gather
from mosaic.utils.errors import SettingsError, suggest

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
#: Encoders that fuse class tokens of one such transformer for each sensor; only for the stream ``"early"``.
FUSIONS: dict[str, str] = {"sct_light": "vit_light", "sct_small": "vit_small"}
_RADAR_BANDS = 2  # VV and VH come first in stacked bands


def timm_recipe(name: str, in_channels: int, image_size: int) -> dict[str, Any]:
    """Return the keyword arguments with which ``timm.create_model`` builds a backbone without a classifier.

    Args:
        name: a key of :data:`ENCODERS`.
        in_channels: number of bands.
        image_size: side of a view in pixels; only the position embedding of a ViT depends on it.

    Raises:
        SettingsError: for an unknown name.
    """
    if name not in ENCODERS:
        raise SettingsError(f"unknown encoder {name!r}{suggest(name, [*ENCODERS, *FUSIONS])}")
    architecture, arguments = ENCODERS[name]
    recipe = {"model_name": architecture, "in_chans": in_channels, "num_classes": 0, **arguments}
    return {**recipe, "img_size": image_size} if architecture.startswith("vit") else recipe


def encoder_for(method: Method, encoder: str, vit: str) -> str:
    """Return the name of the encoder that a method is trained with.

    Args:
        method: a row of the table.
        encoder: the run's encoder.
        vit: the run's vision transformer, for methods that need one.

    Raises:
        SettingsError: when ``vit`` is none of the vision transformers.
    """
    if not method.architecture:
        return encoder
    fusions = {transformer: fusion for fusion, transformer in FUSIONS.items()}
    if vit not in fusions:
        raise SettingsError(f"{vit!r} is no vision transformer{suggest(vit, fusions)}")
    return fusions[vit] if method.architecture == "sct" else vit


def check_architecture(method: Method, encoder: str) -> None:
    """Refuse an encoder that is not what a method is about.

    Raises:
        SettingsError: naming the encoders that are.
    """
    fitting = {"vit": tuple(FUSIONS.values()), "sct": tuple(FUSIONS)}.get(method.architecture)
    if fitting and encoder not in fitting:
        raise SettingsError(f"method {method.name!r} needs one of the encoders {', '.join(fitting)}")


def build_backbone(name: str, in_channels: int, image_size: int) -> nn.Module:
    """Build a backbone, (B, in_channels, H, W) -> (B, F), with weights drawn from torch's global generator.

    Arguments and errors are those of :func:`timm_recipe`; ``name`` may also be a key of :data:`FUSIONS` or
    :data:`FOUNDATION`.
    """
    if name in FOUNDATION:
        return FOUNDATION[name](in_channels, image_size)
    import timm  # seconds, which a notebook that only reads results does without

    if name in FUSIONS:
        recipe = timm_recipe(FUSIONS[name], in_channels, image_size)
        del recipe["in_chans"]
        return ClassTokenFusion(recipe, (_RADAR_BANDS, in_channels - _RADAR_BANDS))
    return timm.create_model(pretrained=False, **timm_recipe(name, in_channels, image_size))


class Encoder(nn.Module):
    """One backbone for each stream.

    Args:
        name: a key of :data:`ENCODERS`, :data:`FUSIONS` or :data:`FOUNDATION`.
        in_channels: stream (``"s1"``, ``"s2"`` or ``"early"``) -> number of bands.
        image_size: side of a view in pixels.

    Attributes:
        feature_dims: stream -> F, the width of its pooled features.

    Raises:
        SettingsError: for an unknown name.
    """

    def __init__(self, name: str, in_channels: Mapping[str, int], image_size: int = 64) -> None:
        super().__init__()
        self.name = name
        self.in_channels = dict(in_channels)
        self.image_size = image_size
        self.backbones = nn.ModuleDict(
            {stream: build_backbone(name, bands, image_size) for stream, bands in in_channels.items()}
        ).to(memory_format=torch.channels_last)
        self.feature_dims = {stream: self._width(stream) for stream in in_channels}

    @torch.no_grad()
    def _width(self, stream: str) -> int:
        # timm's num_features is not always the pooled width, so a dry forward tells it
        backbone = self.backbones[stream].eval()
        width = backbone(torch.zeros(1, self.in_channels[stream], self.image_size, self.image_size)).shape[1]
        backbone.train()
        return width

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode what is there.

        Args:
            images: ``"s1"`` (B, 2, H, W) and/or ``"s2"`` (B, bands, H, W), in standard deviations from the
                training mean.

        Returns:
            Stream -> (B, F). A stream of a missing sensor is left out; early fusion sees the mean, 0, in the
            bands of a missing sensor.
        """
        stacked = {**images, "early": self._stack(images)} if "early" in self.backbones else images
        return {s: backbone(stacked[s]) for s, backbone in self.backbones.items() if s in stacked}

    def with_maps(self, images: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Encode, and return the feature maps before pooling as well.

        Args:
            images: as for :meth:`forward`.

        Returns:
            Stream -> (B, F), and stream -> (B, F, h, w); of a transformer, (B, F, tokens, 1).
        """
        stacked = {**images, "early": self._stack(images)} if "early" in self.backbones else images
        pooled, maps = {}, {}
        backbone: Any  # of timm
        for stream, backbone in self.backbones.items():
            values = backbone.forward_features(stacked[stream])
            pooled[stream] = backbone.forward_head(values, pre_logits=True)
            if values.ndim == 3:
                values = values[:, backbone.num_prefix_tokens :].transpose(1, 2).unsqueeze(-1)
            maps[stream] = values
        return pooled, maps

    def _stack(self, images: Mapping[str, Tensor]) -> Tensor:
        if len(images) == 2:
            return torch.cat([images["s1"], images["s2"]], dim=1)
        ((sensor, image),) = images.items()
        absent = image.new_zeros(len(image), self.in_channels["early"] - image.shape[1], *image.shape[2:])
        return torch.cat([image, absent] if sensor == "s1" else [absent, image], dim=1)

    def fused(self, features: Mapping[str, Tensor], missing: Mapping[str, Tensor] | None = None) -> Tensor:
        """Join the features of all streams, the representation of a scene.

        Args:
            features: stream -> (B, F), at least one.
            missing: stream -> (F,), what stands for a stream that ``features`` lacks, such as its mean over
                the training split; zeros by default.

        Returns:
            (B, sum of F), streams in the encoder's order.
        """
        any_feature = next(iter(features.values()))
        stand_in = missing or {}
        parts = []
        for stream, width in self.feature_dims.items():
            if stream in features:
                parts.append(features[stream])
            else:
                constant = stand_in.get(stream, any_feature.new_zeros(width)).to(any_feature)
                parts.append(constant.expand(len(any_feature), -1))
        return torch.cat(parts, dim=1)


def channels_of(method: Method, s1_bands: int, s2_bands: int) -> dict[str, int]:
    """Return the number of bands of each of a method's streams."""
    bands = {"s1": s1_bands, "s2": s2_bands, "early": s1_bands + s2_bands}
    return {stream: bands[stream] for stream in method.streams}


def projection_head(in_dim: int, out_dim: int) -> nn.Module:
    """Return two linear layers with batch normalisation between (SimCLR): (N, in_dim) -> (N, out_dim)."""
    return nn.Sequential(
        nn.Linear(in_dim, in_dim, bias=False),
        nn.BatchNorm1d(in_dim),
        nn.ReLU(inplace=True),
        nn.Linear(in_dim, out_dim),
    )


class Heads(nn.Module):
    """The heads that a method's terms need, and no others.

    One intra and one inter head for each sensor, one label head that the sensors share, and a linear
    classifier on the joined features. Each call of a head sees one sensor, so batch norm never mixes them.

    Args:
        method: a row of the table.
        feature_dims: stream -> width of the encoder's features.
        classes: number of labels C.
        projection_dim: width D of the projections.
    """

    def __init__(
        self, method: Method, feature_dims: Mapping[str, int], classes: int, projection_dim: int = 128
    ) -> None:
        super().__init__()
        self.projections = nn.ModuleDict()
        for term in ("intra", "inter", "label"):
            for stream, width in feature_dims.items():
                name = _head_name(term, stream)
                if getattr(method, term) > 0 and name not in self.projections:
                    self.projections[name] = projection_head(width, projection_dim)
        self.classifier = nn.Linear(sum(feature_dims.values()), classes) if method.classify > 0 else None

    def project(self, term: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project features through the heads of a term.

        Args:
            term: ``"intra"``, ``"inter"`` or ``"label"``.
            features: stream -> (V, b, F), V views stacked, of this process's part of the batch.

        Returns:
            Stream -> (V, B, D) of the whole batch, L2-normalised, float32; empty when the method has no such
            term.
        """
        projected = {}
        for stream, feature in features.items():
            name = _head_name(term, stream)
            if name in self.projections:
                z = self.projections[name](feature.flatten(0, 1)).float()
                z = functional.normalize(z, dim=1).view(*feature.shape[:2], -1)
                projected[stream] = gather(z, dim=1)
        return projected

    def classify(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """Return the logits of the whole batch (V, B, C); ``None`` without a classifier.

        Args:
            features: stream -> (V, b, F), of this process's part of the batch.
        """
        if self.classifier is None:
            return None
        return gather(self.classifier(torch.cat(list(features.values()), dim=-1)), dim=1)


def _head_name(term: str, stream: str) -> str:
    return term if term == "label" else f"{term}_{stream}"
