"""The official layout of BigEarthNet v2: bands, tiles, and the metadata table, checked before any image.

Source: reBEN (Clasen et al. 2024, arXiv:2407.03653).
"""

from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from mosaic.datasets.archive import SPLITS, Problem
from mosaic.datasets.nomenclature import CORINE
from mosaic.utils.errors import ArchiveError, suggest
from mosaic.utils.files import require_regular

#: Sentinel-2 band -> side of its native image in pixels (10, 20 or 60 m a pixel).
S2_SIZE: dict[str, int] = {
    "B01": 20, "B02": 120, "B03": 120, "B04": 120, "B05": 60, "B06": 60,
    "B07": 60, "B08": 120, "B8A": 60, "B09": 20, "B11": 60, "B12": 60,
}  # fmt: skip
PATCH_METRES, TILE_METRES = 1200, 109_800  # sides
METADATA = "metadata.parquet"
#: The official second table: patches with snow, clouds or cloud shadows. They carry splits as well.
FLAGGED_METADATA = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
#: Copernicus-Bench's stacked 5 %: sensor -> folder, and split -> list of pairs.
BENCH_FOLDERS = {key: f"bigearthnet_s1s2/BigEarthNet-{key.upper()}-5%" for key in ("s1", "s2")}
BENCH_LISTS = {s: f"bigearthnet_s1s2/multilabel-{s.removesuffix('idation')}.csv" for s in SPLITS}
FLAGS = ["contains_seasonal_snow", "contains_cloud_or_shadow"]
_COLUMNS = ["patch_id", "labels", "split", "country", "s1_name", *FLAGS]
#: Patch names end in tile, column and row (in patches of 1200 m), zero-padded for Sentinel-2 only:
#: ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_05_43``, ``S1A_IW_GRDH_1SDV_20170614T165043_33UUP_5_43``.
_PLACE = r"(?P<tile>\w{5})_(?P<column>\d{1,2})_(?P<row>\d{1,2})$"
_S2_PATTERN = r"^S2[AB]_MSIL2A_(?P<date>\d{8})T\d{6}_N\d{4}_R\d{3}_T" + _PLACE
_S1_PATTERN = r"^S1[AB]_IW_GRDH_1SDV_(?P<date>\d{8})T\d{6}_" + _PLACE
# Letters of the military grid, without I and O. Columns of 100 km repeat every three zones, rows every
# 2000 km.
_COLUMN_LETTERS = ("STUVWXYZ", "ABCDEFGH", "JKLMNPQR")
_ROW_LETTERS, _NORTHERN_BANDS = "ABCDEFGHJKLMNPQRSTUV", "NPQRSTUVWX"


@lru_cache(maxsize=1024)
def tile_corner(tile: str) -> tuple[int, int, int]:
    """Return (EPSG code, easting, northing) of a tile's upper-left corner, metres in its UTM zone.

    The 100 km square comes from the military grid's lettering (NGA.SIG.0012, UTMUPS); Sentinel-2 then moves
    the corner outward to a multiple of 60 m. Agrees with the files of all 20 tiles that were at hand.

    Raises:
        ArchiveError: for anything but five characters, e.g. ``33UUP``, of the northern hemisphere.
    """
    try:
        zone, band, column, row = int(tile[:2]), tile[2], tile[3], tile[4]
        if not 1 <= zone <= 60 or len(tile) != 5:
            raise ValueError
        easting = 100_000 * (_COLUMN_LETTERS[zone % 3].index(column) + 1)
        top = 100_000 * ((_ROW_LETTERS.index(row) - (0 if zone % 2 else 5)) % len(_ROW_LETTERS) + 1)
        southern_edge = 8 * 110_000 * _NORTHERN_BANDS.index(band)  # a degree is at least 110 km
    except (ValueError, IndexError) as error:
        raise ArchiveError(
            f"{tile!r} is no Sentinel-2 tile of the northern hemisphere, e.g. 33UUP"
        ) from error
    while top <= southern_edge:
        top += 2_000_000
    return 32600 + zone, easting // 60 * 60, -(-top // 60) * 60


def acquisition(name: str) -> str:
    """Return the acquisition that a patch of either sensor was cut from: the name of its parent folder."""
    return name.rsplit("_", 3 if name.startswith("S1") else 2)[0]


def stacked_file(name: str) -> str:
    """Return where Copernicus-Bench keeps a patch of either sensor, below the folder of that sensor."""
    return f"{acquisition(name)}/{name}/{name}_allbands.tif"


def read_metadata(root: Path, include_snow_cloud: bool) -> pd.DataFrame:
    """Read the official table; ``include_snow_cloud`` adds flagged patches. ArchiveError if unusable."""
    table = _read_table(root / METADATA)
    if include_snow_cloud and (root / FLAGGED_METADATA).is_file():
        table = pd.concat([table, _read_table(root / FLAGGED_METADATA)], ignore_index=True)
    if not include_snow_cloud:
        table = table[~table[FLAGS].any(axis=1)].reset_index(drop=True)
    if table.empty:
        hint = "" if include_snow_cloud else " free of snow and clouds (include_snow_cloud adds the others)"
        raise ArchiveError(f"{root / METADATA} lists no patch{hint}")
    return table


