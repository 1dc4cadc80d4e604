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

from mosaic.settings import TrialSettings
from mosaic.store.prefetch import prefetch
from mosaic.store.reader import PackedStore, Rows


def random_of(seed: int, purpose: str, *step: int) -> np.random.Generator:
    """Return the generator for one purpose at one step: the same arguments, the same numbers."""
    return np.random.default_rng(np.random.SeedSequence([seed, *purpose.encode(), *step]))


def view_generator(device: torch.device, seed: int, purpose: str, *step: int) -> torch.Generator:
    """Return ``random_of`` as the generator that :class:`mosaic.transforms.views.Views` takes."""
    return torch.Generator(device).manual_seed(int(random_of(seed, purpose, *step).integers(2**62)))


class KnownLabels:
    """The labels of ``rows``, which training may use; those of all other rows stay zero."""

    def __init__(self, store: PackedStore, rows: Rows) -> None:
        self.rows, index = rows, torch.from_numpy(rows)
        self.labelled = torch.zeros(len(store), dtype=torch.bool)
        self.labelled[index] = True
        self.labels = torch.zeros(len(store), len(store.class_names))
        self.labels[index] = torch.from_numpy(store.labels[rows]).float()
        self.class_counts, self.total = self.labels.sum(0), float(len(rows))

    def rarity(self) -> NDArray[np.float64]:
        """Return the chance of each labelled row (M,), in proportion to 1 / frequency of its rarest label."""
        labels = self.labels[torch.from_numpy(self.rows)].numpy()
        rarest = np.where(labels > 0, labels.mean(0), 1.0).min(1).astype(np.float64)
        return np.asarray(1 / rarest / (1 / rarest).sum())


class ScenePicker:
    """Draw the training rows of each step.

    Supervised methods see labelled scenes alone. Methods with a label term see every training scene, and when
    labels are scarce a share of each batch, ``labelled_share`` at least, comes from the labelled ones:
    otherwise a budget of 1 % would leave most batches without a single pair of labelled scenes. MACL draws
    labelled scenes in proportion to the rarity of their labels.
    """

    def __init__(self, trial: TrialSettings, train: Rows, known: KnownLabels) -> None:
        self.method, self.seed = trial.weighted_method(), trial.seed
        batch, share, labelled = trial.batch_scenes, trial.labelled_share, known.rows
        self._chances = known.rarity() if self.method.rare_first else None
        self._pools, self._counts = [train], [batch]
        if self.method.sees_labelled_only:
            self._pools = [labelled]
        elif self.method.uses_labels and (len(labelled) < share * len(train) or self.method.rare_first):
            if (
                self.method.rare_first
            ):  # then they are a pool of their own, of at least their share of the split
                share = max(share, len(labelled) / len(train))
            reserved = min(int(np.ceil(share * batch)), len(labelled))
            self._pools = [labelled, np.setdiff1d(train, labelled)]
            self._counts = [reserved, batch - reserved]
        self._order = lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, pool: int, epoch: int) -> Rows:
        random = random_of(self.seed, "order", pool, epoch)
        if pool == 0 and self._chances is not None:
            return random.choice(self._pools[0], len(self._pools[0]), replace=True, p=self._chances)
        return random.permutation(self._pools[pool])

    def rows(self, step: int) -> Rows:
        """Return the rows of a step (B,); repeats only from a pool that is small or drawn by rarity."""
        return np.concatenate([self._draw(pool, count, step) for pool, count in enumerate(self._counts)])

    def _draw(self, pool: int, count: int, step: int) -> Rows:
        size = len(self._pools[pool])
        if count == 0:
            return self._pools[pool][:0]
        if count <= size:  # epoch after epoch; the rest of an epoch that fills no batch is left out
            epoch, batch = divmod(step, size // count)
            return self._order(pool, epoch)[batch * count : (batch + 1) * count]
        epochs = -(-count // size)
        return np.concatenate([self._order(pool, step * epochs + i) for i in range(epochs)])[:count]


@dataclass
class Batch:
    """What a step needs, or the shard of it that one of several processes needs.

    Attributes:
        step: counted from 0.
        rows: (B,).
        records: group name -> int16 (B, bands, size, size), for the first view.
        second: the same for the second view; other dates of the same places when the method asks for them.
        labels: (B, C) float, zero for scenes whose labels may not be used.
        labelled: (B,) bool.
        shard: (shard_index, num_shards): these scenes are one of equal shards of the step's.
    """

    step: int
    rows: Rows
    records: dict[str, Tensor]
    second: dict[str, Tensor]
    labels: Tensor
    labelled: Tensor
    shard: tuple[int, int] = (0, 1)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on ``device``."""

        def move(records: dict[str, Tensor]) -> dict[str, Tensor]:
            return {name: record.to(device, non_blocking=True) for name, record in records.items()}

        records = move(self.records)
        second = records if self.second is self.records else move(self.second)
        labels, labelled = (t.to(device, non_blocking=True) for t in (self.labels, self.labelled))
        return replace(self, records=records, second=second, labels=labels, labelled=labelled)


@dataclass
class StepBatches:
    """Iterate over the batches of some steps, read ahead by one thread.

    Attributes:
        picker: draws the scenes; its method decides which sensors they have and where second views come from.
        device: where the batches will go.
        shard: (shard_index, num_shards): one of equal shards of each batch; nothing else is read.
    """

    store: PackedStore
    picker: ScenePicker
    known: KnownLabels
    steps: range
    device: str = "cpu"
    shard: tuple[int, int] = (0, 1)

    def __iter__(self) -> Iterator[Batch]:
        method, layout = self.picker.method, self.store.layout
        sensors = layout.sensor_names if "early" in method.streams else method.streams
        groups = [group.name for group in layout.groups if group.sensor in sensors]
        read = prefetch(self.store, map(self._rows, self.steps), self.device)
        for step, (rows, stored) in zip(self.steps, read, strict=True):
            records = second = {name: stored[name] for name in groups}
            if method.temporal:
                half = len(rows) // 2
                rows = rows[:half]
                second = {name: record[half:] for name, record in records.items()}
                records = {name: record[:half] for name, record in records.items()}
            index = torch.from_numpy(rows)
            labels, labelled = self.known.labels[index], self.known.labelled[index]
            if self.device.startswith("cuda"):  # from other memory, a copy would wait for the device
                labels, labelled = labels.pin_memory(), labelled.pin_memory()
            yield Batch(step, rows, records, second, labels, labelled, self.shard)

    def _rows(self, step: int) -> Rows:
        """Return the rows of this shard of a step, those of first views before those of second views."""
        rows, (index, number) = self.picker.rows(step), self.shard
        shard = slice(index * len(rows) // number, (index + 1) * len(rows) // number)
        if not self.picker.method.temporal:
            return rows[shard]
        # drawn for the whole batch, so that the number of shards does not matter
        positives = self.store.temporal_positives.draw(rows, random_of(self.picker.seed, "partners", step))
        return np.concatenate([rows[shard], positives[shard]])
