"""Turning an archive into packed data: shard by shard, checked before any cast, resumed after a kill."""

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mosaic.datasets.problems import PatchError
from mosaic.store.manifest import INDEX, MANIFEST, VERSION, Manifest, Shard
from mosaic.store.reader import PackedStore, label_matrix
from mosaic.store.record import Record
from mosaic.store.record_format import BandLayout, reduction
from mosaic.store.source_reader import Archive, Result, read_records
from mosaic.utils.errors import PackError, suggest
from mosaic.utils.files import atomic_path, lock, read_json, require_free_space, sha256_file, write_json
from mosaic.utils.hashing import hash_json
from mosaic.utils.progress import log, progress

__all__ = ["Archive", "pack"]

BAD_PATCHES = "bad_patches.json"


def pack(
    archive: Archive,
    folder: Path,
    *,
    on_bad_patch: Literal["stop", "skip"] = "stop",
    shard_size: int = 4096,
    workers: int | None = None,
    most_pixels: int | None = None,
) -> PackedStore:
    """Pack ``archive`` into ``folder``, or open what was packed there before.

    Killed at any moment it resumes: finished shards are kept when their checksum holds. Finished data of
    another source is never overwritten.

    Args:
        archive: what to pack.
        folder: where to; one folder for one archive and band set.
        on_bad_patch: ``"stop"`` reads on to the end and raises with the list; ``"skip"`` leaves bad patches
            out, counts them and records them in ``manifest.skipped``.
        shard_size: patches per file; 4,096 with 12 bands are 891 MB.
        workers: reading processes; by default one per available core, at most 8.
        most_pixels: longest side of a band; larger patches are averaged in whole blocks, backscatter as
            power. None packs every pixel.

    Returns:
        The packed data, opened.

    Raises:
        PackError: bad patches, no training patches, or a folder that holds data of another source.
        RunError: no space, folder not writable, or a second packer at work.
    """
    if on_bad_patch not in ("stop", "skip"):
        raise PackError(f"on_bad_patch is {on_bad_patch!r}{suggest(on_bad_patch, ('stop', 'skip'))}")
    if shard_size < 1:
        raise PackError(f"shard_size is {shard_size}, expected at least 1 patch")
    block = reduction(archive.band_sizes, most_pixels)
    job = _Job(archive, folder, shard_size, skip=on_bad_patch == "skip", block=block)
    # finished data is only read, by any number of runs at once
    finished = job.finished()
    if finished is None:
        with lock(folder):
            finished = job.finished()
            if finished is None:
                job.write_shards(workers)
                return job.finish()
    log(f"packed data in {folder} is up to date: {len(finished)} patches reused")
    return finished


