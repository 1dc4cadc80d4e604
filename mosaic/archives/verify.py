"""Checking an archive, patch by patch: what ``python -m mosaic verify`` prints."""

import multiprocessing
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, fields
from pathlib import Path
from typing import Literal

import pandas as pd

from mosaic.archives.bigearthnet import BigEarthNetArchive
from mosaic.archives.bigearthnet_metadata import scene_notes
from mosaic.archives.nomenclature import SPLITS
from mosaic.archives.patches import Problem
from mosaic.common.progress import progress

_COLUMNS = [field.name for field in fields(Problem)]


def verify(
    root: Path,
    bands: Literal["all", "10m"] | Sequence[str] = "all",
    include_snow_cloud: bool = True,
    workers: int | None = None,
) -> pd.DataFrame:
    """Check every pair of an archive in the official layout of BigEarthNet v2.

    Metadata: names, splits, labels, places; no location in two splits. Files: pairs complete; shape, type,
    value range and place of every band; content; labels against reference maps. Scenes in several splits,
    stray files, folders without a row, empty splits and long times between the sensors are notes: worth
    knowing, no fault.

    Args:
        root: the archive's folder.
        bands: Sentinel-2 bands to check, as for :class:`BigEarthNetArchive`.
        include_snow_cloud: check patches flagged as snow, cloud or shadow as well.
        workers: reading processes; by default one per available core.

    Returns:
        One row a problem: patch_id, kind, detail, path, note (True where it is no fault). ``attrs["pairs"]``
        is the number of pairs whose files were read.

    Raises:
        ArchiveError: when the folder is no archive at all, or has none of the files of a band.
    """
    found: list[Problem] = []
    archive = BigEarthNetArchive(root, bands, include_snow_cloud, problems=found)
    for problems in progress(_checked(archive, workers or _cores()), "verifying", total=len(archive)):
        found += problems
    found += scene_notes(archive.index)
    found += [
        Problem("", "split", f"no patch in split {split}", note=True)
        for split in SPLITS
        if split not in set(archive.index["split"])
    ]
    found += _folders_without_row(archive)
    table = pd.DataFrame([astuple(problem) for problem in found], columns=_COLUMNS)
    table["note"] = table["note"].astype(bool)
    table.attrs["pairs"] = len(archive)
    return table.sort_values(["note", "patch_id"], kind="stable", ignore_index=True)


def format_table(problems: pd.DataFrame) -> str:
    """Return the problems as text for a terminal: one line each, then how many of which kind.

    Args:
        problems: as :func:`verify` returns them.
    """
    faults = problems[~problems["note"]]
    lines = []
    for row in problems.to_dict("records"):
        place = f" ({row['path']})" if row["path"] else ""
        weight = "note " if row["note"] else "FAULT"
        lines.append(f"{weight}  {row['kind']}  {row['patch_id'] or 'archive'}: {row['detail']}{place}")
    pairs = problems.attrs.get("pairs", 0)
    if faults.empty:
        lines.append(f"{pairs} pairs checked, no fault, {len(problems)} notes")
    else:
        kinds = ", ".join(f"{n} {kind}" for kind, n in faults["kind"].value_counts().items())
        lines.append(
            f"{pairs} pairs checked, {len(faults)} faults in {faults['patch_id'].nunique()} patches "
            f"({kinds}), {len(problems) - len(faults)} notes"
        )
    return "\n".join(lines)


def _folders_without_row(archive: BigEarthNetArchive) -> Iterable[Problem]:
    """Note patches on disk that the metadata does not list, e.g. those flagged as snow or cloud."""
    for key, column in (("s1", "s1_name"), ("s2", "patch_id")):
        base = archive.root / archive.dir_file_names[key]
        there = {name for parent in base.iterdir() if parent.is_dir() for name in os.listdir(parent)}
        extra = len(there - set(archive.index[column]))
        if extra:
            yield Problem("", "folder", f"{extra} folders are of no patch that was checked", base, note=True)


def _checked(archive: BigEarthNetArchive, workers: int) -> Iterator[list[Problem]]:
    """Yield the problems of every pair, in order."""
    if workers == 1:
        yield from map(archive.check, range(len(archive)))
        return
    # Forked processes inherit the archive and TorchGeo, whose import costs more than 500 patches.
    with multiprocessing.get_context("fork").Pool(workers, _adopt, (archive,)) as pool:
        yield from pool.imap(_check_adopted, range(len(archive)), chunksize=16)


_adopted: BigEarthNetArchive  # of a child process


def _adopt(archive: BigEarthNetArchive) -> None:
    global _adopted
    _adopted = archive


def _check_adopted(i: int) -> list[Problem]:
    return _adopted.check(i)


def _cores() -> int:
    """Return the number of reading processes: forking is only safe on Linux."""
    return min(8, len(os.sched_getaffinity(0))) if sys.platform == "linux" else 1
