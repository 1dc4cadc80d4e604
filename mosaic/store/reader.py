"""Reading packed data: memory-mapped records and their index."""

import contextlib
import platform
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.archive import join_first
from mosaic.store.record_format import INDEX, MANIFEST, Manifest, Shard
from mosaic.utils.cached import read_if_sound
from mosaic.utils.errors import PackError, RunError
from mosaic.utils.files import file_state, hash_json, read_json, require_regular, sha256_file, write_json
from mosaic.utils.progress import progress

Rows = NDArray[np.int64]
Groups = dict[str, NDArray[np.int16]]

_THREADS = 4  # that compare checksums


class TemporalPositives:
    """For every row, the rows of the same location and split on another date.

    In BigEarthNet v2 69,479 training locations were seen on several dates, always with the same labels. Rows
    are sorted by location and date once; a location is then a run of rows, and a draw is arithmetic on it.

    Args:
        index: with columns ``location``, ``split`` and ``date``; row number = position.

    Attributes:
        counts: number of temporal positives of each row, (N,).
    """

    def __init__(self, index: pd.DataFrame) -> None:
        place = ["split", "location"]  # not labels, which a label budget may hide
        location, day = (
            np.asarray(index.groupby(columns, dropna=False).ngroup(), np.int64)
            for columns in (place, [*place, "date"])
        )
        # groups are numbered in sorted order, so sorting by day also makes every location a run
        self._order = np.argsort(day, kind="stable")
        self._start, end = (np.searchsorted(location[self._order], location, s) for s in ("left", "right"))
        day_start, self._day_end = (np.searchsorted(day[self._order], day, s) for s in ("left", "right"))
        self._length = end - self._start
        self.counts: Rows = self._length - (self._day_end - day_start)

    def draw(self, rows: Rows, generator: np.random.Generator) -> Rows:
        """Draw a temporal positive for each of ``rows`` (B,), uniformly; the row itself where it has none."""
        step = generator.integers(0, np.maximum(self.counts[rows], 1))
        # that many rows on from the end of the row's own date, around the run of its location
        start, length = self._start[rows], self._length[rows]
        drawn = self._order[start + (self._day_end[rows] - start + step) % length]
        return np.where(self.counts[rows] > 0, drawn, rows)


