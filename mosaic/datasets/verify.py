"""Check an archive patch by patch: what ``python -m mosaic verify`` prints."""

from dataclasses import fields
from pathlib import Path

import pandas as pd

from mosaic.datasets.archive import MOST_NODATA, SPLITS, Problem
from mosaic.datasets.contents import Contents, contents_of, whole_archive_problems
from mosaic.datasets.registry import DEFAULT_DATASET, open_archive
from mosaic.utils.forked import forked_map
from mosaic.utils.progress import progress


def verify(
    root: Path,
    dataset: str = DEFAULT_DATASET,
    bands: str = "all",
    workers: int | None = None,
    most_nodata: float = MOST_NODATA,
) -> pd.DataFrame:
    """Check every pair of an archive in its official layout, those flagged as snow or cloud too.

    Index: names, splits, labels, tiles; no location in two splits. Files: pairs complete; shape, type, value
    range and georeference of every band; content, of no sensor twice under other names, and in the expected
    unit over all patches; labels against maps. Empty splits, stray files and other oddities are notes. The
    table has a row a :class:`.archive.Problem`; ``attrs["pairs"]`` is the number of pairs whose files were
    read, by ``workers`` processes.

    Raises:
        ArchiveError: when the folder is not an archive, or no patch has files of a band.
    """
    problems: list[Problem] = []
    archive = open_archive(
        dataset, root, bands, include_snow_cloud=True, problems=problems, most_nodata=most_nodata
    )

    def check(i: int) -> tuple[list[Problem], Contents]:
        return archive.check(i), contents_of(archive.sensors, getattr(archive, "checked", {}))

    contents = []
    for of_patch, found in progress(forked_map(check, len(archive), workers), "verifying", len(archive)):
        problems += of_patch
        contents.append(found)
    problems += whole_archive_problems(archive.sensors, archive.index, contents)
    problems += archive.notes()
    problems += [
        Problem("", "split", f"no patch in split {split}", note=True)
        for split in SPLITS
        if split not in set(archive.index["split"])
    ]
    columns = [field.name for field in fields(Problem)]
    table = pd.DataFrame(problems, columns=columns).astype({"note": bool})
    table.attrs["pairs"] = len(archive)
    return table.sort_values(["note", "patch_id"], kind="stable", ignore_index=True)


def format_table(problems: pd.DataFrame) -> str:
    """Return a table of :func:`verify` for a terminal: one line a problem, then the number of each kind."""
    lines = []
    for row in problems.to_dict("records"):
        path = f" ({row['path']})" if row["path"] else ""
        weight = "note " if row["note"] else "FAULT"
        lines.append(f"{weight}  {row['kind']}  {row['patch_id'] or 'archive'}: {row['detail']}{path}")
    faults, notes = problems[~problems["note"]], problems[problems["note"]]
    pairs = problems.attrs["pairs"]
    found = f"{len(faults)} faults in {faults['patch_id'].nunique()} patches" if len(faults) else "no fault"
    return "\n".join(
        [*lines, f"{pairs} pairs checked, {found}{_kinds(faults)}, {len(notes)} notes{_kinds(notes, pairs)}"]
    )


def _kinds(problems: pd.DataFrame, pairs: int = 0) -> str:
    """Return how often each kind occurs, and in which share of the pairs, in brackets."""
    counts = []
    for kind, ids in problems.groupby("kind", sort=False)["patch_id"]:
        share = f", {100 * len(ids) / pairs:.1f} % of the pairs" if pairs and all(ids) else ""
        counts.append(f"{len(ids)} {kind}{share}")
    return f" ({'; '.join(counts)})" if counts else ""
