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

_AHEAD = 2  # batches
_THREADS = 4  # that fill pinned memory; more read no faster
_CHUNK = 128  # records read at once to fill a table; more would be memory that is touched once


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


def read_tensors(store: PackedStore, rows: Rows, device: str = "cpu") -> dict[str, Tensor]:
    """Read records (B,) as tensors on the CPU: group name -> stored int16 (B, bands, size, size).

    For a ``device`` ``"cuda"`` they lie in pinned memory, so that ``tensor.to(device, non_blocking=True)``
    overlaps with computation; torch hands the memory out again when the copy is done.
    """
    pinned = device.startswith("cuda")
    tensors = {
        group.name: torch.empty((len(rows), *group.shape), dtype=torch.int16, pin_memory=pinned)
        for group in store.layout.groups
    }
    share = -(-len(rows) // (_THREADS if pinned else 1)) or 1

    def work(start: int) -> None:
        shard = slice(start, start + share)
        store.read(rows[shard], out={name: tensor[shard].numpy() for name, tensor in tensors.items()})

    with ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(work, range(0, len(rows), share)))
    return tensors


@dataclass(frozen=True)
class RecordTable:
    """Records that are kept in the memory of a device and gathered by position."""

    rows: Rows  # of the store, ascending (N,)
    groups: dict[str, Tensor]  # group name -> int16 (N, bands, size, size)

    @classmethod
    def load(cls, store: PackedStore, rows: Rows, groups: Sequence[str], device: str) -> "RecordTable":
        """Read the records of ``rows``, ascending, and move those of some groups to a device."""
        tables = {
            group.name: torch.empty((len(rows), *group.shape), dtype=torch.int16, device=device)
            for group in store.layout.groups
            if group.name in groups
        }
        starts = range(0, len(rows), _CHUNK)
        chunks = read_ahead(lambda start: read_tensors(store, rows[start : start + _CHUNK], device), starts)
        for start, records in zip(starts, chunks, strict=True):
            for name, table in tables.items():
                table[start : start + _CHUNK].copy_(records[name], non_blocking=True)
        return cls(rows, tables)

    def positions(self, rows: Rows) -> Tensor:
        """Return where ``rows``, of any shape, are in the table."""
        return torch.from_numpy(np.searchsorted(self.rows, rows))
