"""The metadata table of BigEarthNet v2, parsed and checked before any image is opened."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.datasets.corine import CLASS_CODES, CLASSES, PATCH_PATTERN, S1_PATTERN, SPLITS
from mosaic.datasets.problems import Problem
from mosaic.datasets.tiles import tile_corner
from mosaic.utils.errors import ArchiveError, suggest

METADATA = "metadata.parquet"
#: The official second table: patches with snow, clouds or cloud shadows. They carry splits as well.
FLAGGED_METADATA = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
FLAGS = ("contains_seasonal_snow", "contains_cloud_or_shadow")
COLUMNS = ("patch_id", "labels", "split", "country", "s1_name", *FLAGS)


def read_metadata(root: Path, include_snow_cloud: bool) -> pd.DataFrame:
    """Read the official table as it is, less the flagged patches unless they are asked for.

    Args:
        root: the archive's folder.
        include_snow_cloud: keep flagged patches, and add those of :data:`FLAGGED_METADATA` if it is there.

    Raises:
        ArchiveError: when the table is missing, damaged, empty, or lacks a column.
    """
    paths = [root / METADATA]
    if include_snow_cloud and (root / FLAGGED_METADATA).is_file():
        paths.append(root / FLAGGED_METADATA)
    table = pd.concat([_read_table(path) for path in paths], ignore_index=True)
    if not include_snow_cloud:
        table = table[~table[list(FLAGS)].astype(bool).any(axis=1)].reset_index(drop=True)
    if table.empty:
        hint = "" if include_snow_cloud else " free of snow and clouds (include_snow_cloud adds the others)"
        raise ArchiveError(f"{root / METADATA} lists no patch{hint}")
    return table


def _read_table(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ArchiveError(f"{path} cannot be read as parquet ({error}): restore it") from error
    absent = [column for column in COLUMNS if column not in table]
    if absent:
        raise ArchiveError(
            f"{path} lacks the column(s) {', '.join(absent)}; it has {', '.join(map(str, table))}: use the "
            "official table of BigEarthNet v2"
        )
    return table[list(COLUMNS)]


def parse_metadata(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """Turn the official table into the archive's index, and tell which rows are wrong.

    Checked: unique names that follow the official grammar; tile, column and row agree between ``patch_id``
    and ``s1_name``, as numbers since only the former is zero-padded; known splits and labels, at least one
    label; no location in two splits.

    Args:
        table: as :func:`read_metadata` returns it.

    Returns:
        The index, sorted by ``patch_id``, with the columns patch_id, s1_name, labels (list of names), split,
        country, date and s1_date (ISO), tile, column, row, scene (tile and date), location (tile, column and
        row) and the two flags; and the problems of its rows. Rows with problems are in the index too.
    """
    table = table.sort_values("patch_id", kind="stable", ignore_index=True)
    s2 = _parse_names(table["patch_id"], PATCH_PATTERN)
    s1 = _parse_names(table["s1_name"], S1_PATTERN)
    index = pd.DataFrame(
        {
            "patch_id": table["patch_id"],
            "s1_name": table["s1_name"],
            "labels": table["labels"],
            "split": table["split"],
            "country": table["country"],
            "date": s2["date"],
            "s1_date": s1["date"],
            "tile": s2["tile"],
            "column": s2["column"],
            "row": s2["row"],
            "scene": s2["tile"] + "_" + s2["date"].str.replace("-", ""),
            "location": s2["tile"] + "_" + s2["column"].astype(str) + "_" + s2["row"].astype(str),
            **{flag: table[flag].astype(bool) for flag in FLAGS},
        }
    )
    ids = index["patch_id"].astype(str)
    problems = [
        *_rows(ids, index["patch_id"].duplicated(), "name", "the metadata lists this patch twice"),
        *_rows(ids, s2["tile"].isna(), "name", "patch_id does not follow the official naming"),
        *_rows(
            ids, s1["tile"].isna(), "name", "s1_name does not follow the official naming", index["s1_name"]
        ),
        *_rows(
            ids,
            (s2[["tile", "column", "row"]] != s1[["tile", "column", "row"]]).any(axis=1)
            & s2["tile"].notna()
            & s1["tile"].notna(),
            "pair",
            "tile, column and row of patch_id and s1_name differ: they show different places",
            index["s1_name"],
        ),
        *_rows(
            ids,
            ~index["split"].isin(SPLITS),
            "split",
            f"unknown split, expected one of {', '.join(SPLITS)}",
            index["split"],
        ),
        *_label_problems(ids, index["labels"]),
        *_location_problems(index),
    ]
    index["labels"] = [
        list(names) if isinstance(names, list | np.ndarray) else [] for names in index["labels"]
    ]
    return index, problems


def _parse_names(names: pd.Series, pattern: str) -> pd.DataFrame:
    """Split names into date (ISO), tile, column and row; missing values where the grammar is not followed."""
    parts = names.astype("str").str.extract(pattern)
    days = pd.to_datetime(parts["date"], format="%Y%m%d", errors="coerce")
    date = parts["date"].str[:4] + "-" + parts["date"].str[4:6] + "-" + parts["date"].str[6:]
    real = [tile for tile in parts["tile"].dropna().unique() if _is_tile(tile)]
    bad = days.isna() | ~parts["tile"].isin(real)
    return pd.DataFrame(
        {
            "date": date.mask(bad),
            "tile": parts["tile"].mask(bad),
            "column": pd.to_numeric(parts["column"]).mask(bad, -1).astype("int64"),
            "row": pd.to_numeric(parts["row"]).mask(bad, -1).astype("int64"),
        }
    )


def _is_tile(tile: str) -> bool:
    try:
        tile_corner(tile)
    except ArchiveError:
        return False
    return True


def _rows(
    ids: pd.Series, wrong: pd.Series, kind: str, detail: str, values: Iterable[Any] | None = None
) -> list[Problem]:
    """Return one problem a wrong row, with the value found."""
    values = ids if values is None else pd.Series(values)
    return [
        Problem(patch_id, kind, f"{detail} (found {value!r})")
        for patch_id, value in zip(ids[wrong], values[wrong], strict=True)
    ]


def _label_problems(ids: pd.Series, labels: pd.Series) -> list[Problem]:
    lists = labels.map(lambda names: isinstance(names, list | np.ndarray) and len(names) > 0)
    problems = _rows(ids, ~lists, "labels", "a patch needs a list of at least one label", labels)
    names = labels[lists].explode()
    unknown = names[~names.isin(CLASS_CODES)]
    return problems + [
        Problem(patch_id, "labels", f"unknown label {name!r}{suggest(str(name), CLASSES)}")
        for patch_id, name in zip(ids[unknown.index], unknown, strict=True)
    ]


def _location_problems(index: pd.DataFrame) -> list[Problem]:
    """Return the patches whose location is in more than one split: a model would be tested on what it saw."""
    distinct = index[["location", "split"]].drop_duplicates()
    shared = distinct.loc[distinct["location"].duplicated(keep=False), "location"].dropna().unique()
    rows = index[index["location"].isin(shared)]
    return [
        Problem(patch_id, "leak", f"its location {place} is in more than one split, here in {split}")
        for patch_id, place, split in zip(rows["patch_id"], rows["location"], rows["split"], strict=True)
    ]


def scene_notes(index: pd.DataFrame) -> list[Problem]:
    """Return a note for every scene that is in more than one split.

    The official splits keep locations apart, but 111 of the 115 scenes give patches to several splits.
    """
    splits = index.groupby("scene")["split"].unique()
    return [
        Problem("", "scene", f"scene {scene} has patches in {', '.join(sorted(names))}", note=True)
        for scene, names in splits.items()
        if len(names) > 1
    ]
