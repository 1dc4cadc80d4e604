"""Records for a device: read ahead by one thread, or all of them kept in its memory.

Worker processes would be slower: a record is read faster than it can be handed from process to process.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from mosaic.store.reader import PackedStore, Rows

T = TypeVar("T")
U = TypeVar("U")
Batch = tuple[Rows, dict[str, Tensor]]

_AHEAD = 2  # batches
_THREADS = 4  # that fill pinned memory; more read no faster
_CHUNK = 1024  # records read at once to fill a table


def read_ahead(read: Callable[[T], U], items: Iterable[T]) -> Iterator[U]:
    """Yield ``read(item)`` of each item, done by one thread two items ahead."""
    reading: deque[Future[U]] = deque()
    with ThreadPoolExecutor(1, "mosaic-prefetch") as thread:
        for item in items:
            reading.append(thread.submit(read, item))
            if len(reading) > _AHEAD:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()


def prefetch(store: PackedStore, batches: Iterable[Rows], device: str = "cpu") -> Iterator[Batch]:
    """Yield rows (B,) and their records, group name -> int16 (B, bands, size, size), in the order given.

    Two batches are read ahead, for ``device`` as :func:`read_tensors` takes it.
    """

    def read(rows: Rows) -> Batch:
        return rows, read_tensors(store, rows, device)

    return read_ahead(read, batches)


def read_tensors(store: PackedStore, rows: Rows, device: str = "cpu") -> dict[str, Tensor]:
    """Read records as tensors.

    Args:
        store: packed data.
        rows: row numbers (B,).
        device: where the records will go. For ``"cuda"`` the tensors lie in pinned memory, so that
            ``tensor.to(device, non_blocking=True)`` overlaps with computation; torch hands it out again when
            the copy is done. They are never moved here.

    Returns:
        Group name -> stored int16 tensor (B, bands, size, size).
    """
    pinned = device.startswith("cuda")
    tensors = {
        group.name: torch.empty((len(rows), *group.shape), dtype=torch.int16, pin_memory=pinned)
        for group in store.layout.groups
    }
    arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
    if not pinned:
        store.read(rows, out=arrays)
        return tensors
    share = -(-len(rows) // _THREADS) or 1

    def work(start: int) -> None:
        shard = slice(start, start + share)
        store.read(rows[shard], out={name: array[shard] for name, array in arrays.items()})

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(0, len(rows), share)))
    return tensors


@dataclass(frozen=True)
class RecordTable:
    """Records that are kept in the memory of a device and gathered by position.

    Attributes:
        rows: of the store, ascending (N,).
        groups: group name -> int16 (N, bands, size, size).
    """

    rows: Rows
    groups: dict[str, Tensor]

    @classmethod
    def load(cls, store: PackedStore, rows: Rows, groups: Sequence[str], device: str) -> "RecordTable":
        """Read the records of ``rows``, ascending, and move those of some groups to a device."""
        shapes = {group.name: group.shape for group in store.layout.groups if group.name in groups}
        tables = {
            name: torch.empty((len(rows), *shape), dtype=torch.int16, device=device)
            for name, shape in shapes.items()
        }
        starts = range(0, len(rows), _CHUNK)
        chunks = prefetch(store, (rows[start : start + _CHUNK] for start in starts), device)
        for start, (_, records) in zip(starts, chunks, strict=True):
            for name, table in tables.items():
                table[start : start + _CHUNK].copy_(records[name], non_blocking=True)
        return cls(rows, tables)

    def positions(self, rows: Rows) -> Tensor:
        """Return where ``rows``, of any shape, are in the table."""
        return torch.from_numpy(np.searchsorted(self.rows, rows))
