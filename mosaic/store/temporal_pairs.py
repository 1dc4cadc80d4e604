"""Other dates of the same location: temporal positives that cost no label."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray


class TemporalPositives:
    """For every row, the rows of the same location, labels and split on another date.

    In BigEarthNet v2 69,479 training locations were seen on several dates, always with the same labels. Rows
    are sorted by location and date once; a location is then a run of rows, and a draw is arithmetic on it.

    Args:
        index: with columns ``location``, ``split``, ``labels`` and ``date``; row number = position.

    Attributes:
        counts: number of temporal positives of each row, (N,).
    """

    def __init__(self, index: pd.DataFrame) -> None:
        keys = pd.DataFrame(
            {
                "location": index["split"].astype(str) + "|" + index["location"].astype(str),
                "labels": ["|".join(sorted(names)) for names in index["labels"]],
                "date": index["date"].to_numpy(),
            }
        )
        location = np.asarray(keys.groupby(["location", "labels"]).ngroup(), np.int64)
        day = np.asarray(keys.groupby(["location", "labels", "date"]).ngroup(), np.int64)
        # Groups are numbered in sorted order, so sorting by day also makes every location a run.
        self._order: NDArray[np.int64] = np.argsort(day, kind="stable")
        position = np.empty_like(self._order)
        position[self._order] = np.arange(len(position))
        self._start, self._length, _ = _runs(location[self._order], position)
        _, same_day, self._day_end = _runs(day[self._order], position)
        self.counts: NDArray[np.int64] = self._length - same_day

    def draw(self, rows: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
        """Draw a temporal positive for each of ``rows`` (B,), uniformly; the row itself where it has none."""
        step = generator.integers(0, np.maximum(self.counts[rows], 1))
        # that many rows on from the end of the row's own date, around the run of its location
        start, length = self._start[rows], self._length[rows]
        drawn = self._order[start + (self._day_end[rows] - start + step) % length]
        return np.where(self.counts[rows] > 0, drawn, rows)


def _runs(
    values: NDArray[np.int64], position: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return start, length and end of the run of equal ``values`` in which each row lies, by row."""
    first = np.flatnonzero(np.diff(values, prepend=values[:1] - 1)) if len(values) else np.zeros(0, np.int64)
    last = np.append(first[1:], len(values))
    run = np.searchsorted(first, position, side="right") - 1
    return first[run], (last - first)[run], last[run]
