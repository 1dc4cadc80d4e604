"""The data of each step, a function of seed and step: scenes, records, and the labels that may be used."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mosaic.methods import EARLY, Method
from mosaic.settings import TrialSettings
from mosaic.store.prefetch import RecordTable, read_ahead, read_tensors
from mosaic.store.reader import PackedStore, Rows
from mosaic.store.record_format import BandLayout
from mosaic.transforms.views import Views


def random_of(seed: int, purpose: str, *step: int) -> np.random.Generator:
    """Return the generator for one purpose at one step: the same arguments, the same numbers."""
    return np.random.default_rng(np.random.SeedSequence([seed, *purpose.encode(), *step]))


def view_generator(seed: int, purpose: str, *step: int) -> torch.Generator:
    """Return the generator of views for one purpose at one step."""
    return torch.Generator().manual_seed(int(random_of(seed, purpose, *step).integers(2**62)))


class KnownLabels:
    """The labels of ``rows``, which training may use; those of all other rows stay zero."""

    def __init__(self, store: PackedStore, rows: Rows) -> None:
        self.rows = rows
        self.labelled = torch.zeros(len(store), dtype=torch.bool)
        self.labelled[rows] = True
        self.labels = torch.from_numpy(store.labels).float() * self.labelled[:, None]
        self.class_counts, self.total = self.labels.sum(0), float(len(rows))

    def rarity(self) -> NDArray[np.float64]:
        """Return the chance of each labelled row (M,), in proportion to 1 / frequency of its rarest label."""
        labels = self.labels[self.rows].numpy()
        rarest = np.where(labels > 0, labels.mean(0), 1.0).min(1).astype(np.float64)
        return np.asarray(1 / rarest / (1 / rarest).sum())


class ScenePicker:
    """Draw the training rows of each step.

    Supervised methods see labelled scenes alone, others every training scene. When labels are scarce, at
    least ``labelled_share`` of a batch is labelled: a budget of 1 % would leave most batches without a pair
    of labelled scenes. MACL draws labelled scenes in proportion to the rarity of their labels.
    """

    def __init__(self, trial: TrialSettings, train: Rows, known: KnownLabels) -> None:
        self.method, self.seed = trial.weighted_method(), trial.seed
        batch, share, labelled = trial.batch_scenes, trial.labelled_share, known.rows
        self._chances = known.rarity() if self.method.rare_first else None
        self.pools, self._counts = [train], [batch]
        if self.method.sees_labelled_only:
            self.pools = [labelled]
        elif self.method.uses_labels and (len(labelled) < share * len(train) or self.method.rare_first):
            if self.method.rare_first:  # a pool of their own, of at least their share of the split
                share = max(share, len(labelled) / len(train))
            reserved = min(int(np.ceil(share * batch)), len(labelled))
            self.pools = [labelled, np.setdiff1d(train, labelled)]
            self._counts = [reserved, batch - reserved]
        self._order = lru_cache(maxsize=4)(self._shuffle)

    def _shuffle(self, pool: int, epoch: int) -> Rows:
        random = random_of(self.seed, "order", pool, epoch)
        if pool == 0 and self._chances is not None:
            return random.choice(self.pools[0], len(self.pools[0]), replace=True, p=self._chances)
        return random.permutation(self.pools[pool])

    def rows(self, step: int) -> Rows:
        """Return the rows of a step (B,); repeats only from a pool that is small or drawn by rarity."""
        return np.concatenate([self._draw(pool, n, step) for pool, n in enumerate(self._counts) if n])

    def _draw(self, pool: int, count: int, step: int) -> Rows:
        size = len(self.pools[pool])
        if count <= size:  # epoch after epoch; the rest of an epoch that fills no batch is left out
            epoch, batch = divmod(step, size // count)
            return self._order(pool, epoch)[batch * count : (batch + 1) * count]
        epochs = -(-count // size)
        return np.concatenate([self._order(pool, step * epochs + i) for i in range(epochs)])[:count]


@dataclass
class Batch:
    """What a step needs, or the shard of it that one of several processes needs.

    ``tensors``, of the same shapes at every step and on the CPU, are ``labels`` (B, C) float, zero for scenes
    whose labels may not be used; ``labelled`` (B,) bool; ``affine`` and ``seeds`` of two views, from
    :meth:`Views.draw`; and of the records either ``index`` (V, B), positions in a table, or group name ->
    int16 (V, B, bands, size, size).
    """

    step: int  # counted from 0
    rows: Rows  # (V, B): those of first views and, if they differ, of second views
    tensors: dict[str, Tensor]


def groups_of(method: Method, layout: BandLayout) -> list[str]:
    """Return the names of the groups of bands that a method's streams see."""
    sensors = layout.sensor_names if EARLY in method.streams else method.streams
    return [group.name for group in layout.groups if group.sensor in sensors]