def _read_table(path: Path) -> pd.DataFrame:
    require_regular(path, ArchiveError, "restore it")
    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        raise ArchiveError(f"{path} cannot be read as parquet ({error}): restore it") from error
    missing = [column for column in _COLUMNS if column not in table]
    if missing:
        raise ArchiveError(
            f"{path} lacks the column(s) {', '.join(missing)}; it has {', '.join(map(str, table))}: use the "
            "official table of BigEarthNet v2"
        )
    for flag in FLAGS:
        wrong = table[flag][~table[flag].isin([True, False])]
        if len(wrong):
            raise ArchiveError(
                f"{path}: {len(wrong)} of {len(table)} values of {flag} are neither true nor false, the "
                f"first is {wrong.iloc[0]!r}: correct that column"
            )
    return table[_COLUMNS].astype(dict.fromkeys(FLAGS, bool))


def parse_metadata(table: pd.DataFrame) -> tuple[pd.DataFrame, list[Problem]]:
    """Turn the table of :func:`read_metadata` into the archive's index, and list the faults of its rows.

    The index is sorted by ``patch_id`` and has the columns patch_id, s1_name, labels (list of names), split,
    country, date and s1_date (ISO), tile, column, row, scene (tile and date), location (tile, column and row)
    and the two flags. Rows with faults are in it too.
    """
    texts = table[["patch_id", "s1_name", "split"]].map(str)  # of null and lists, too
    index = table.assign(**texts).sort_values("patch_id", kind="stable", ignore_index=True)
    place = ["tile", "column", "row"]
    s2, s1 = _parse_names(index["patch_id"], _S2_PATTERN), _parse_names(index["s1_name"], _S1_PATTERN)
    index[["date", *place]], index["s1_date"] = s2[["date", *place]], s1["date"]
    index["scene"] = s2["tile"] + "_" + s2["date"].str.replace("-", "")
    index["location"] = s2["tile"] + "_" + s2["column"].astype(str) + "_" + s2["row"].astype(str)
    mismatched = (s2[place] != s1[place]).any(axis=1) & s2["tile"].notna() & s1["tile"].notna()
    splits = index.drop_duplicates(["location", "split"])["location"]
    leaking = index["location"].isin(splits[splits.duplicated()].dropna())
    is_list = index["labels"].map(lambda names: isinstance(names, list | np.ndarray) and len(names) > 0)
    names = index["labels"][is_list].explode()
    unknown = names[~names.isin(CORINE.classes)]

    def faults(rows: pd.Series, kind: str, detail: str) -> list[Problem]:
        records: list[Any] = index[rows].to_dict("records")
        return [Problem(str(row["patch_id"]), kind, detail.format_map(row)) for row in records]

    problems = [
        *faults(index["patch_id"].duplicated(), "name", "the metadata lists this patch twice"),
        *faults(s2["tile"].isna(), "name", "patch_id does not follow the official naming"),
        *faults(s1["tile"].isna(), "name", "s1_name {s1_name!r} does not follow the official naming"),
        *faults(mismatched, "pair", "s1_name {s1_name} and patch_id name different tiles, columns or rows"),
        *faults(
            ~index["split"].isin(SPLITS), "split", f"split {{split!r}} is not one of {', '.join(SPLITS)}"
        ),
        *faults(~is_list, "labels", "labels are {labels!r}, expected a list of at least one label"),
        *(
            Problem(patch_id, "labels", f"unknown label {name!r}{suggest(str(name), CORINE.classes)}")
            for patch_id, name in zip(index["patch_id"][unknown.index], unknown, strict=True)
        ),
        *faults(leaking, "leak", "its location {location} is in more than one split, here in {split}"),
    ]
    index["labels"] = [list(names) if ok else [] for names, ok in zip(index["labels"], is_list, strict=True)]
    return index, problems


def shared_ground(index: pd.DataFrame) -> NDArray[np.intp]:
    """Return rows of an index (K, 2) that overlap across splits: neighbouring tiles of a UTM zone do.

    No official patches do, though about 37,000 pairs of places within a split overlap.
    """
    ground = np.array([tile_corner(tile) for tile in index["tile"]], float).reshape(-1, 3) * [1e6, 1, 1]
    ground[:, 1:] += index[["column", "row"]].to_numpy() * [PATCH_METRES, -PATCH_METRES]
    pairs = cKDTree(ground).query_pairs(PATCH_METRES - 1, p=np.inf, output_type="ndarray")
    first, second = index["split"].to_numpy(str)[pairs].T
    return pairs[first != second]


def _parse_names(names: pd.Series, pattern: str) -> pd.DataFrame:
    """Split names into date (ISO), tile, column and row; missing, or -1, where the naming is not followed."""
    parts = names.astype("str").str.extract(pattern)
    date = pd.to_datetime(parts["date"], format="%Y%m%d", errors="coerce").dt.strftime("%Y-%m-%d")
    tiles = set()
    for tile in parts["tile"].dropna().unique():
        with suppress(ArchiveError):
            tile_corner(tile)
            tiles.add(tile)
    valid = date.notna() & parts["tile"].isin(tiles)
    numbers = parts[["column", "row"]].where(valid, -1).astype("int64")
    return numbers.assign(date=date.where(valid), tile=parts["tile"].where(valid))
