"""What an archive must offer to be verified, packed and studied, and the faults that it may have."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.reference import Reference
from mosaic.datasets.sensors import S1_BANDS, Sensor, select_bands, sentinel1, sentinel2
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import file_state
from mosaic.utils.forked import forked_map

SPLITS: tuple[str, ...] = ("train", "validation", "test")
_FORK_FROM = 4096  # patches; a fork takes as long as asking for the files of some hundred


@dataclass(frozen=True)
class Problem:
    """One row of the table that ``verify`` prints."""

    patch_id: str  # empty when the problem concerns the whole archive
    kind: str  # short name, e.g. "missing file"
    detail: str  # what was found and what was expected
    path: Path | None = None  # file or folder at fault
    note: bool = False  # an oddity that is no reason to reject the patch


class PatchError(ArchiveError):
    """A patch is unusable; attributes as in :class:`Problem`."""

    def __init__(self, patch_id: str, path: Path, reason: str, kind: str = "unusable") -> None:
        super().__init__(f"{patch_id}: {reason} ({path})")
        self.patch_id, self.path, self.reason, self.kind = patch_id, path, reason, kind

    def __reduce__(self) -> tuple[type["PatchError"], tuple[str, Path, str, str]]:
        """Pickle the constructor's arguments, so that the error survives the way out of a worker process."""
        return type(self), (self.patch_id, self.path, self.reason, self.kind)


class Archive(Protocol):
    """Co-registered patches of several sensors in the official folder layout of a dataset.

    A class with these attributes and methods is an archive; it need not inherit from anything. See
    :func:`mosaic.datasets.registry.register_dataset`.

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

    def __len__(self) -> int:
        """Return the number of patches, over all splits."""

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Return band -> array (size, size) of patch ``i``, unresampled; unusable ones raise PatchError."""

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


class Sentinel12Archive:
    """What the archives of this package share; the class that reads the files comes after it in the bases.

    A subclass gives ``native_sizes``: Sentinel-2 band -> side of its image in pixels.
    """

    native_sizes: dict[str, int]
    s1_bands = S1_BANDS
    index: pd.DataFrame
    _hashed: tuple[str, ...]  # columns of the index

    def _select(self, bands: str | Sequence[str]) -> None:
        """Set the attributes that depend on the chosen bands."""
        self.s2_bands = select_bands(bands, tuple(self.native_sizes))
        self.sensors = sentinel1(), sentinel2(self.s2_bands)
        side = max(self.native_sizes.values())
        self.band_sizes = {b: self.native_sizes.get(b, side) for b in (*self.s1_bands, *self.s2_bands)}

    def __len__(self) -> int:
        """Return the number of patches, over all splits."""
        return len(self.index)

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Return band -> native image (size, size): float32 dB, uint16 DN (reflectance x 1e4).

        Raises:
            PatchError: for a missing, damaged or misplaced file, a wrong size or type, values that are not
                finite or out of range, a sensor without content, or labels that are not those of the map.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for error in self._errors(i, arrays):
            raise error
        return {band: arrays[band] for band in self.band_sizes}

    def check(self, i: int) -> list[Problem]:
        """Return everything wrong with the files of patch ``i``, and notes on oddities."""
        arrays: dict[str, NDArray[Any]] = {}
        errors = [Problem(e.patch_id, e.kind, e.reason, e.path) for e in self._errors(i, arrays)]
        return errors + self._oddities(i, arrays)

    def fingerprint(self) -> str:
        """Return a hash of the index and of size and time of change of every file; none is opened."""
        content = hashlib.sha256(self.index[list(self._hashed)].to_csv(index=False).encode())

        def states(i: int) -> str:
            return "".join([file_state(path) for path in self._files(i)])

        for state in forked_map(states, len(self), None if len(self) >= _FORK_FROM else 1):
            content.update(state.encode())
        return content.hexdigest()[:16]

    def _errors(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[PatchError]:
        """Read the files of patch ``i`` into ``arrays``, a band a key, and yield what is wrong with them."""
        raise NotImplementedError

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> list[Problem]:
        """Return notes on patch ``i``, of which ``arrays`` could be read."""
        raise NotImplementedError

    def _files(self, i: int) -> Iterable[Path | str]:
        """Return every file of patch ``i`` that is read."""
        raise NotImplementedError


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


def join_first(items: Iterable[object], shown: int = 10) -> str:
    """Join the first items by commas and count the rest."""
    names = [str(item) for item in items]
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def report_faults(root: Path, faults: Sequence[Problem], problems: list[Problem] | None) -> None:
    """Add faults to a list of problems; without a list, raise if there are any.

    Raises:
        ArchiveError: one line a kind, with the first ten patches and the number of all.
    """
    if problems is not None:
        problems += faults
    elif faults:
        by_kind: dict[str, list[Problem]] = {}
        for fault in faults:
            by_kind.setdefault(fault.kind, []).append(fault)
        lines = [
            f"  {kind}: {len(rows)} patches, the first: {rows[0].detail}\n"
            f"    {join_first(row.patch_id for row in rows)}\n"
            for kind, rows in by_kind.items()
        ]
        raise ArchiveError(
            f"{root} is not a sound archive:\n{''.join(lines)}Correct or remove these rows and their "
            "folders; `python -m mosaic verify` lists them all"
        )
