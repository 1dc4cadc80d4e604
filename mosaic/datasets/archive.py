"""What an archive must offer to be verified, packed and studied."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.problems import Problem
from mosaic.datasets.reference import Reference
from mosaic.datasets.sensors import Sensor
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import file_state
from mosaic.utils.forked import forked_map

SPLITS: tuple[str, ...] = ("train", "validation", "test")
_FORK_FROM = 4096  # patches; a fork takes as long as asking for the files of some hundred


class Archive(Protocol):
    """Co-registered patches of several sensors in the official folder layout of a dataset.

    A class with these attributes and methods is an archive; it need not inherit from anything. See
    :func:`mosaic.datasets.registry.register_dataset`.

    Attributes:
        index: one row a patch. Needed are ``patch_id``, ``labels`` (list of class names), ``split``
            (``train``, ``validation`` or ``test``), ``date`` (ISO), ``tile``, ``scene`` (what shares season,
            sun and atmosphere: the unit of resampling) and ``location`` (the same ground on any date).
    """

    name: str  # of the dataset, part of the names of packed data
    title: str  # the same for people
    root: Path
    class_names: tuple[str, ...]  # in the order of the label vector
    class_colors: tuple[str, ...]  # hex, for maps
    level1: dict[str, tuple[str, ...]]  # coarse group -> class names, for panels of figures
    confusable: dict[str, tuple[str, ...]]  # group of easily confused classes -> class names
    coarse: dict[str, tuple[str, ...]]  # class that datasets share -> class names, for transfer
    sensors: tuple[Sensor, ...]  # with the bands to pack, both in canonical order
    band_sizes: dict[str, int]  # band -> native height (= width) in pixels
    index: pd.DataFrame

    def __len__(self) -> int:
        """Return the number of patches, over all splits."""

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Return band -> array (size, size) of patch ``i``, unresampled.

        Raises:
            PatchError: when the patch is unusable.
        """

    def read_map(self, i: int) -> NDArray[Any] | None:
        """Return class indices (size, size), 255 where no class applies; None if the archive has no maps."""

    def fingerprint(self) -> str:
        """Return a short hash of the content, another one when a label, split or file changes."""

    def check(self, i: int) -> list[Problem]:
        """Return everything wrong or odd about patch ``i``, for ``verify``."""

    def notes(self) -> list[Problem]:
        """Return what is odd about the archive as a whole, for ``verify``."""

    def centre(self, tile: str) -> tuple[float, float]:
        """Return longitude and latitude of a tile of the index, degrees (WGS 84)."""

    def reference(self) -> Reference:
        """Return published and measured values of the real archive."""


def require_files(root: Path, title: str, names: Iterable[str], remedy: str) -> None:
    """Raise an ArchiveError that names the missing files of an extracted archive, and the remedy."""
    if not root.is_dir():
        raise ArchiveError(
            f"there is no folder {root}: give an archive's folder, or make one with `python -m mosaic fetch` "
            "or `python -m mosaic simulate`"
        )
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        packed = sorted(path.name for path in root.iterdir() if ".tar" in path.name)
        remedy = f"extract {', '.join(packed)} there first, or {remedy}" if packed else remedy
        raise ArchiveError(f"{root} is not an archive of {title}, {', '.join(missing)} missing: {remedy}")


def hash_content(index: pd.DataFrame, files: Callable[[int], list[Path | str]]) -> str:
    """Return a hash of an index and of size and time of change of the files of every row; none is opened."""
    content = hashlib.sha256(index.to_csv(index=False).encode())

    def states(i: int) -> str:
        return "".join([file_state(path) for path in files(i)])

    for state in forked_map(states, len(index), None if len(index) >= _FORK_FROM else 1):
        content.update(state.encode())
    return content.hexdigest()[:16]
