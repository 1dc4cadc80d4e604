"""Reading packed data: memory-mapped records, their index, and what a study asks of both."""

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.store.manifest import INDEX, MANIFEST, Manifest
from mosaic.store.prefetch import prefetch
from mosaic.store.temporal_pairs import TemporalPartners
from mosaic.utils.errors import PackError
from mosaic.utils.files import read_json, sha256_file
from mosaic.utils.hashing import hash_json

if TYPE_CHECKING:
    import torch

Rows = NDArray[np.int64]
Groups = dict[str, NDArray[np.int16]]


class PackedStore:
    """Packed data, opened for reading. Files are mapped on first use, so opening is cheap and forks are safe.

    Args:
        folder: what ``pack`` wrote.

    Raises:
        PackError: when the folder holds no packed data, packing was not finished, or a file is missing, short
            or of another version. The message names the file and the remedy.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / MANIFEST).is_file():
            began = any(folder.glob("shard-*.json"))
            raise PackError(
                f"{folder} holds {'unfinished' if began else 'no'} packed data ({MANIFEST} is missing): "
                f"run `python -m mosaic pack` {'again, it resumes' if began else 'first'}"
            )
        self.manifest = Manifest.from_json(read_json(folder / MANIFEST))
        self.layout = self.manifest.layout
        self.class_names = self.manifest.class_names
        self._check_sizes()
        self.index = self._read_index()
        self._first = np.cumsum([0] + [shard.records for shard in self.manifest.shards])
        self._maps: dict[int, list[NDArray[np.int16]]] = {}

    def _check_sizes(self) -> None:
        for shard in self.manifest.shards:
            path = self.folder / shard.file
            found = path.stat().st_size if path.is_file() else None
            expected = shard.records * self.manifest.record_bytes
            if found != expected:
                state = "is missing" if found is None else f"has {found:,} bytes instead of {expected:,}"
                raise PackError(
                    f"{path} {state}: run `python -m mosaic pack` again, only this shard will be read anew"
                )

    def _read_index(self) -> pd.DataFrame:
        path = self.folder / INDEX
        try:
            index = pd.read_parquet(path)
        except (OSError, ValueError) as error:  # pyarrow's errors for damaged files derive from these
            raise PackError(
                f"{path} cannot be read ({error}): delete it and {MANIFEST}, and pack again"
            ) from error
        index["labels"] = [list(names) for names in index["labels"]]
        expected = sum(shard.records for shard in self.manifest.shards)
        if len(index) != expected:
            raise PackError(
                f"{path} has {len(index)} rows for {expected} records: delete it and {MANIFEST}, pack again"
            )
        return index

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process as the folder's name: the index and the maps are opened anew there."""
        return type(self), (self.folder,)

    def __len__(self) -> int:
        return len(self.index)

    @cached_property
    def fingerprint(self) -> str:
        """Short name of the content: it changes when any pixel, label, split or statistic does."""
        manifest = self.manifest
        shards = [shard.sha256 for shard in manifest.shards]
        return hash_json([manifest.dataset, manifest.layout.to_json(), shards, manifest.index_sha256])

    @cached_property
    def labels(self) -> NDArray[np.uint8]:
        """Label vectors (N, C), 0 or 1, columns as ``class_names``."""
        return label_matrix(self.index["labels"], self.class_names)

    @cached_property
    def scenes(self) -> NDArray[np.str_]:
        """Scene (Sentinel-2 tile and date) of every row, (N,)."""
        return self.index["scene"].to_numpy(dtype=np.str_)

    @cached_property
    def partners(self) -> TemporalPartners:
        """Which rows show the same place, with the same labels and in the same split, on other dates."""
        return TemporalPartners(self.index)

    def split_rows(self, split: str) -> Rows:
        """Return the rows of ``"train"``, ``"validation"`` or ``"test"``, ascending.

        Raises:
            PackError: when the split has no patches.
        """
        rows = np.flatnonzero(self.index["split"].to_numpy() == split)
        if not rows.size:
            found = ", ".join(
                f"{name} {n}" for name, n in self.index["split"].value_counts().sort_index().items()
            )
            raise PackError(
                f"split {split!r} has no patches in {self.folder} (it holds: {found}): "
                "choose another split, or an archive whose metadata assigns some"
            )
        return rows

    def positives(self, split: str) -> dict[str, int]:
        """Return how many patches of ``split`` carry each class; 0 for a class that is absent."""
        counts = self.labels[self.split_rows(split)].sum(axis=0, dtype=np.int64)
        return dict(zip(self.class_names, counts.tolist(), strict=True))

    def _shard(self, number: int) -> list[NDArray[np.int16]]:
        """Return the groups of one shard, each (records, bands, size, size), mapped on first use."""
        if number not in self._maps:
            path = self.folder / self.manifest.shards[number].file
            records = np.asarray(np.memmap(path, dtype=self.layout.dtype, mode="r"))
            self._maps[number] = [records[group.name] for group in self.layout.groups]
        return self._maps[number]

    def read(self, rows: Rows | Sequence[int], out: Groups | None = None) -> Groups:
        """Read records, in any order and with repeats.

        Args:
            rows: row numbers (B,).
            out: arrays to fill, as returned by ``allocate``; made anew when left out.

        Returns:
            Group name -> stored int16 (B, bands, size, size): DN for Sentinel-2, hundredths of a dB for
            Sentinel-1.

        Raises:
            PackError: when a row does not exist.
        """
        rows = np.asarray(rows, dtype=np.int64)
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self):
            raise PackError(
                f"rows {rows.min()}..{rows.max()} asked for, {self.folder} has 0..{len(self) - 1}"
            )
        out = self.allocate(len(rows)) if out is None else out
        targets = [out[group.name] for group in self.layout.groups]
        order = np.argsort(rows, kind="stable")  # of the files, so that a disk reads forward
        shards = np.searchsorted(self._first, rows[order], side="right") - 1
        records = rows[order] - self._first[shards]
        # as plain integers, which index faster than NumPy's
        for place, number, record in zip(order.tolist(), shards.tolist(), records.tolist(), strict=True):
            for source, target in zip(self._shard(number), targets, strict=True):
                target[place] = source[record]
        return out

    def allocate(self, batch: int) -> Groups:
        """Return empty arrays for ``batch`` records, as ``read`` fills them."""
        return {group.name: np.empty((batch, *group.shape), np.int16) for group in self.layout.groups}

    def read_bands(self, rows: Rows | Sequence[int], bands: Sequence[str]) -> dict[str, NDArray[np.float32]]:
        """Read single bands in physical units, for figures and tables.

        Returns:
            Band -> float32 (B, size, size) at native size: DN (reflectance x 1e4) or dB.

        Raises:
            PackError: when a band is not packed.
        """
        places = {band: self.layout.group_of(band) for band in bands}
        stored = self.read(rows)
        return {
            band: stored[group.name][:, place].astype(np.float32) * np.float32(group.scale)
            for band, (group, place) in places.items()
        }

    def batches(
        self, batches: Iterable[Rows], device: str = "cpu"
    ) -> Iterator[tuple[Rows, dict[str, "torch.Tensor"]]]:
        """Read batches ahead on one background thread: see ``mosaic.store.prefetch``."""
        return prefetch(self, batches, device)

    def verify(self) -> None:
        """Compare every file with its checksum (about 1 GB/s).

        Raises:
            PackError: naming every damaged file and the remedy.
        """
        expected = {shard.file: shard.sha256 for shard in self.manifest.shards}
        expected[INDEX] = self.manifest.index_sha256
        damaged = [name for name, sha256 in expected.items() if sha256_file(self.folder / name) != sha256]
        if damaged:
            raise PackError(
                f"{self.folder}: damaged since it was packed: {', '.join(damaged)}. "
                "Delete these files and pack again, only they will be made anew"
            )


def label_matrix(labels: Iterable[Iterable[str]], class_names: Sequence[str]) -> NDArray[np.uint8]:
    """Turn lists of class names into label vectors.

    Args:
        labels: N lists of class names.
        class_names: C names; their order is that of the columns.

    Returns:
        uint8 (N, C), 0 or 1.

    Raises:
        PackError: when a name is not among ``class_names``.
    """
    column = {name: place for place, name in enumerate(class_names)}
    lists = [list(names) for names in labels]
    flat = [name for names in lists for name in names]
    unknown = sorted(set(flat) - set(column))
    if unknown:
        raise PackError(f"labels {unknown} are not among the classes {list(class_names)}")
    matrix = np.zeros((len(lists), len(class_names)), np.uint8)
    matrix[
        np.repeat(np.arange(len(lists)), [len(names) for names in lists]), [column[name] for name in flat]
    ] = 1
    return matrix
