"""What an archive must offer to be verified, packed and studied, and the faults that it may have."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.reference import Reference
from mosaic.datasets.sensors import Sensor
from mosaic.utils.errors import ArchiveError

SPLITS: tuple[str, ...] = ("train", "validation", "test")
#: Largest share of a sensor's values without data in a usable patch, unless another one is asked for.
MOST_NODATA = 0.5


@dataclass(frozen=True)
class Problem:
    """One row of the table that ``verify`` prints."""

    patch_id: str  # empty when the problem concerns the whole archive
    kind: str  # short name, e.g. "missing file"
    detail: str  # what was found and what was expected
    path: Path | None = None  # file or folder at fault
    note: bool = False  # an oddity that is no reason to reject the patch


class PatchError(ArchiveError):
    """A patch is unusable."""

    def __init__(self, patch_id: str, path: Path, reason: str, kind: str = "unusable") -> None:
        super().__init__(f"{patch_id}: {reason} ({path})")
        self.patch_id, self.path, self.reason, self.kind = patch_id, path, reason, kind


class Archive(Protocol):
    """Co-registered patches of several sensors in the official folder layout of a dataset.

    Attributes:
        index: one row a patch. Needed are ``patch_id``, ``labels`` (list of class names), ``split``
            (``train``, ``validation`` or ``test``), ``date`` (ISO), ``tile``, ``scene`` (what shares season,
            sun and atmosphere: the unit of intervals) and ``location`` (the same ground on any date).
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
    most_nodata: float  # patches of which a sensor has a larger share without data are unusable

    def __len__(self) -> int:
        """Return the number of patches, over all splits."""

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Return band -> array (size, size) of patch ``i``, unresampled; unusable ones raise PatchError.

        Pixels of a signed sensor without data are masked, with a value of no consequence below the mask.
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
    missing = [name for name in names if not ((root / name).is_file() or (root / name).is_dir())]
    if missing:
        there = sorted(path.name for path in root.iterdir() if ".tar" in path.name or ".zip" in path.name)
        begun = [name for name in there if name.endswith(".partial")]
        if begun:
            remedy = f"finish the download of {', '.join(begun)} with `python -m mosaic fetch`, or {remedy}"
        elif there:
            remedy = f"extract {', '.join(there)} there first, or {remedy}"
        raise ArchiveError(f"{root} is not an archive of {title}, {', '.join(missing)} missing: {remedy}")


def join_first(items: Iterable[object], shown: int = 10) -> str:
    """Join the first items by commas and count the rest."""
    names = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def sound_rows(
    root: Path, index: pd.DataFrame, faults: Sequence[Problem], problems: list[Problem] | None
) -> pd.DataFrame:
    """Return the rows of an index without faults, which are added to ``problems``; without a list, raise.

    Raises:
        ArchiveError: one line a kind, with the first ten patches and the number of all.
    """
    if problems is not None:
        problems += faults
    elif faults:
        lines = []
        for kind in dict.fromkeys(fault.kind for fault in faults):
            rows = [fault for fault in faults if fault.kind == kind]
            lines.append(f"  {kind}: {len(rows)} patches, the first: {rows[0].detail}\n")
            lines.append(f"    {join_first(row.patch_id for row in rows)}\n")
        raise ArchiveError(
            f"{root} is not a sound archive:\n{''.join(lines)}Correct or remove these rows and their "
            "folders, or set on_bad_patch to 'skip', which counts them; `python -m mosaic verify` lists all"
        )
    return index[~index["patch_id"].isin([fault.patch_id for fault in faults])].reset_index(drop=True)
