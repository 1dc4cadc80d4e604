"""Backbones from timm, one for each stream, and the heads that a method needs."""

from collections.abc import Mapping
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.common.errors import SettingsError, suggest
from mosaic.method.methods import Method

#: Encoder name -> timm architecture and its arguments. ``light`` is a ten-layer ResNet-T of narrow stages
#: for CPUs: 0.7 million parameters, 192 features.
ENCODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "light": ("resnet10t", {"channels": (24, 48, 96, 192), "stem_width": 16}),
    "resnet18": ("resnet18", {}),
    "resnet50": ("resnet50", {}),
    "vit_small": ("vit_small_patch16_224", {"patch_size": 8, "dynamic_img_size": True}),
}


def build_backbone(name: str, in_channels: int, image_size: int = 64) -> nn.Module:
    """Return a timm backbone without a classifier: (B, in_channels, H, W) -> (B, F).

    Args:
        name: a key of :data:`ENCODERS`.
        in_channels: number of bands.
        image_size: side of a view in pixels; only a ViT's position embedding depends on it.

    Raises:
        SettingsError: for an unknown name.
    """
    if name not in ENCODERS:
        raise SettingsError(f"unknown encoder {name!r}{suggest(name, ENCODERS)}")
    architecture, arguments = ENCODERS[name]
    if architecture.startswith("vit"):
        arguments = {**arguments, "img_size": image_size}
    return timm.create_model(architecture, in_chans=in_channels, num_classes=0, pretrained=False, **arguments)


class Encoder(nn.Module):
    """One backbone for each stream.

    Args:
        name: a key of :data:`ENCODERS`.
        in_channels: stream (``"s1"``, ``"s2"`` or ``"early"``) -> number of bands.
        image_size: side of a view in pixels.

    Attributes:
        feature_dims: stream -> F, the width of its pooled features.
    """

    def __init__(self, name: str, in_channels: Mapping[str, int], image_size: int = 64) -> None:
        super().__init__()
        self.name = name
        self.in_channels = dict(in_channels)
        self.image_size = image_size
        self.backbones = nn.ModuleDict(
            {stream: build_backbone(name, bands, image_size) for stream, bands in in_channels.items()}
        )
        self.feature_dims = {
            stream: self._width(backbone, in_channels[stream]) for stream, backbone in self.backbones.items()
        }

    def _width(self, backbone: nn.Module, bands: int) -> int:
        # timm's num_features is not always the pooled width, so a dry forward tells it
        training = backbone.training
        with torch.no_grad():
            width = backbone.eval()(torch.zeros(1, bands, self.image_size, self.image_size)).shape[1]
        backbone.train(training)
        return int(width)

    def forward(self, images: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Encode the streams whose sensors are there.

        Args:
            images: ``"s1"`` (B, 2, H, W) and/or ``"s2"`` (B, bands, H, W), normalised.

        Returns:
            Stream -> (B, F). A stream whose sensor is missing is left out.
        """
        features = {}
        for stream, backbone in self.backbones.items():
            if stream == "early":
                if "s1" in images and "s2" in images:
                    features[stream] = backbone(torch.cat([images["s1"], images["s2"]], dim=1))
            elif stream in images:
                features[stream] = backbone(images[stream])
        return features


def channels_of(method: Method, s1_bands: int, s2_bands: int) -> dict[str, int]:
    """Return the number of bands of each of a method's streams."""
    return {
        stream: {"s1": s1_bands, "s2": s2_bands, "early": s1_bands + s2_bands}[stream]
        for stream in method.streams
    }


def projection_head(in_dim: int, out_dim: int) -> nn.Module:
    """Two layers with batch normalisation between (SimCLR)."""
    return nn.Sequential(
        nn.Linear(in_dim, in_dim, bias=False), nn.BatchNorm1d(in_dim), nn.ReLU(inplace=True), nn.Linear(in_dim, out_dim)
    )


class Heads(nn.Module):
    """The heads a method's terms need, and no others.

    One intra and one inter head for each sensor; one label head shared by the sensors; a linear classifier on
    the joined features. Every call of a head sees one sensor, so batch statistics never mix sensors.

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
        self.intra = nn.ModuleDict()
        self.inter = nn.ModuleDict()
        self.label: nn.Module | None = None
        self.classifier: nn.Linear | None = None
        for stream, width in feature_dims.items():
            if method.intra > 0:
                self.intra[stream] = projection_head(width, projection_dim)
            if method.inter > 0:
                self.inter[stream] = projection_head(width, projection_dim)
        if method.label > 0:
            widths = set(feature_dims.values())
            if len(widths) > 1:
                raise SettingsError(f"a shared label head needs encoders of one width, not {sorted(widths)}")
            self.label = projection_head(widths.pop(), projection_dim)
        if method.classify > 0:
            self.classifier = nn.Linear(sum(feature_dims.values()), classes)

    def project(self, head: str, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Project features through ``"intra"``, ``"inter"`` or ``"label"`` heads.

        Args:
            head: which.
            features: stream -> (V, B, F), V views stacked.

        Returns:
            Stream -> (V, B, D), L2-normalised; empty when the method has no such head.
        """
        chosen = getattr(self, head)
        if chosen is None:
            return {}
        projected = {}
        for stream, feature in features.items():
            module = chosen[stream] if isinstance(chosen, nn.ModuleDict) and stream in chosen else chosen
            if isinstance(module, nn.ModuleDict):
                continue
            flat = module(feature.flatten(0, 1))
            projected[stream] = functional.normalize(flat.float(), dim=1).unflatten(0, feature.shape[:2])
        return projected

    def classify(self, features: Mapping[str, Tensor]) -> Tensor:
        """Return logits (..., C) from the joined features of all streams, in their order."""
        if self.classifier is None:
            raise SettingsError("this method has no classifier: its weight of the classification term is 0")
        return self.classifier(torch.cat(list(features.values()), dim=-1))
