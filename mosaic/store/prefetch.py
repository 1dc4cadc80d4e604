"""One thread that reads the next batches while the device works on this one.

Worker processes would be slower: a record is read faster than it can be handed from process to process.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from mosaic.store.reader import PackedStore, Rows

Batch = tuple[Rows, dict[str, torch.Tensor]]

_AHEAD = 2  # batches


def prefetch(store: PackedStore, batches: Iterable[Rows], device: str = "cpu") -> Iterator[Batch]:
    """Yield the records of each batch of rows, in the order given, and read two batches ahead.

    Args:
        store: packed data.
        batches: row numbers (B,) per batch.
        device: where the batches will go. For ``"cuda"`` the tensors lie in pinned memory, so that
            ``tensor.to(device, non_blocking=True)`` overlaps with computation. They are never moved here.

    Yields:
        The rows (B,) and group name -> stored int16 tensor (B, bands, size, size).
    """
    pinned = device.startswith("cuda")

    def read(rows: Rows) -> Batch:
        tensors = {
            group.name: torch.empty((len(rows), *group.shape), dtype=torch.int16, pin_memory=pinned)
            for group in store.layout.groups
        }
        store.read(rows, out={name: tensor.numpy() for name, tensor in tensors.items()})
        return rows, tensors

    reading: deque[Future[Batch]] = deque()
    with ThreadPoolExecutor(1, "mosaic-prefetch") as thread:
        for rows in batches:
            reading.append(thread.submit(read, rows))
            if len(reading) > _AHEAD:
                yield reading.popleft().result()
        while reading:
            yield reading.popleft().result()