def record_table(
    store: PackedStore, picker: ScenePicker, trial: TrialSettings, device: str, free: int
) -> RecordTable | None:
    """Return the records of a run on the device; None where it reads few, or ``free`` bytes are too few."""
    groups = groups_of(picker.method, store.layout)
    rows = np.unique(np.concatenate(picker.pools))
    if picker.method.temporal:  # second views are of any row of the split
        rows = store.split_rows("train")
    elements = sum(group.elements for group in store.layout.groups if group.name in groups)
    fits = len(rows) * elements * 2 <= trial.compute.gpu_records * free
    pays = picker.method.trained and trial.steps * trial.batch_scenes >= len(rows)
    return RecordTable.load(store, rows, groups, device) if fits and pays else None


def records_of_views(
    tensors: Mapping[str, Tensor], groups: Sequence[str], table: RecordTable | None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the records of first and of second views, group name -> (B, bands, size, size)."""
    if table is None:
        views = [{name: tensors[name][v] for name in groups} for v in range(len(tensors[groups[0]]))]
    else:
        kept = table.groups
        views = [{name: kept[name].index_select(0, index) for name in groups} for index in tensors["index"]]
    return views[0], views[-1]


@dataclass
class StepBatches:
    """Iterate over the batches of ``steps``, or a shard (index, number) of each, made ahead by a thread."""

    store: PackedStore
    picker: ScenePicker
    known: KnownLabels
    views: Views
    steps: range
    device: str = "cpu"
    shard: tuple[int, int] = (0, 1)
    table: RecordTable | None = None

    def __iter__(self) -> Iterator[Batch]:
        return read_ahead(self.batch, self.steps)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; for a GPU in pinned memory, or a copy would wait for the device."""
        rows, groups = self._rows(step), groups_of(self.picker.method, self.store.layout)
        if self.table is None:
            read = read_tensors(self.store, rows.ravel(), self.device)
            tensors = {name: read[name].view(*rows.shape, *read[name].shape[1:]) for name in groups}
        else:
            tensors = {"index": self.table.positions(rows)}
        tensors |= {"labels": self.known.labels[rows[0]], "labelled": self.known.labelled[rows[0]]}
        generator = view_generator(self.picker.seed, "views", step)
        tensors |= self.views.draw(self.views.shown(groups), rows.shape[1], generator, self.shard, 2)
        if self.device.startswith("cuda"):
            tensors = {name: t if t.is_pinned() else t.pin_memory() for name, t in tensors.items()}
        return Batch(step, rows, tensors)

    def _rows(self, step: int) -> Rows:
        """Return the rows of this shard of a step: (1, B), or (2, B) where second views have others."""
        rows, (index, number) = self.picker.rows(step)[None], self.shard
        if self.picker.method.temporal:
            # drawn for the whole batch, so that the number of shards does not matter
            random = random_of(self.picker.seed, "partners", step)
            rows = np.stack([rows[0], self.store.temporal_positives.draw(rows[0], random)])
        size = rows.shape[1]
        return rows[:, index * size // number : (index + 1) * size // number]
