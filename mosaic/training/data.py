"""The data of each step: which scenes, their records, and the labels that may be used.

Everything random is a function of (seed, step), so there is no generator whose state must be saved: a resumed
run draws what the uninterrupted one would have drawn.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mosaic.methods import Method
from mosaic.store.prefetch import prefetch
from mosaic.store.reader import PackedStore, Rows


def random_of(seed: int, purpose: str, *place: int) -> np.random.Generator:
    """Return the generator of one purpose at one place: the same arguments, the same numbers."""
    return np.random.default_rng(np.random.SeedSequence([seed, *purpose.encode(), *place]))


def view_generator(device: torch.device, seed: int, purpose: str, *place: int) -> torch.Generator:
    """Return ``random_of`` as the generator that :class:`mosaic.transforms.views.Views` takes."""
    return torch.Generator(device).manual_seed(int(random_of(seed, purpose, *place).integers(2**62)))


class ScenePicker:
    """Picks the training rows of each step.

    Supervised methods see labelled scenes alone. Methods with a label term see every training scene, and when
    labels are scarce at least a given share of each batch comes from the labelled ones: otherwise a budget of
    1 % would leave most batches without a single pair of labelled scenes.

    Args:
        method: a row of the table.
        train: all training rows.
        labelled: those whose labels may be used.
        batch: scenes in a batch.
        share: least share of labelled scenes.
        seed: of the order.
        chances: of each labelled row, for a method that draws rare labels first.
    """

    def __init__(
        self,
        method: Method,
        train: Rows,
        labelled: Rows,
        batch: int,
        share: float,
        seed: int,
        chances: NDArray[np.float64] | None = None,
    ) -> None:
        self.seed = seed
        counts = {0: batch}
        self._pools = [train]
        if method.sees_labelled_only:
            self._pools = [labelled]
        elif method.uses_labels and (len(labelled) < share * len(train) or chances is not None):
            # by chances the labelled ones are a pool of their own, as large a part as they are of the split
            own = max(share, len(labelled) / len(train)) if chances is not None else share
            reserved = min(int(np.ceil(own * batch)), len(labelled))
            self._pools = [labelled, np.setdiff1d(train, labelled)]
            counts = {0: reserved, 1: batch - reserved}
        self._counts = counts
        self._chances = chances
        self._order = lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, pool: int, epoch: int) -> NDArray[np.int64]:
        random = random_of(self.seed, "order", pool, epoch)
        if pool == 0 and self._chances is not None:
            return random.choice(self._pools[0], len(self._pools[0]), replace=True, p=self._chances)
        return random.permutation(self._pools[pool])

    def rows(self, step: int) -> Rows:
        """Return the rows of a step (B,); repeats only from a pool that is small or drawn by chances."""
        return np.concatenate([self._draw(pool, count, step) for pool, count in self._counts.items()])

    def _draw(self, pool: int, count: int, step: int) -> Rows:
        size = len(self._pools[pool])
        if count == 0:
            return self._pools[pool][:0]
        if count <= size:  # epoch after epoch; the rest of an epoch that fills no batch is left out
            epoch, place = divmod(step, size // count)
            return self._order(pool, epoch)[place * count : (place + 1) * count]
        rounds = -(-count // size)
        return np.concatenate([self._order(pool, step * rounds + i) for i in range(rounds)])[:count]


@dataclass
class Batch:
    """What a step needs, or the part of it that one of several processes needs.

    Attributes:
        step: counted from 0.
        rows: (B,).
        records: group name -> int16 (B, bands, size, size), for the first view.
        second: the same for the second view; other dates of the same places when the method asks for them.
        labels: (B, C) float, zero for scenes whose labels may not be used.
        labelled: (B,) bool.
        part: (i, n): these scenes are part i of n equal parts of the step's.
    """

    step: int
    rows: Rows
    records: dict[str, Tensor]
    second: dict[str, Tensor]
    labels: Tensor
    labelled: Tensor
    part: tuple[int, int] = (0, 1)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""

        def move(records: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: record.to(device, non_blocking=True) for name, record in records.items()}

        records = move(self.records)
        second = records if self.second is self.records else move(self.second)
        labels, labelled = (held.to(device, non_blocking=True) for held in (self.labels, self.labelled))
        return replace(self, records=records, second=second, labels=labels, labelled=labelled)


class KnownLabels:
    """The labels that training may use; those of all other rows are not even held.

    Args:
        store: packed data.
        rows: whose labels may be used.
    """

    def __init__(self, store: PackedStore, rows: Rows) -> None:
        self.rows = rows
        self.labelled = torch.zeros(len(store), dtype=torch.bool)
        self.labelled[torch.from_numpy(rows)] = True
        self.labels = torch.zeros(len(store), len(store.class_names))
        self.labels[torch.from_numpy(rows)] = torch.from_numpy(store.labels[rows]).float()
        self.class_counts = self.labels.sum(0)
        self.total = float(len(rows))

    def rarity(self) -> NDArray[np.float64]:
        """Return the chance of each labelled row (M,), in proportion to 1 / frequency of its rarest label."""
        labels = self.labels[torch.from_numpy(self.rows)].numpy()
        rarest = np.where(labels > 0, labels.mean(0), 1.0).min(1).astype(np.float64)
        return np.asarray(1 / rarest / (1 / rarest).sum())


class StepBatches:
    """The batches of steps ``first`` to ``last - 1``, read ahead by one thread.

    Args:
        store: packed data.
        picker: which scenes.
        known: their labels.
        method: decides which sensors are needed and where second views come from.
        first: step to start from.
        last: step before which to stop.
        device: where the batches will go.
        part: (i, n): part i of n equal parts of each batch; nothing else is read.
    """

    def __init__(
        self,
        store: PackedStore,
        picker: ScenePicker,
        known: KnownLabels,
        method: Method,
        first: int,
        last: int,
        device: str,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._part = part
        self._store, self._picker, self._known, self._method = store, picker, known, method
        self._first, self._last, self._device = first, last, device
        early = "early" in method.streams
        sensors = set(store.layout.sensor_names if early else method.streams)
        self._groups = [group.name for group in store.layout.groups if group.sensor in sensors]

    def __iter__(self) -> Iterator[Batch]:
        for step, (rows, read) in enumerate(prefetch(self._store, self._rows(), self._device), self._first):
            records = second = {name: read[name] for name in self._groups}
            if self._method.temporal:
                half = len(rows) // 2
                rows = rows[:half]
                second = {name: record[half:] for name, record in records.items()}
                records = {name: record[:half] for name, record in records.items()}
            index = torch.from_numpy(rows)
            labels, labelled = self._known.labels[index], self._known.labelled[index]
            if self._device.startswith("cuda"):  # copies from elsewhere would wait for the device
                labels, labelled = labels.pin_memory(), labelled.pin_memory()
            yield Batch(step, rows, records, second, labels, labelled, self._part)

    def _rows(self) -> Iterator[Rows]:
        for step in range(self._first, self._last):
            rows = self._picker.rows(step)
            number, parts = self._part
            own = slice(number * len(rows) // parts, (number + 1) * len(rows) // parts)
            if self._method.temporal:  # drawn for the whole batch, so that the parts do not matter
                partners = self._store.temporal_positives.draw(
                    rows, random_of(self._picker.seed, "partners", step)
                )
                yield np.concatenate([rows[own], partners[own]])
            else:
                yield rows[own]
