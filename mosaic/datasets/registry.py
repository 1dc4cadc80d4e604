"""Datasets by name."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from mosaic.datasets.archive import MOST_NODATA, Archive, Problem
from mosaic.utils.errors import ArchiveError
from mosaic.utils.plugins import Registry

C = TypeVar("C", bound=Callable[..., Any])
_Simulate = Callable[[Path, int, int], Path]
DEFAULT_DATASET = "bigearthnet"


class Dataset(NamedTuple):
    """How a dataset is opened and simulated."""

    open: Callable[..., Archive]
    simulate: _Simulate | None


class _Datasets(Registry[Dataset]):
    def __missing__(self, name: str) -> Dataset:
        # only now: these modules import TorchGeo, which takes seconds
        for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
            import_module(f"mosaic.datasets.{module.name}")
        return self[name] if name in self else super().__missing__(name)


#: Datasets by name; those of this package register themselves when a name is first looked up.
DATASETS = _Datasets("dataset")


def register_dataset(name: str, simulate: _Simulate | None = None) -> Callable[[C], C]:
    """Register the class of an :class:`~.archive.Archive` under a name for settings and command line.

    It is called with the first arguments of :func:`open_archive` after the name; ``simulate`` takes
    root, number of patches and seed that writes an archive and returns ``root``.

    Example:
        >>> @register_dataset("my_patches")
        ... class MyPatches:
        ...     def __init__(self, root, bands="all", include_snow_cloud=False, problems=None): ...
    """

    def decorate(open_archive: C) -> C:
        DATASETS.add(name, Dataset(open_archive, simulate))
        return open_archive

    return decorate


def open_archive(
    dataset: str,
    root: Path | str,
    bands: str = "all",
    include_snow_cloud: bool = False,
    problems: list[Problem] | None = None,
    most_nodata: float = MOST_NODATA,
) -> Archive:
    """Open an archive in the official layout of a registered dataset.

    Example:
        >>> archive = open_archive("bigearthnet", "data/archives/bigearthnet", bands="10m")
        >>> archive.read(0)["B02"].shape
        (120, 120)

    ``bands`` is ``"all"``, ``"10m"`` or Sentinel-2 band names separated by commas. ``include_snow_cloud``
    keeps patches officially flagged as snow, cloud or shadow. ``problems`` takes the faults of unusable
    patches; without it they raise. A patch is unusable, too, if more than ``most_nodata`` of the values of a
    sensor are no data.

    Raises:
        SettingsError: when the dataset is unknown; the nearest name is suggested.
        ArchiveError: when the folder is not a complete archive.
    """
    try:
        archive = DATASETS[dataset].open(Path(root).expanduser(), bands, include_snow_cloud, problems)
    except OSError as error:
        raise ArchiveError(f"{error.filename} cannot be read ({error.strerror}): restore it") from error
    archive.most_nodata = most_nodata
    return archive


def simulate_archive(dataset: str, root: Path, patches: int, seed: int) -> Path:
    """Write a simulated archive of 12 patches or more, or reuse the one in ``root``, and return ``root``.

    The same seed gives the same files, whatever the number of processes.

    Raises:
        SettingsError: when the dataset is unknown.
        ArchiveError: when it has no simulation, ``root`` holds something else, or the patches are too few.
        RunError: when there is no space.
    """
    simulate = DATASETS[dataset].simulate
    if simulate is None:
        raise ArchiveError(f"dataset {dataset} has no simulation: give the folder of an archive")
    return simulate(root, patches, seed)
