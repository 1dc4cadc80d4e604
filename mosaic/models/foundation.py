"""Transformers that others pretrained, for one sensor each, scaled as their authors do: CROMA and DOFA.

They see the views of a run at its ``image_size``; CROMA was trained at 120 pixels of 10 m, DOFA at 224. The
architectures are TorchGeo's. Only :mod:`mosaic.models.published_weights` gives them weights.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.utils.errors import CheckpointError, RunError, SettingsError

_RADAR = ("VV", "VH")
_OPTICAL = (*("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08"), *("B8A", "B09", "B11", "B12"))


class Croma(nn.Module):
    """CROMA, base (Fuller et al. 2023, arXiv:2311.00566): (B, bands, H, W) -> (B, 768), the pooled features.

    Images come in standard deviations from the mean; they are cut at two of them and scaled to [0, 1], and of
    Sentinel-2 it takes the twelve bands other than the cirrus band (README of github.com/antofuller/CROMA;
    there mean and deviation are those of the batch). Two bands are Sentinel-1.
    """

    weights = "CROMABase_Weights", "CROMA_VIT"

    def __init__(self, bands: int, image_size: int) -> None:
        super().__init__()
        self.sensor = "sar" if bands == len(_RADAR) else "optical"
        self.model = torchgeo_models().croma_base(modalities=[self.sensor], image_size=image_size)
        self.register_buffer("channels", torch.arange(len(self.expected(bands))))

    @staticmethod
    def expected(bands: int) -> tuple[str, ...]:
        """Return the bands in the order of the published weights, for images of that many."""
        return _RADAR if bands == len(_RADAR) else _OPTICAL

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features of images."""
        scaled = (images[:, self.channels] / 4 + 0.5).clamp(0, 1)
        return self.model(**{f"x_{self.sensor}": scaled})[f"{self.sensor}_GAP"]

    @classmethod
    def require(cls, bands: Sequence[str], image_size: int) -> None:
        """Refuse other sides than multiples of 8 pixels, and other bands than expected and perhaps B10."""
        if image_size % 8:
            raise SettingsError(f"image_size is {image_size}; CROMA takes multiples of 8 pixels")
        expected = cls.expected(len(bands))
        if set(expected) != set(bands) - {"B10"}:
            raise CheckpointError(
                f"CROMA expects {', '.join(expected)}, with or without B10; the packed data hold "
                f"{', '.join(bands)}: pack those bands, or leave this method out"
            )

    def load_published(self, state: Mapping[str, Any], bands: Sequence[str]) -> None:
        """Load published weights, for images of these bands."""
        self.channels = torch.tensor([list(bands).index(band) for band in self.expected(len(bands))])
        prefix = "s1" if self.sensor == "sar" else "s2"  # in the published file
        for part in (f"{prefix}_encoder", f"{prefix}_GAP_FFN"):
            getattr(self.model, part).load_state_dict(state[part])


class Dofa(nn.Module):
    """DOFA, base (Xiong et al. 2024, arXiv:2403.15356): (B, bands, H, W) -> (B, 768).

    The features are the mean of its patch tokens, standardised over the features. Its patch embedding is made
    of the wavelengths, so it takes any bands. Images come in standard deviations from the mean and are
    resized to the 224 pixels of its positions.
    """

    #: Band -> wavelength in µm. Of the published weights' training: Sentinel-1 3.75 (``waves.json`` of
    #: github.com/zhu-xlab/DOFA; torchgeo issue 3931), nine bands of Sentinel-2 as in its README. B01,
    #: B8A, B09 and B10 were not in training; theirs are ESA's.
    WAVELENGTHS: Mapping[str, float] = {
        **dict.fromkeys(_RADAR, 3.75),
        **{"B02": 0.49, "B03": 0.56, "B04": 0.665, "B05": 0.705, "B06": 0.74, "B07": 0.783, "B08": 0.842},
        **{"B11": 1.61, "B12": 2.19},
        **{"B01": 0.443, "B8A": 0.865, "B09": 0.945, "B10": 1.375},
    }
    weights = "DOFABase16_Weights", "DOFA_MAE"
    _SIDE = 224

    def __init__(self, bands: int, image_size: int) -> None:
        super().__init__()
        self.model = torchgeo_models().dofa_base_patch16_224(num_classes=0)
        self.register_buffer("wavelengths", torch.ones(bands))

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled features of images."""
        if images.shape[-1] != self._SIDE:
            images = functional.interpolate(images, (self._SIDE, self._SIDE), mode="bilinear")
        return self.model.forward_features(images, self.wavelengths.tolist())

    @classmethod
    def require(cls, bands: Sequence[str], image_size: int) -> None:
        """Refuse, by a CheckpointError, bands of unknown wavelength."""
        if unknown := set(bands) - set(cls.WAVELENGTHS):
            raise CheckpointError(f"no wavelength of {', '.join(sorted(unknown))} is known, which DOFA needs")

    def load_published(self, state: Mapping[str, Any], bands: Sequence[str]) -> None:
        """Load published weights, for images of these bands; CheckpointError when they do not fit."""
        self.wavelengths = torch.tensor([self.WAVELENGTHS[band] for band in bands])
        missing, unexpected = self.model.load_state_dict(state, strict=False)
        # the scale and shift of the norm after pooling are not among them: they stay 1 and 0
        if unexpected or set(missing) - {"fc_norm.weight", "fc_norm.bias"}:
            raise CheckpointError(f"weights of DOFA: {missing} are missing, {unexpected} are unknown")


#: Name of an encoder -> its class.
FOUNDATION: dict[str, type[Croma] | type[Dofa]] = {"croma": Croma, "dofa": Dofa}


def torchgeo_models() -> Any:
    """Return TorchGeo's models; RunError when it is not installed."""
    try:
        from torchgeo import models
    except ImportError as error:
        raise RunError("published weights are read through TorchGeo: pip install torchgeo") from error
    return models
