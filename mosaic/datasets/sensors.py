"""Sensors as data: what packing, views, encoders and reports need to know of one.

A new sensor is one :class:`Sensor` among the ``sensors`` of its archive; no other code names it.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Augmentation:
    """Strengths of the radiometric augmentation of one sensor; 0 leaves a part out.

    Attributes:
        gain: standard deviation of an offset common to all bands, in the sensor's unit. In dB it is a factor
            on the backscatter.
        speckle: standard deviation of noise that differs from pixel to pixel, in the sensor's unit; 1 dB is
            the speckle of about 19 looks.
        brightness: standard deviation of the logarithm of a factor common to all bands.
        offset: standard deviation of an offset common to all bands, in standard deviations of each band.
        band_dropout: probability that a band is replaced by its mean, in [0, 1).
    """

    gain: float = 0.0
    speckle: float = 0.0
    brightness: float = 0.0
    offset: float = 0.0
    band_dropout: float = 0.0


@dataclass(frozen=True)
class Sensor:
    """One instrument: its bands, how they are stored, and how its images are augmented.

    Attributes:
        name: key of its images, features and scores, such as ``"s1"``.
        bands: names in canonical order, unique among all sensors of an archive.
        title: name in figures and messages.
        unit: of physical values. Values in ``"dB"`` are averaged as power.
        scale: physical value = stored integer * scale. With 1 the archive must hold integers; otherwise
            values are rounded to a multiple of ``scale``.
        signed: stored integers may be negative. In an unsigned sensor 0 means no data.
        augmentation: strengths of its radiometric augmentation.
    """

    name: str
    bands: tuple[str, ...]
    title: str
    unit: str
    scale: float = 1.0
    signed: bool = False
    augmentation: Augmentation = field(default_factory=Augmentation)


def sentinel1(bands: tuple[str, ...] = ("VV", "VH")) -> Sensor:
    """Return Sentinel-1: backscatter in dB, stored in hundredths, so rounding costs at most 0.005 dB."""
    augmentation = Augmentation(gain=1.0, speckle=1.0)
    return Sensor("s1", bands, "Sentinel-1", "dB", 0.01, signed=True, augmentation=augmentation)


def sentinel2(bands: tuple[str, ...]) -> Sensor:
    """Return Sentinel-2: DN, reflectance x 1e4, of which 0 is no data."""
    augmentation = Augmentation(brightness=0.15, offset=0.15, band_dropout=0.1)
    return Sensor("s2", bands, "Sentinel-2", "DN", augmentation=augmentation)
