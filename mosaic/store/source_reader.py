"""Reading an archive patch by patch, in order, on several cores."""

import mmap
import multiprocessing
import os
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets.problems import PatchError
from mosaic.store.record import Record, averaged, to_record
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError
from mosaic.utils.forked import default_workers

_AHEAD = 3  # chunks of patches under way or waiting, per reading process
_CHUNK = 16  # patches
_CHUNK_BYTES = 8 << 20  # of their records


class Archive(Protocol):
    """What can be packed: any data set of co-registered patches."""

    @property
    def name(self) -> str:
        """Name of the data set."""

    @property
    def root(self) -> Path:
        """Folder it lies in."""

    @property
    def class_names(self) -> Sequence[str]:
        """Classes in the order of the label vector."""

    @property
    def class_colors(self) -> Sequence[str]:
        """Hex colour of each class, for maps."""

    @property
    def level1(self) -> Mapping[str, Sequence[str]]:
        """Coarse group -> class names."""

    @property
    def confusable(self) -> Mapping[str, Sequence[str]]:
        """Group of easily confused classes -> class names."""

    @property
    def coarse(self) -> Mapping[str, Sequence[str]]:
        """Class that datasets share -> class names."""

    @property
    def s1_bands(self) -> Sequence[str]:
        """Sentinel-1 bands in canonical order."""

    @property
    def s2_bands(self) -> Sequence[str]:
        """Sentinel-2 bands in canonical order."""

    @property
    def band_sizes(self) -> Mapping[str, int]:
        """Native height (= width) of each band in pixels."""

    @property
    def index(self) -> pd.DataFrame:
        """One row a patch: patch_id, labels, split, scene, location, date and whatever else is known."""

    def read(self, i: int, /) -> Mapping[str, NDArray[Any]]:
        """Return band -> native array (size, size) of patch ``i``; PatchError when it cannot be used."""

    def fingerprint(self) -> str:
        """Return a short name of the content, another one when any file changed."""


#: A record in memory that is written anew once the next one is asked for, or what is wrong with the patch.
Result = tuple[memoryview, Record | PatchError]


def read_records(
    archive: Archive, layout: BandLayout, parts: Iterable[range], workers: int | None, block: int = 1
) -> Generator[Result, None, None]:
    """Yield the record of every patch, or what is wrong with it.

    Args:
        archive: to read from; with several workers it is inherited by forked processes, never pickled.
        layout: of the records.
        parts: patch numbers, shard by shard.
        workers: reading processes; None for one per available core, at most 8.
        block: side of the blocks of pixels that are averaged; 1 for none.

    Raises:
        PackError: when a reading process is killed.
    """
    workers = workers or default_workers()
    size = layout.record_bytes
    if workers == 1:
        memory = memoryview(bytearray(size))
        for part in parts:
            for i in part:
                yield memory, _read_one(archive, layout, block, i, memory)
        return
    # Records are written where both sides see them: to hand them over would cost more than to read them.
    length = max(1, min(_CHUNK, _CHUNK_BYTES // size))
    slots = tuple(memoryview(mmap.mmap(-1, length * size)) for _ in range(_AHEAD * workers))
    # Fork, not spawn: a child that imports TorchGeo anew would cost more seconds than packing 500 patches.
    fork = multiprocessing.get_context("fork")
    pool = ProcessPoolExecutor(workers, fork, _adopt, (archive, layout, block, slots, os.getpid()))
    running: deque[tuple[memoryview, Future[list[Record | PatchError]]]] = deque()

    def finished() -> Iterator[Result]:
        slot, future = running.popleft()
        for place, result in enumerate(future.result()):
            yield slot[size * place : size * (place + 1)], result

    try:
        chunks = (part[start : start + length] for part in parts for start in range(0, len(part), length))
        for turn, rows in enumerate(chunks):
            if len(running) == len(slots):
                yield from finished()  # and with that its slot, the next in turn, is free again
            number = turn % len(slots)
            running.append((slots[number], pool.submit(_read_adopted, rows, number)))
        while running:
            yield from finished()
    except BrokenProcessPool as error:
        raise PackError(
            "a reading process was killed, perhaps for want of memory: pack again, finished shards are "
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


_adopted: tuple[Archive, BandLayout, int, tuple[memoryview, ...]]  # of a child process


def _adopt(
    archive: Archive, layout: BandLayout, block: int, slots: tuple[memoryview, ...], parent: int
) -> None:
    global _adopted
    _adopted = archive, layout, block, slots
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()


def _leave_with(parent: int) -> None:
    """End this process soon after the packer was killed: it inherited the packer's lock on the folder."""
    while os.getppid() == parent:
        time.sleep(0.2)
    os._exit(1)


def _read_adopted(rows: range, number: int) -> list[Record | PatchError]:
    archive, layout, block, slots = _adopted
    size = layout.record_bytes
    return [
        _read_one(archive, layout, block, i, slots[number][size * place : size * (place + 1)])
        for place, i in enumerate(rows)
    ]
