"""A part of packed data: some of its bands, or training without some of its places."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from mosaic.store.reader import Groups, PackedStore, Rows
from mosaic.utils.errors import PackError
from mosaic.utils.hashing import hash_json


class PartOfStore(PackedStore):
    """Packed data seen in part; rows keep their numbers, so labels and scenes are those of the whole.

    Args:
        folder: what ``pack`` wrote.
        bands: names of the bands that are read; None for all.
        leave_out: (column, value) of the index: these rows are in neither the training nor the validation
            split. The test split stays whole.

    Raises:
        PackError: as :class:`PackedStore`; also for a band or column that is not there.
    """

    def __init__(
        self, folder: Path, bands: Sequence[str] | None = None, leave_out: tuple[str, str] | None = None
    ) -> None:
        super().__init__(folder)
        everything = (*self.layout.s1_bands, *self.layout.s2_bands)
        self.bands = None if bands is None or set(bands) == set(everything) else tuple(bands)
        self.leave_out = leave_out
        if self.bands is not None:
            self._whole = PackedStore(folder)
            self.layout = self.layout.select(self.bands)
        if leave_out is not None and leave_out[0] not in self.index:
            raise PackError(
                f"the index of {folder} has no column {leave_out[0]!r}, only {', '.join(self.index.columns)}"
            )

    @property
    def whole(self) -> bool:
        """Whether nothing is left out."""
        return self.bands is None and self.leave_out is None

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.folder, self.bands, self.leave_out)

    @cached_property
    def fingerprint(self) -> str:
        """As of the whole when nothing is left out, so that work on it is found again."""
        whole = super().fingerprint
        return whole if self.whole else hash_json([whole, self.bands, self.leave_out])

    def split_rows(self, split: str) -> Rows:
        """Return the rows of a split, without those left out of training and validation."""
        rows = super().split_rows(split)
        if self.leave_out is None or split == "test":
            return rows
        column, value = self.leave_out
        kept = rows[self.index[column].to_numpy()[rows] != value]
        if not kept.size:
            raise PackError(f"without {column} {value!r} the split {split!r} of {self.folder} has no patches")
        return kept

    def read(self, rows: Rows | Sequence[int], out: Groups | None = None) -> Groups:
        """Read the chosen bands of records; see :meth:`PackedStore.read`."""
        if self.bands is None:
            return super().read(rows, out)
        out = self.allocate(len(rows)) if out is None else out
        whole = self._whole.read(rows)
        for group in self.layout.groups:
            there = self._whole.layout.group_of(group.bands[0])[0]
            places = [there.bands.index(band) for band in group.bands]
            np.take(whole[group.name], places, axis=1, out=out[group.name])
        return out
