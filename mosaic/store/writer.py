"""Turning an archive into packed data: shard by shard, checked before any cast, resumed after a kill."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mosaic.datasets.archive import Archive, PatchError, Problem
from mosaic.datasets.contents import Contents, contents_of, whole_archive_problems
from mosaic.store.reader import PackedStore, label_matrix
from mosaic.store.record import Record, averaged, averaging_block, to_record
from mosaic.store.record_format import INDEX, MANIFEST, VERSION, BandLayout, Manifest, Shard
from mosaic.utils import files
from mosaic.utils.cached import read_if_sound
from mosaic.utils.errors import PackError
from mosaic.utils.forked import forked_map
from mosaic.utils.progress import log, progress
from mosaic.utils.words import count

_COLUMNS = ("patch_id", "labels", "split", "date", "scene", "location")  # that are read from packed data


def pack(
    archive: Archive,
    folder: Path | str,
    *,
    on_bad_patch: Literal["stop", "skip"] = "stop",
    shard_size: int = 1024,
    workers: int | None = None,
    most_pixels: int | None = None,
    left_out: Sequence[Problem] = (),
) -> PackedStore:
    """Pack ``archive`` into ``folder``, or open the data that was packed there before.

    Killed at any moment it resumes: finished shards are kept when their checksum holds. Finished data of
    another source is never overwritten. While another process packs there, this one waits for it.

    Example:
        >>> archive = BigEarthNetArchive(Path("data/BigEarthNet"), bands="10m")
        >>> store = pack(archive, Path("data/packed/bigearthnet"))

    Args:
        archive: what to pack.
        folder: to write to; one for one archive and band set.
        on_bad_patch: ``"stop"`` reads on to the end and raises with the list; ``"skip"`` leaves bad patches
            out and records them in ``manifest.skipped``.
        shard_size: patches per file, which one process writes; 1,024 with 12 bands are 223 MB.
        workers: processes; by default one per available core.
        left_out: faults of patches that the archive was opened without, for ``manifest.skipped``.
        most_pixels: longest side of a band; larger ones are averaged in whole blocks. None packs all pixels.

    Raises:
        PackError: bad patches, no training patches, or a folder that holds data of another source.
        RunError: no space, or folder not writable.
    """
    block = averaging_block(archive.band_sizes, most_pixels)
    folder = Path(folder)
    packing = _Packing(archive, folder, shard_size, on_bad_patch == "skip", block)
    # finished data is only read, by any number of runs at once
    finished = packing.finished()
    if finished is None:
        with files.lock(folder, wait=True):
            finished = packing.finished()
            if finished is None:
                return packing.finish(packing.write_shards(workers), left_out)
    log(f"packed data in {folder} is up to date: {len(finished)} patches reused")
    return finished


class _Packing:
    """One packing: finished shards and those left to write."""

    def __init__(self, archive: Archive, folder: Path, shard_size: int, skip: bool, block: int) -> None:
        self.archive, self.folder, self.skip, self.block = archive, folder, skip, block
        self.index = archive.index
        if absent := [column for column in _COLUMNS if column not in self.index]:
            raise PackError(f"the index of {archive.root} lacks {', '.join(absent)}: see docs/extend.md")
        sensors = tuple(sensor for sensor in archive.sensors if sensor.bands)
        bands = [band for sensor in sensors for band in sensor.bands]
        self.layout = BandLayout(sensors, {band: archive.band_sizes[band] // block for band in bands})
        self.fingerprint = archive.fingerprint()
        names = ("class_names", "class_colors", "level1", "confusable", "coarse")
        self.classes: dict[str, Any] = {name: getattr(archive, name) for name in names}
        label_matrix(self.index["labels"], archive.class_names)  # finds unknown labels before packing
        self.train = (self.index["split"] == "train").to_numpy()
        self._require_training(self.train)
        patches = range(len(self.index))
        self.shards = [patches[start : start + shard_size] for start in patches[::shard_size]]

    def _require_training(self, train: NDArray[np.bool_]) -> None:
        if not train.any():
            raise PackError(
                f"{self.archive.root} has no usable patch in split 'train', which the normalisation is "
                "computed from: assign some in its metadata"
            )

    def _path(self, number: int, suffix: str) -> Path:
        return self.folder / f"shard-{number:05d}.{suffix}"

    def _key(self, number: int) -> str:
        """Return a hash of all that the bytes of a shard depend on."""
        groups, shard = [asdict(group) for group in self.layout.groups], self.shards[number]
        return files.hash_json(
            [VERSION, self.archive.name, self.fingerprint, groups, shard.start, shard.stop, Contents._fields]
        )

    def finished(self) -> PackedStore | None:
        """Return the data in the folder if it is complete and of this source; None when work is left."""
        manifest = read_if_sound(self.folder / MANIFEST, Manifest.read)
        if manifest is None:
            return None
        packed = f"{manifest.dataset} {manifest.fingerprint} with bands {_listed(manifest.layout)}"
        wanted = f"{self.archive.name} {self.fingerprint} with bands {_listed(self.layout)}"
        if (packed, manifest.layout.groups) != (wanted, self.layout.groups):
            raise PackError(
                f"{self.folder} holds {packed}, packed from {manifest.source}; {self.archive.root} is now "
                f"{wanted}: delete that folder or choose another one"
            )
        if manifest.skipped and not self.skip:
            return None
        layout = replace(manifest.layout, sensors=self.layout.sensors)
        described = replace(manifest, layout=layout, **self.classes)
        if described != manifest:  # other titles, augmentation or groups of classes, the same pixels
            described.write(self.folder / MANIFEST)
        try:
            return PackedStore(self.folder)
        except PackError as error:
            log(f"repairing packed data: {error}")
            return None

    def _note(self, number: int) -> dict[str, Any] | None:
        """Return the note of a finished shard, or None when it has to be written."""
        path = self._path(number, "bin")
        note: dict[str, Any] | None = read_if_sound(
            self._path(number, "json"), partial(files.read_json, build=files.unsealed)
        )
        if not note or note["key"] != self._key(number) or (note["skipped"] and not self.skip):
            return None
        return note if path.is_file() and files.sha256_file(path) == note["sha256"] else None

    def write_shards(self, workers: int | None) -> list[dict[str, Any]]:
        """Write shards that are not done, and return the notes of all.

        Raises:
            PackError: when patches are bad and may not be skipped.
        """
        for leftover in self.folder.glob(".*.partial.*"):
            leftover.unlink()
        notes = {number: note for number in range(len(self.shards)) if (note := self._note(number))}
        missing = [number for number in range(len(self.shards)) if number not in notes]
        if notes:
            log(f"packing resumes: {len(notes)} of {len(self.shards)} shards are done")
        elif any(self.folder.glob("shard-*.json")):
            log(f"the shards in {self.folder} are of another source or damaged: packing anew")
        left = sum(len(self.shards[number]) for number in missing)
        files.require_free_space(self.folder, left * self.layout.record_bytes)
        written = forked_map(lambda k: self._write_shard(missing[k]), len(missing), workers, chunk=1)
        with closing(written):
            notes |= zip(missing, progress(written, "packing shards", len(missing)), strict=True)
        skipped = [bad for number in sorted(notes) for bad in notes[number]["skipped"]]
        if skipped and not self.skip:
            what = f"{len(skipped)} of {len(self.index)} patches cannot be packed"
            lines = [f"{bad['patch_id']}: {bad['reason']} ({bad['path']})" for bad in skipped]
            remedy = "set on_bad_patch to 'skip' to leave them out and count them"
            raise PackError(_listing(what, lines, remedy))
        return [notes[number] for number in range(len(self.shards))]

    def _write_shard(self, number: int) -> dict[str, Any]:
        """Write the good patches of one shard, then its note, which is returned."""
        kept: dict[int, Record] = {}
        skipped: list[dict[str, str]] = []
        sha256, data = hashlib.sha256(), bytearray(self.layout.record_bytes)
        contents: list[Contents] = []
        with files.atomic_path(self._path(number, "bin")) as partial, open(partial, "wb") as file:
            for i in self.shards[number]:
                try:
                    sample = self.archive.read(i)
                    kept[i] = self._record(i, sample, data)
                    file.write(data)
                    sha256.update(data)
                    contents.append(contents_of(self.layout.sensors, sample))
                except PatchError as e:
                    skipped.append({"patch_id": e.patch_id, "path": str(e.path), "reason": e.reason})
        train = [record.moments for i, record in kept.items() if self.train[i]]
        note = {
            "key": self._key(number),
            "sha256": sha256.hexdigest(),
            "kept": list(kept),
            "contents": contents,
            "constant_bands": [record.constant_bands for record in kept.values()],
            "nodata_share": [record.nodata_share for record in kept.values()],
            "moments": {band: _total(moments[band] for moments in train) for band in self.layout.bands},
            "skipped": skipped,
        }
        files.write_json(self._path(number, "json"), files.sealed(note))
        return note

    def _record(self, i: int, sample: Mapping[str, NDArray[Any]], data: bytearray) -> Record:
        """Write patch ``i`` to ``data``; PatchError when it cannot be used."""
        try:
            return to_record(averaged(sample, self.layout, self.block), self.layout, memoryview(data))
        except ValueError as error:
            raise PatchError(str(self.index["patch_id"].iloc[i]), self.archive.root, str(error)) from error

    def finish(self, notes: Sequence[Mapping[str, Any]], left_out: Sequence[Problem]) -> PackedStore:
        """Write the index and, last, the manifest; remove files of an earlier source."""
        archive = self.archive
        kept = np.concatenate([np.asarray(note["kept"], dtype=np.int64) for note in notes])
        self._require_training(self.train[kept])
        index = self.index.iloc[kept].reset_index(drop=True)
        for column in ("constant_bands", "nodata_share"):
            index[column] = [value for note in notes for value in note[column]]
        contents = [Contents(*patch) for note in notes for patch in note["contents"]]
        problems = whole_archive_problems(self.layout.sensors, index, contents)
        for problem in problems:
            if not problem.patch_id and not problem.note:
                raise PackError(f"{archive.root}: {problem.detail}")
            if not problem.patch_id:
                log(f"{archive.root}: {problem.detail}")
        if same := [f"{p.patch_id} {p.detail}" for p in problems if not p.note]:
            what = f"{archive.root} has {count(len(same), 'patch')} in two splits, under other names"
            raise PackError(_listing(what, same, "keep one of each pair"))
        with files.atomic_path(self.folder / INDEX) as partial:
            index.to_parquet(partial, index=False)
        skipped = [
            {"patch_id": fault.patch_id, "path": str(fault.path or archive.root), "reason": fault.detail}
            for fault in {fault.patch_id: fault for fault in left_out}.values()
        ] + [bad for note in notes for bad in note["skipped"]]
        splits = {str(split): int(n) for split, n in index["split"].value_counts().sort_index().items()}
        paths = [self._path(number, "bin") for number in range(len(notes))]
        shards = zip(paths, notes, strict=True)
        manifest = Manifest(
            version=VERSION,
            dataset=archive.name,
            source=str(archive.root),
            fingerprint=self.fingerprint,
            **self.classes,
            layout=replace(self.layout, statistics=self._statistics(notes)),
            shards=tuple(Shard(path.name, len(note["kept"]), note["sha256"]) for path, note in shards),
            index_sha256=files.sha256_file(self.folder / INDEX),
            counts={"patches": len(index), **splits, "skipped": len(skipped)},
            skipped=tuple(skipped),
        )
        manifest.write(self.folder / MANIFEST)
        current = {path.with_suffix(suffix) for path in paths for suffix in (".bin", ".json")}
        for path in {*self.folder.glob("shard-*.bin"), *self.folder.glob("shard-*.json")} - current:
            path.unlink()
        if skipped:
            log(f"packed {len(index)} patches, skipped {len(skipped)} bad ones (listed in {MANIFEST})")
        return PackedStore(self.folder)

    def _statistics(self, notes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
        """Return mean and standard deviation per band over the training patches, in physical units."""
        statistics = {}
        for band in self.layout.bands:
            scale = self.layout.group_of(band)[0].scale
            n, total, squares = _total(note["moments"][band] for note in notes)
            variance = (n * squares - total * total) / (n * n)  # of Python integers: no cancellation
            if variance == 0:
                raise PackError(
                    f"{band} has the same value in every training patch of {self.archive.root}, so it cannot "
                    "be normalised: leave the band out, or repair the archive"
                )
            statistics[band] = {"mean": total / n * scale, "std": variance**0.5 * scale}
        return statistics


def _listed(layout: BandLayout) -> str:
    return "; ".join(f"{', '.join(group.bands)} at {group.size} px" for group in layout.groups)


def _total(moments: Iterable[Sequence[int]]) -> list[int]:
    """Add up (number, sum, sum of squares)."""
    return [sum(column) for column in zip([0, 0, 0], *moments, strict=True)]


def _listing(what: str, lines: Sequence[str], remedy: str) -> str:
    """Return an error of many lines, of which ten are shown."""
    shown = [f"  {line}" for line in lines[:10]]
    shown += [f"  and {len(lines) - 10} more: see `python -m mosaic verify`"] if len(lines) > 10 else []
    return "\n".join([f"{what}:", *shown, f"Repair or remove them, or {remedy}"])
