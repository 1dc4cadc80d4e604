"""Datasets by name."""

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

from mosaic.datasets.archive import MOST_NODATA, Archive, Problem
from mosaic.utils.errors import ArchiveError
from mosaic.utils.plugins import Registry

DEFAULT_DATASET = "bigearthnet"


class _Datasets(Registry[Callable[..., Archive]]):
    def __missing__(self, name: str) -> Callable[..., Archive]:
        # only now: these modules import TorchGeo, which takes seconds
        for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
            import_module(f"mosaic.datasets.{module.name}")
        return self[name] if name in self else super().__missing__(name)


#: Datasets by name; those of this package register themselves when a name is first looked up.
DATASETS = _Datasets("dataset")
#: ``@register_dataset("name")`` registers the class of an :class:`~.archive.Archive`, which is called with
#: ``root``, ``bands``, ``include_snow_cloud`` and ``problems`` of :func:`open_archive`. Its static method
#: ``simulate``, if any, writes an archive: root, number of patches and seed -> root. ``docs/extend.md`` has
#: an example.
register_dataset = DATASETS.register


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
        archive = DATASETS[dataset](Path(root).expanduser().absolute(), bands, include_snow_cloud, problems)
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
    simulate: Callable[[Path, int, int], Path] | None = getattr(DATASETS[dataset], "simulate", None)
    if simulate is None:
        raise ArchiveError(f"dataset {dataset} has no simulation: give the folder of an archive")
    return simulate(root, patches, seed)
