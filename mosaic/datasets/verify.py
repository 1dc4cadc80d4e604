"""Checking an archive, patch by patch: what ``python -m mosaic verify`` prints."""

from dataclasses import astuple, fields
from pathlib import Path

import pandas as pd

from mosaic.datasets.corine import SPLITS
from mosaic.datasets.problems import Problem
from mosaic.datasets.registry import open_archive
from mosaic.utils.forked import forked_map
from mosaic.utils.progress import progress

_COLUMNS = [field.name for field in fields(Problem)]


def verify(
    root: Path,
    dataset: str = "bigearthnet",
    bands: str = "all",
    include_snow_cloud: bool = True,
    workers: int | None = None,
) -> pd.DataFrame:
    """Check every pair of an archive in its official layout.

    Index: names, splits, labels, places; no location in two splits. Files: pairs complete; shape, type,
    value range and place of every band; content; labels against maps. Empty splits, stray files and whatever
    else the archive finds odd are notes: worth knowing, no fault.

    Args:
        root: the archive's folder.
        dataset: its layout, a key of :data:`mosaic.datasets.registry.DATASETS`.
        bands: Sentinel-2 bands to check: ``"all"``, ``"10m"``, or names separated by commas.
        include_snow_cloud: check patches flagged as snow, cloud or shadow as well.
        workers: reading processes; by default one per available core.

    Returns:
        One row a problem: patch_id, kind, detail, path, note (True where it is no fault). ``attrs["pairs"]``
        is the number of pairs whose files were read.

    Raises:
        ArchiveError: when the folder is no archive at all, or has none of the files of a band.
    """
    found: list[Problem] = []
    archive = open_archive(dataset, root, bands, include_snow_cloud, problems=found)
    checked = forked_map(archive.check, len(archive), workers)
    for problems in progress(checked, "verifying", total=len(archive)):
        found += problems
    found += archive.notes()
    found += [
        Problem("", "split", f"no patch in split {split}", note=True)
        for split in SPLITS
        if split not in set(archive.index["split"])
    ]
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
