"""Sensors as data: a new one is a :class:`Sensor` among the ``sensors`` of its archive, nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from mosaic.utils.errors import ArchiveError, suggest

S1_BANDS: tuple[str, ...] = ("VV", "VH")
#: Central wavelength of each Sentinel-2 band, nm (Sentinel-2A).
WAVELENGTH: dict[str, float] = {
    "B01": 443, "B02": 493, "B03": 560, "B04": 665, "B05": 704, "B06": 741, "B07": 783,
    "B08": 833, "B8A": 865, "B09": 945, "B10": 1374, "B11": 1614, "B12": 2202,
}  # fmt: skip
TEN_METRE: tuple[str, ...] = ("B02", "B03", "B04", "B08")


@dataclass(frozen=True)
class Augmentation:
    """Strengths of a sensor's radiometric augmentation, standard deviations but for the last; 0: none."""

    gain: float = 0.0  # of an offset common to all bands, sensor's unit; in dB a factor on the backscatter
    speckle: float = 0.0  # of noise that differs from pixel to pixel, sensor's unit; 1 dB is about 19 looks
    brightness: float = 0.0  # of the logarithm of a factor common to all bands
    offset: float = 0.0  # of an offset common to all bands, in standard deviations of each band
    band_dropout: float = 0.0  # probability that a band is replaced by its mean, in [0, 1)


@dataclass(frozen=True)
class Sensor:
    """One instrument: its bands, how they are stored, and how its images are augmented."""

    name: str  # key of its images, features and scores, such as "s1"
    bands: tuple[str, ...]  # in canonical order, unique among all sensors of an archive
    title: str  # in figures and messages
    unit: str  # of physical values; values in "dB" are averaged as power
    scale: float = 1.0  # physical value = stored integer * scale; with 1 the archive must hold integers
    signed: bool = False  # stored integers may be negative; in an unsigned sensor 0 means no data
    augmentation: Augmentation = field(default_factory=Augmentation)


def sentinel1(bands: tuple[str, ...] = S1_BANDS) -> Sensor:
    """Return Sentinel-1: backscatter in dB, stored in hundredths, so rounding costs at most 0.005 dB."""
    augmentation = Augmentation(gain=1.0, speckle=1.0)
    return Sensor("s1", bands, "Sentinel-1", "dB", 0.01, signed=True, augmentation=augmentation)


def sentinel2(bands: tuple[str, ...]) -> Sensor:
    """Return Sentinel-2: DN, reflectance x 1e4, of which 0 is no data."""
    augmentation = Augmentation(brightness=0.15, offset=0.15, band_dropout=0.1)
    return Sensor("s2", bands, "Sentinel-2", "DN", augmentation=augmentation)


def select_bands(bands: str | Sequence[str], available: Sequence[str]) -> tuple[str, ...]:
    """Return those of the ``available`` Sentinel-2 bands that are asked for, in the archive's order.

    ``bands`` is ``"all"``, the four ``"10m"`` bands, or names, perhaps separated by commas; ArchiveError for
    none, or one that is not available.
    """
    if isinstance(bands, str):
        names = [name.strip() for name in bands.split(",") if name.strip()]
        bands = {"all": available, "10m": TEN_METRE}.get(bands, names)
    for name in bands:
        if name not in available:
            raise ArchiveError(f"unknown Sentinel-2 band {name!r}{suggest(name, available)}")
    if not bands:
        raise ArchiveError("bands selects no Sentinel-2 band: name some, or give 'all' or '10m'")
    return tuple(band for band in available if band in bands)
