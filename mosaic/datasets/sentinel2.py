"""What both archives share of Sentinel-2: which bands there are, and where they lie in the spectrum."""

from collections.abc import Sequence
from typing import Literal

from mosaic.utils.errors import ArchiveError, suggest

#: Central wavelength of each band, nm (Sentinel-2A).
WAVELENGTH: dict[str, float] = {
    "B01": 443, "B02": 493, "B03": 560, "B04": 665, "B05": 704, "B06": 741, "B07": 783,
    "B08": 833, "B8A": 865, "B09": 945, "B10": 1374, "B11": 1614, "B12": 2202,
}  # fmt: skip
TEN_METRE: tuple[str, ...] = ("B02", "B03", "B04", "B08")


def chosen_bands(
    bands: Literal["all", "10m"] | Sequence[str], known: Sequence[str], radar: Sequence[str]
) -> tuple[str, ...]:
    """Return a band set in canonical order.

    Args:
        bands: ``"all"``, the four ``"10m"`` ones, or names.
        known: Sentinel-2 bands of the archive, in canonical order.
        radar: its Sentinel-1 bands, which are always read.

    Raises:
        ArchiveError: for a name that is none of ``known``, or no name at all.
    """
    if bands == "all":
        return tuple(known)
    if bands == "10m":
        return TEN_METRE
    names = [bands] if isinstance(bands, str) else list(bands)
    for name in names:
        if name in radar:
            raise ArchiveError(f"{name} is always read: bands names Sentinel-2 bands only")
        if name not in known:
            raise ArchiveError(f"unknown Sentinel-2 band {name!r}{suggest(name, known)}")
    if not names:
        raise ArchiveError("no Sentinel-2 band is asked for: name some, or 'all', or '10m'")
    return tuple(band for band in known if band in names)
