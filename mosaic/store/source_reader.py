"""Reading an archive patch by patch, in order, on several cores."""

import mmap
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain

from mosaic.datasets.archive import Archive
from mosaic.datasets.problems import PatchError
from mosaic.store.record import Record, averaged, to_record
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError
from mosaic.utils.forked import default_workers

_AHEAD = 3  # chunks of patches under way or waiting, per reading process
_CHUNK = 16  # patches
_CHUNK_BYTES = 8 << 20  # of their records


#: A record in memory that is overwritten once the next one is asked for, and its facts or its fault.
Result = tuple[memoryview, Record | PatchError]


def read_records(
    archive: Archive, layout: BandLayout, shards: Iterable[range], workers: int | None, block: int = 1
) -> Generator[Result, None, None]:
    """Yield the record of every patch, or the reason why there is none.

    Args:
        archive: to read from; forked processes inherit it, so it is never pickled.
        layout: of the records.
        shards: patch numbers, shard by shard.
        workers: reading processes; None for one per available core, at most 8.
        block: side of the blocks of pixels to average; 1 for none.

    Raises:
        PackError: when a reading process is killed.
    """
    workers = workers or default_workers()
    size = layout.record_bytes
    if workers == 1:
        memory = memoryview(bytearray(size))
        for i in chain.from_iterable(shards):
            yield memory, _read_one(archive, layout, block, i, memory)
        return
    # Records are written to shared memory: to pickle them would take longer than to read them.
    length = max(1, min(_CHUNK, _CHUNK_BYTES // size))
    slots = tuple(memoryview(mmap.mmap(-1, length * size)) for _ in range(_AHEAD * workers))
    # Fork, not spawn: importing TorchGeo again would take longer than packing 500 patches.
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, fork, _inherit, (archive, layout, block, slots, os.getpid()))
    running: deque[tuple[memoryview, Future[list[Record | PatchError]]]] = deque()

    def finished() -> Iterator[Result]:
        slot, future = running.popleft()
        for i, result in enumerate(future.result()):
            yield slot[size * i : size * (i + 1)], result

    try:
        chunks = (shard[start : start + length] for shard in shards for start in range(0, len(shard), length))
        for turn, patches in enumerate(chunks):
            if len(running) == len(slots):
                yield from finished()  # which frees the next slot in turn
            number = turn % len(slots)
            running.append((slots[number], pool.submit(_read_chunk, patches, number)))
        while running:
            yield from finished()
    except BrokenProcessPool as error:
        raise PackError(
            "a reading process was killed, perhaps for lack of memory: pack again, finished shards are "
            "kept; if it happens twice, with workers=1"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _read_one(
    archive: Archive, layout: BandLayout, block: int, i: int, out: memoryview
) -> Record | PatchError:
    try:
        sample = archive.read(i)
    except PatchError as error:
        return error
    try:
        return to_record(averaged(sample, layout, block), layout, out)
    except ValueError as error:
        return PatchError(str(archive.index["patch_id"].iloc[i]), archive.root, str(error))


_inherited: tuple[Archive, BandLayout, int, tuple[memoryview, ...]]  # of a child process


def _inherit(
    archive: Archive, layout: BandLayout, block: int, slots: tuple[memoryview, ...], parent: int
) -> None:
    global _inherited
    _inherited = archive, layout, block, slots
    threading.Thread(target=_exit_with, args=(parent,), daemon=True).start()


def _exit_with(parent: int) -> None:
    """End this process soon after the packer was killed: it inherited the packer's lock on the folder."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _read_chunk(patches: range, number: int) -> list[Record | PatchError]:
    archive, layout, block, slots = _inherited
    size, slot = layout.record_bytes, slots[number]
    return [
        _read_one(archive, layout, block, patch, slot[size * i : size * (i + 1)])
        for i, patch in enumerate(patches)
    ]