class _Job:
    """One packing: what is done, what is left, and where it goes."""

    def __init__(self, archive: Archive, folder: Path, shard_size: int, skip: bool, block: int) -> None:
        self.archive, self.folder, self.skip = archive, folder, skip
        self.index = archive.index
        sizes = {band: size // block for band, size in archive.band_sizes.items()}
        self.layout = BandLayout.of(archive.s1_bands, archive.s2_bands, sizes, 10 * block)
        self.block = block
        self.fingerprint = archive.fingerprint()
        # Whatever the bytes of a shard depend on: a shard of another key is not ours.
        self.key = hash_json([VERSION, archive.name, self.fingerprint, self.layout.to_json()])
        label_matrix(
            self.index["labels"], archive.class_names
        )  # an unknown label shows before hours of packing
        self.train = (self.index["split"] == "train").to_numpy()
        self._require_training(bool(self.train.any()))
        starts = range(0, len(self.index), shard_size)
        self.parts = [range(start, min(start + shard_size, len(self.index))) for start in starts]
        self.notes: dict[int, dict[str, Any]] = {}

    def _require_training(self, found: bool) -> None:
        if not found:
            raise PackError(
                f"{self.archive.root} has no usable patch in split 'train', which the normalisation is "
                "computed from: assign some in its metadata"
            )

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"shard-{number:05d}.{suffix}"

    def finished(self) -> PackedStore | None:
        """Return the data in the folder if it is complete and of this source; None when work is left."""
        if not (self.folder / MANIFEST).is_file():
            return None
        manifest = Manifest.from_json(read_json(self.folder / MANIFEST))
        layout = replace(manifest.layout, statistics={})
        there = f"{manifest.dataset} {manifest.fingerprint} with bands {', '.join(_bands(layout))}"
        here = f"{self.archive.name} {self.fingerprint} with bands {', '.join(_bands(self.layout))}"
        if (there, layout) != (here, self.layout):
            raise PackError(
                f"{self.folder} holds {there}, packed from {manifest.source}; {self.archive.root} is now "
                f"{here}: delete that folder or choose another one"
            )
        if manifest.skipped and not self.skip:
            return None
        try:
            return PackedStore(self.folder)
        except PackError as error:
            log(f"mending packed data: {error}")
            return None

    def _note(self, number: int) -> dict[str, Any] | None:
        """Return the note of a finished shard, or None when it has to be written."""
        note_path, path = self._path(number, "json"), self._path(number, "bin")
        if not (note_path.is_file() and path.is_file()):
            return None
        note: dict[str, Any] = read_json(note_path)
        part = self.parts[number]
        if [note["key"], note["start"], note["stop"]] != [self.key, part.start, part.stop]:
            return None
        if note["skipped"] and not self.skip:
            return None
        return note if sha256_file(path) == note["sha256"] else None

    def write_shards(self, workers: int | None) -> None:
        """Write every shard that is not done.

        Raises:
            PackError: when patches are bad and may not be skipped; all of them are listed in a file.
        """
        for leftover in self.folder.glob(".*.partial*"):
            leftover.unlink()
        known = {number: self._note(number) for number in range(len(self.parts))}
        self.notes = {number: note for number, note in known.items() if note is not None}
        todo = [number for number in known if number not in self.notes]
        if self.notes:
            log(f"packing resumes: {len(self.notes)} of {len(self.parts)} shards are done")
        elif any(self.folder.glob("shard-*.json")):
            log(f"the shards in {self.folder} are of another source or damaged: packing anew")
        parts = [self.parts[number] for number in todo]
        left = sum(len(part) for part in parts)
        require_free_space(self.folder, left * self.layout.record_bytes)
        with closing(read_records(self.archive, self.layout, parts, workers, self.block)) as records:
            results = progress(records, "packing", left)
            for number in todo:
                self._write_shard(number, islice(results, len(self.parts[number])))
        skipped = self._skipped()
        if skipped and not self.skip:
            write_json(self.folder / BAD_PATCHES, skipped)
            raise PackError(_listing(skipped, len(self.index), self.folder))

    def _write_shard(self, number: int, results: Iterable[Result]) -> None:
        """Write the good patches of one shard, then its note."""
        part, path = self.parts[number], self._path(number, "bin")
        kept: list[int] = []
        records: list[Record] = []
        skipped: list[dict[str, str]] = []
        sha256 = hashlib.sha256()
        with atomic_path(path) as partial, open(partial, "wb") as file:
            os.posix_fallocate(
                file.fileno(), 0, len(part) * self.layout.record_bytes
            )  # a full disk shows now
            for i, (data, result) in zip(part, results, strict=True):
                if isinstance(result, PatchError):
                    skipped.append(
                        {"patch_id": result.patch_id, "path": str(result.path), "reason": result.reason}
                    )
                    continue
                file.write(data)
                sha256.update(data)
                kept.append(i)
                records.append(result)
            file.truncate(len(kept) * self.layout.record_bytes)
        train = [record.moments for i, record in zip(kept, records, strict=True) if self.train[i]]
        note = {
            "key": self.key,
            "start": part.start,
            "stop": part.stop,
            "sha256": sha256.hexdigest(),
            "kept": kept,
            "constant_bands": [record.constant_bands for record in records],
            "nodata_share": [record.nodata_share for record in records],
            "moments": {band: _total(moments[band] for moments in train) for band in _bands(self.layout)},
            "skipped": skipped,
        }
        write_json(self._path(number, "json"), note)
        self.notes[number] = note

    def _skipped(self) -> list[dict[str, str]]:
        return [bad for number in sorted(self.notes) for bad in self.notes[number]["skipped"]]

    def finish(self) -> PackedStore:
        """Write the index and, last, the manifest; remove what an earlier source left behind."""
        notes = [self.notes[number] for number in range(len(self.parts))]
        kept = np.concatenate([np.asarray(note["kept"], dtype=np.int64) for note in notes])
        self._require_training(bool(self.train[kept].any()))
        index = self.index.iloc[kept].reset_index(drop=True)
        counts = [len(note["kept"]) for note in notes]
        index["shard"] = np.repeat(np.arange(len(notes)), counts)
        index["record"] = np.concatenate([np.arange(count) for count in counts])
        index["constant_bands"] = [names for note in notes for names in note["constant_bands"]]
        index["nodata_share"] = [share for note in notes for share in note["nodata_share"]]
        with atomic_path(self.folder / INDEX) as partial:
            index.to_parquet(partial, index=False)
        archive, skipped = self.archive, self._skipped()
        manifest = Manifest(
            version=VERSION,
            dataset=archive.name,
            source=str(archive.root),
            fingerprint=self.fingerprint,
            class_names=tuple(archive.class_names),
            class_colors=tuple(archive.class_colors),
            level1={group: tuple(names) for group, names in archive.level1.items()},
            confusable={group: tuple(names) for group, names in archive.confusable.items()},
            coarse={group: tuple(names) for group, names in archive.coarse.items()},
            layout=replace(self.layout, statistics=self._statistics(notes)),
            record_bytes=self.layout.record_bytes,
            shards=tuple(
                Shard(self._path(number, "bin").name, len(note["kept"]), note["sha256"])
                for number, note in enumerate(notes)
            ),
            index_sha256=sha256_file(self.folder / INDEX),
            counts={
                "patches": len(index),
                **{str(split): int(n) for split, n in index["split"].value_counts().sort_index().items()},
                "skipped": len(skipped),
            },
            skipped=tuple(skipped),
        )
        write_json(self.folder / MANIFEST, manifest.to_json())
        ours = {self._path(number, suffix) for number in range(len(notes)) for suffix in ("bin", "json")}
        for path in {*self.folder.glob("shard-*"), self.folder / BAD_PATCHES} - ours:
            path.unlink(missing_ok=True)
        if skipped:
            log(f"packed {len(index)} patches, skipped {len(skipped)} bad ones (listed in {MANIFEST})")
        return PackedStore(self.folder)

    def _statistics(self, notes: Sequence[dict[str, Any]]) -> dict[str, dict[str, float]]:
        """Mean and standard deviation per band over the training patches, in DN or dB, from exact sums."""
        statistics = {}
        for band in _bands(self.layout):
            scale = self.layout.group_of(band)[0].scale
            n, total, squares = _total(note["moments"][band] for note in notes)
            variance = (n * squares - total * total) / (n * n)  # of Python integers: no cancellation
            if variance == 0:
                raise PackError(
                    f"{band} has the same value in every training patch of {self.archive.root}, so it cannot "
                    "be normalised: leave the band out, or mend the archive"
                )
            statistics[band] = {"mean": total / n * scale, "std": variance**0.5 * scale}
        return statistics


def _bands(layout: BandLayout) -> list[str]:
    return [*layout.s1_bands, *layout.s2_bands]


def _total(moments: Iterable[Sequence[int]]) -> list[int]:
    """Add up (number, sum, sum of squares)."""
    return [sum(column) for column in zip([0, 0, 0], *moments, strict=True)]


def _listing(bad: Sequence[Mapping[str, str]], patches: int, folder: Path) -> str:
    lines = [f"  {problem['patch_id']}: {problem['reason']} ({problem['path']})" for problem in bad[:10]]
    if len(bad) > 10:
        lines.append(f"  and {len(bad) - 10} more, all in {folder / BAD_PATCHES}")
    return (
        f"{len(bad)} of {patches} patches cannot be packed:\n" + "\n".join(lines) + "\n"
        "Mend or remove them, or set on_bad_patch to 'skip' to leave them out and count them"
    )
