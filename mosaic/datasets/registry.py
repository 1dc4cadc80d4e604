"""The datasets the study can read, by name. A new dataset is one file in this folder and one entry here."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mosaic.datasets.problems import Problem
from mosaic.utils.errors import ArchiveError, suggest

Bands = Literal["all", "10m"] | Sequence[str]


@dataclass(frozen=True)
class Dataset:
    """How one dataset is opened and simulated. Imports wait, as TorchGeo takes seconds.

    Attributes:
        title: its name for people.
        open: from root, bands, whether to keep flagged patches, and a list for problems, to an archive.
        simulate: writes an archive in its layout: from root, number of patches and seed.
    """

    title: str
    open: Callable[[Path, Bands, bool, list[Problem] | None], Any]
    simulate: Callable[[Path, int, int], Path]


def _open_bigearthnet(root: Path, bands: Bands, flagged: bool, problems: list[Problem] | None) -> Any:
    from mosaic.datasets.bigearthnet import BigEarthNetArchive

    return BigEarthNetArchive(root, bands, include_snow_cloud=flagged, problems=problems)


def _simulate_bigearthnet(root: Path, patches: int, seed: int) -> Path:
    from mosaic.datasets.simulation.bigearthnet import simulate

    return simulate(root, patches, seed)


def _open_sen12ms(root: Path, bands: Bands, flagged: bool, problems: list[Problem] | None) -> Any:
    from mosaic.datasets.sen12ms import SEN12MSArchive

    return SEN12MSArchive(root, bands, problems=problems)  # it flags no patch as snow or cloud


def _simulate_sen12ms(root: Path, patches: int, seed: int) -> Path:
    from mosaic.datasets.simulation.sen12ms import simulate

    return simulate(root, patches, seed)


DATASETS: dict[str, Dataset] = {
    "bigearthnet": Dataset("BigEarthNet v2", _open_bigearthnet, _simulate_bigearthnet),
    "sen12ms": Dataset("SEN12MS", _open_sen12ms, _simulate_sen12ms),
}


#: What is meant when nobody names a dataset.
DEFAULT_DATASET = "bigearthnet"


def get_dataset(name: str) -> Dataset:
    """Return an entry of the catalogue.

    Raises:
        ArchiveError: for an unknown name; the nearest is suggested.
    """
    if name not in DATASETS:
        raise ArchiveError(f"unknown dataset {name!r}{suggest(name, DATASETS)}")
    return DATASETS[name]


def parse_bands(text: str) -> Bands:
    """Turn a parameter into a band set: ``"all"``, ``"10m"`` or names separated by commas."""
    if text == "all" or text == "10m":
        return text
    return [name.strip() for name in text.split(",") if name.strip()]


def open_archive(
    dataset: str,
    root: Path,
    bands: str = "all",
    include_snow_cloud: bool = False,
    problems: list[Problem] | None = None,
) -> Any:
    """Open an archive folder in a dataset's official layout.

    Args:
        dataset: a key of :data:`DATASETS`.
        root: the archive's folder.
        bands: ``"all"``, ``"10m"`` or Sentinel-2 band names separated by commas.
        include_snow_cloud: keep patches officially flagged as snow, cloud or shadow.
        problems: a list to which rows that cannot be used are moved; without it they raise.

    Raises:
        ArchiveError: when the dataset is unknown or the folder is not a complete archive.
    """
    return get_dataset(dataset).open(
        Path(root).expanduser(), parse_bands(bands), include_snow_cloud, problems
    )