class PackedStore:
    """Packed data, opened for reading. Files are mapped on first use, so opening is cheap and forks are safe.

    A subset of bands or of scenes keeps the row numbers, labels and scenes of the whole.

    Example:
        >>> store = PackedStore(Path("data/packed/bigearthnet"))
        >>> rows = store.split_rows("validation")[:8]
        >>> store.read_bands(rows, ["B04", "VV"])["VV"].shape  # dB
        (8, 120, 120)
        >>> radar = PackedStore(store.folder, bands=["VV", "VH"])
        >>> no_finland = PackedStore(store.folder, leave_out=("country", "Finland"))

    Args:
        folder: written by :func:`mosaic.store.writer.pack`.
        bands: to read; None for all.
        leave_out: (column, value) of the index: these rows are in neither the training nor the validation
            split. The test split stays whole.

    Raises:
        PackError: when packing was not finished, a file is missing, short or of another version, or a band,
            column or value does not exist.
    """

    def __init__(
        self, folder: Path | str, bands: Sequence[str] | None = None, leave_out: tuple[str, str] | None = None
    ) -> None:
        self.folder = folder = Path(folder)
        if not (folder / MANIFEST).is_file():
            began = any(folder.glob("shard-*.json"))
            raise PackError(
                f"{folder} holds {'unfinished' if began else 'no'} packed data ({MANIFEST} is missing): "
                f"run `python -m mosaic pack` {'again, it resumes' if began else 'first'}"
            )
        self.manifest = Manifest.read(folder / MANIFEST)
        self.class_names = self.manifest.class_names
        whole = self.manifest.layout
        self.bands = None if bands is None or set(bands) == set(whole.bands) else tuple(bands)
        self.layout = whole if self.bands is None else whole.select(self.bands)
        self._check()
        self.index = pd.read_parquet(folder / INDEX)
        self.index["labels"] = [list(names) for names in self.index["labels"]]
        self.leave_out = leave_out
        if leave_out is not None:
            column, value = leave_out
            if column not in self.index:
                has = ", ".join(self.index.columns)
                raise PackError(f"the index of {folder} has no column {column!r}, only {has}")
            if not (self.index[column] == value).any():
                has = join_first(self.index[column].astype(str).value_counts().index)
                raise PackError(f"no patch in {folder} has {column} {value!r}, only {has}")
        self._first = np.cumsum([0] + [shard.records for shard in self.manifest.shards])
        self._maps: dict[int, list[NDArray[np.int16]]] = {}
        # for each group of this layout: the group of whole records it lies in, and its channels there
        self._sources: list[tuple[str, list[int] | slice]] = []
        for group in self.layout.groups:
            stored = whole.group_of(group.bands[0])[0]
            channels = [stored.bands.index(band) for band in group.bands]
            self._sources.append((stored.name, slice(None) if stored.bands == group.bands else channels))

    def __repr__(self) -> str:
        """Say what is packed: patches by split, bands and classes."""
        kept = self.index["split"][~self._left_out]
        splits = ", ".join(f"{number} {name}" for name, number in kept.value_counts().items())
        return (
            f"PackedStore of {self.manifest.dataset}, {len(kept)} pairs ({splits}): {self.folder}\n"
            f"  bands: {', '.join(self.layout.bands)}\n  classes: {'; '.join(self.class_names)}"
        )

    def _check(self) -> None:
        """Compare the index with its checksum, and shards that this machine has not compared before.

        What was compared is remembered with its size and time of change: in the folder or, where that is
        read-only, in the temporary one.
        """
        states = {s.file: f"{s.sha256} {file_state(self.folder / s.file)}" for s in self.manifest.shards}
        name = f".checked-{hash_json([platform.node(), str(self.folder.resolve())])}.json"
        notes = [folder / name for folder in (self.folder, Path(tempfile.gettempdir()))]
        read = partial(read_json, keys={})
        before: dict[str, str] = next((found for note in notes if (found := read_if_sound(note, read))), {})
        new = [shard for shard in self.manifest.shards if before.get(shard.file) != states[shard.file]]
        self.verify(new)
        for note in notes if new else ():
            with contextlib.suppress(OSError, RunError):
                write_json(note, states)
                break

    def verify(self, shards: Sequence[Shard] | None = None) -> None:
        """Compare the index and shards, by default all, with their checksums: about 1 GB/s.

        Raises:
            PackError: names the files that are damaged or missing.
        """
        shards = self.manifest.shards if shards is None else shards
        expected = {INDEX: self.manifest.index_sha256} | {shard.file: shard.sha256 for shard in shards}

        def damage(file: str) -> list[str]:
            path = self.folder / file
            return [] if path.is_file() and sha256_file(path) == expected[file] else [file]

        with ThreadPoolExecutor(_THREADS) as pool:
            found = progress(pool.map(damage, expected), "checking", len(expected))
            damaged = [file for files in found for file in files]
        if damaged:
            raise PackError(
                f"{self.folder}: {', '.join(damaged)} damaged or missing since it was packed: run `python -m "
                "mosaic pack` again, only these files are made anew"
            )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the folder's name: another process opens the index and the maps anew."""
        return type(self), (self.folder, self.bands, self.leave_out)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the content: it changes with any pixel, label, split, statistic or choice of a subset."""
        manifest = self.manifest
        shards = [shard.sha256 for shard in manifest.shards]
        content = [manifest.dataset, manifest.class_names, asdict(manifest.layout)]
        whole = hash_json([*content, shards, manifest.index_sha256])
        complete = self.bands is None and self.leave_out is None
        return whole if complete else hash_json([whole, self.bands, self.leave_out])

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """Label vectors (N, C), 0 or 1, columns as ``class_names``."""
        return label_matrix(self.index["labels"], self.class_names)

    @cached_property
    def scenes(self) -> NDArray[np.str_]:
        """Scene (Sentinel-2 tile and date) of every row, (N,)."""
        return self.index["scene"].to_numpy(dtype=np.str_)

    @cached_property
    def temporal_positives(self) -> TemporalPositives:
        """Rows that show the same location, in the same split, on other dates."""
        return TemporalPositives(self.index.assign(split=np.where(self._left_out, "", self.index["split"])))

    @cached_property
    def _left_out(self) -> NDArray[np.bool_]:
        """Rows that were taken out of the training and validation splits, (N,)."""
        if self.leave_out is None:
            return np.zeros(len(self), np.bool_)
        column, value = self.leave_out
        return ((self.index[column] == value) & (self.index["split"] != "test")).to_numpy(np.bool_)

    def split_rows(self, split: str) -> Rows:
        """Return the rows of a split, ascending; PackError when it has no patches."""
        in_split = self.index["split"].to_numpy() == split
        if not in_split.any():
            counts = self.index["split"].value_counts().sort_index()
            raise PackError(
                f"split {split!r} has no patches in {self.folder} "
                f"(it holds: {', '.join(f'{name} {n}' for name, n in counts.items())}): "
                "choose another split, or an archive whose metadata assigns some"
            )
        rows = np.flatnonzero(in_split & ~self._left_out)
        if not rows.size:
            left_out = "{} {!r}".format(*self.leave_out or ())
            raise PackError(f"without {left_out} the split {split!r} of {self.folder} has no patches")
        return rows

    def _shard(self, number: int) -> list[NDArray[np.int16]]:
        """Return the groups of whole records in one shard, each (records, bands, size, size)."""
        if number not in self._maps:
            path = self.folder / self.manifest.shards[number].file
            require_regular(path, PackError, "make it readable, or delete it and pack again")
            records = np.asarray(np.memmap(path, dtype=self.manifest.layout.dtype, mode="r"))
            self._maps[number] = [records[name] for name, _ in self._sources]
        return self._maps[number]

    def read(self, rows: Rows | Sequence[int], out: Groups | None = None) -> Groups:
        """Read records, in any order and with repeats; PackError when a row does not exist.

        Return ``out`` or new arrays: group name -> stored int16 (B, bands, size, size); times the group's
        ``scale`` that is DN or dB.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise PackError(
                f"rows {rows.min()}..{rows.max()} asked for, {self.folder} has 0..{len(self) - 1}"
            )
        if out is None:
            out = {g.name: np.empty((len(rows), *g.shape), np.int16) for g in self.layout.groups}
        targets = [out[group.name] for group in self.layout.groups]
        channels = [chosen for _, chosen in self._sources]
        order = np.argsort(rows, kind="stable")  # of the files, so that a disk reads forward
        shards = np.searchsorted(self._first, rows[order], side="right") - 1
        records = rows[order] - self._first[shards]
        # as plain integers, which index faster than NumPy's
        for i, shard, record in zip(order.tolist(), shards.tolist(), records.tolist(), strict=True):
            for stored, target, chosen in zip(self._shard(shard), targets, channels, strict=True):
                target[i] = stored[record, chosen]
        return out

    def read_bands(self, rows: Rows | Sequence[int], bands: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Read bands: band -> float32 (B, size, size) at native size, in DN (reflectance x 1e4) or dB."""
        channels = {band: self.layout.group_of(band) for band in bands}
        stored = self.read(rows)
        return {
            band: stored[group.name][:, channel].astype(np.float32) * np.float32(group.scale)
            for band, (group, channel) in channels.items()
        }


def label_matrix(labels: Iterable[Iterable[str]], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Return label vectors (N, C), 0 or 1, of N lists of class names; PackError for an unknown name."""
    named = [set(names) for names in labels]
    unknown = sorted(set().union(*named) - set(class_names))
    if unknown:
        raise PackError(f"labels {unknown} are not among the classes {list(class_names)}")
    rows = [[name in names for name in class_names] for names in named]
    return np.array(rows, np.uint8).reshape(len(rows), len(class_names))
