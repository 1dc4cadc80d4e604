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
    """Yield rows (B,) and their records, group name -> int16 (B, bands, size, size), in the order given.

    Two batches are read ahead. For ``device`` ``"cuda"`` tensors lie in pinned memory, so that
    ``tensor.to(device, non_blocking=True)`` overlaps with computation; they are never moved here.
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
