"""One thread that reads the next batches while the device works on this one.

Worker processes would be slower: a record is read faster than it can be handed from process to process.
"""

import queue
import threading
from collections.abc import Iterable, Iterator

import numpy as np
import torch

from mosaic.store.reader import PackedStore, Rows

Batch = tuple[Rows, dict[str, torch.Tensor]]

_READY = 2  # batches held ready
_POLL = 0.1  # seconds between two checks whether a waiting reader is still wanted


def prefetch(store: PackedStore, batches: Iterable[Rows], device: str = "cpu") -> Iterator[Batch]:
    """Yield the records of each batch of rows, in the order given.

    Args:
        store: packed data.
        batches: row numbers (B,) per batch; consumed by the thread, two batches ahead.
        device: where the batches will go. For ``"cuda"`` the tensors lie in pinned memory, so that
            ``tensor.to(device, non_blocking=True)`` overlaps with computation. They are never moved here.

    Yields:
        The rows (B,) and group name -> stored int16 tensor (B, bands, size, size).

    Raises:
        Exception: any error of reading or of ``batches``, in the consumer's thread.
    """
    pinned = device.startswith("cuda")
    ready: queue.Queue[Batch | BaseException | None] = queue.Queue(maxsize=_READY)
    stop = threading.Event()

    def offer(item: Batch | BaseException | None) -> None:
        while not stop.is_set():
            try:
                return ready.put(item, timeout=_POLL)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for rows in batches:
                if stop.is_set():
                    return
                rows = np.asarray(rows, dtype=np.int64)
                tensors = {
                    group.name: torch.empty((len(rows), *group.shape), dtype=torch.int16, pin_memory=pinned)
                    for group in store.layout.groups
                }
                store.read(rows, out={name: tensor.numpy() for name, tensor in tensors.items()})
                offer((rows, tensors))
            offer(None)
        except BaseException as error:
            offer(error)

    thread = threading.Thread(target=work, name="mosaic-prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
