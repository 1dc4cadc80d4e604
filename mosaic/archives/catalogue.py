"""The datasets the study can read, by name. A new dataset is one file in this folder and one line here."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from mosaic.common.errors import ArchiveError, suggest

Bands = Literal["all", "10m"] | Sequence[str]


def _bigearthnet(root: Path, bands: Bands, include_snow_cloud: bool) -> Any:
    from mosaic.archives.bigearthnet import BigEarthNetArchive  # TorchGeo takes seconds to import

    return BigEarthNetArchive(root, bands=bands, include_snow_cloud=include_snow_cloud)


DATASETS: dict[str, Callable[[Path, Bands, bool], Any]] = {"bigearthnet": _bigearthnet}


def parse_bands(text: str) -> Bands:
    """Turn a parameter into a band set: ``"all"``, ``"10m"`` or names separated by commas."""
    if text == "all" or text == "10m":
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def open_archive(dataset: str, root: Path, bands: str = "all", include_snow_cloud: bool = False) -> Any:
    """Open an archive folder in a dataset's official layout.

    Args:
        dataset: a key of :data:`DATASETS`.
        root: the archive's folder.
        bands: ``"all"``, ``"10m"`` or Sentinel-2 band names separated by commas.
        include_snow_cloud: keep patches officially flagged as snow, cloud or shadow.

    Raises:
        ArchiveError: when the dataset is unknown or the folder is not a complete archive.
    """
    if dataset not in DATASETS:
        raise ArchiveError(f"unknown dataset {dataset!r}{suggest(dataset, DATASETS)}")
    return DATASETS[dataset](Path(root).expanduser(), parse_bands(bands), include_snow_cloud)
