"""Write simulated scenes in exactly the official layout of BigEarthNet v2: the same reader opens them."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import rasterio
from numpy.typing import NDArray
from rasterio.transform import from_origin

from mosaic.datasets.archive import SPLITS
from mosaic.datasets.corine import CLASS_CODES, CLASSES, PATCH_METRES
from mosaic.datasets.sentinel2 import tile_corner
from mosaic.datasets.simulation.label_sets import draw_label_sets
from mosaic.datasets.simulation.landscape import draw_landscape
from mosaic.datasets.simulation.produce import produce
from mosaic.datasets.simulation.sensors import Conditions, observe
from mosaic.utils.errors import ArchiveError

#: Raise it when the same seed gives other pixels.
VERSION = 1
#: Real tiles, each with a country; the first number of a seed's tiles are taken in a shuffled order.
_TILES: tuple[tuple[str, str], ...] = tuple(
    (f"{zone}{square}", country)
    for zone, squares, country in (
        ("29S", ("NB", "NC", "ND", "PB", "PC", "PD", "QB", "QC"), "Portugal"),
        ("29U", ("NT", "NU", "PT", "PU", "MT", "MU"), "Ireland"),
        ("31U", ("DS", "ES", "FS", "FR", "GS", "ER"), "Belgium"),
        ("32T", ("LT", "MT", "LS", "MS", "NT", "NS"), "Switzerland"),
        ("33U", ("UP", "VP", "WP", "XP", "VQ", "WQ"), "Austria"),
        ("34T", ("CQ", "DQ", "DR", "CR", "DP", "EP", "EN", "DN"), "Serbia"),
        ("34U", ("EF", "FF", "EG", "FG"), "Lithuania"),
        ("35U", ("LA", "LB", "MA", "MB"), "Lithuania"),
        ("34V", ("EM", "FM", "EN", "FN", "EL", "FL"), "Finland"),
        ("35V", ("LJ", "MJ", "NJ", "LK", "MK", "NK", "PK", "PL", "NL", "ML"), "Finland"),
    )
    for square in squares
)
_SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
_PATCHES_A_SCENE = 20
#: Of a tile's places, how many were seen on both of its dates.
_REVISITED = 0.3
_BYTES_A_PAIR = 330_000
_RARE_CODES = 0.25  # how often a parcel takes another code of its class than the first
_UNLABELLED = (142, 131, 122)


@dataclass(frozen=True)
class _Tile:
    """The patches of one tile: places with their label sets, and on which dates each was seen."""

    name: str
    country: str
    split: str
    dates: tuple[datetime.date, ...]
    places: NDArray[np.int64]  # (n, 2) column and row
    labels: NDArray[np.uint8]  # (n, 19)
    seen: tuple[tuple[int, ...], ...]  # date numbers of each place
    seed: tuple[int, ...]


def simulate(root: Path, patches: int = 2000, seed: int = 0, workers: int | None = None) -> Path:
    """Write a simulated archive, or find that it is there already.

    Places of a tile share two dates; about a quarter of the pairs show a place again on its other date, with
    the same labels. Tiles do not cross splits.

    Args:
        root: folder to write.
        patches: number of pairs, at least 12.
        seed: the same seed gives the same files, whatever the number of processes.
        workers: processes; one for each core by default.

    Returns:
        ``root``.

    Raises:
        ArchiveError: when ``root`` holds something else, or ``patches`` is too small.
        RunError: when there is no space.
    """
    if patches < 12:
        raise ArchiveError(f"{patches} patches are too few for three splits: simulate 12 or more")
    recipe = {"patches": patches, "seed": seed, "version": VERSION}
    tiles = list(_plan(patches, seed))
    return produce(root, recipe, patches * _BYTES_A_PAIR, tiles, _write_tile, _write_metadata, workers)


def _write_metadata(root: Path, rows: list[dict[str, Any]]) -> None:
    table = pd.DataFrame(rows).sort_values("patch_id").reset_index(drop=True)
    table.to_parquet(root / "metadata.parquet", index=False)


def _plan(patches: int, seed: int) -> Iterator[_Tile]:
    """Deal patches to splits, tiles, places and dates."""
    random = np.random.default_rng([seed, 0])
    names = [_TILES[i] for i in random.permutation(len(_TILES))]
    counts = {split: max(4, round(patches * share)) for split, share in _SHARES.items()}
    counts["train"] = patches - counts["validation"] - counts["test"]
    needed = {split: max(1, round(n / (2 * _PATCHES_A_SCENE))) for split, n in counts.items()}
    scale = max(1.0, sum(needed.values()) / len(_TILES))  # more patches a tile once tiles run out
    for split in SPLITS:
        tiles = max(1, int(needed[split] / scale))
        labels = draw_label_sets(counts[split], random)
        for part in range(tiles):
            number = counts[split] // tiles + (part < counts[split] % tiles)
            name, country = names.pop()
            yield _tile(name, country, split, number, labels[part::tiles], (seed, 1, len(names)))


def _tile(
    name: str, country: str, split: str, number: int, labels: NDArray[np.uint8], seed: tuple[int, ...]
) -> _Tile:
    """Draw dates, places and which places were seen twice, so that the tile has ``number`` pairs."""
    random = np.random.default_rng(seed)
    start = datetime.date(2017, 6, 13)
    days = np.sort(random.choice(350, size=2, replace=False))
    twice = int(_REVISITED * number / (1 + _REVISITED)) if number > 3 else 0
    places = number - twice
    grid = random.choice(91 * 91, size=places, replace=False)
    once: list[tuple[int, ...]] = [(i % 2,) for i in range(twice, places)]
    return _Tile(
        name,
        country,
        split,
        tuple(start + datetime.timedelta(int(day)) for day in days),
        np.stack([grid // 91, grid % 91], axis=1),
        labels[:places],
        tuple([(0, 1)] * twice + once),
        seed,
    )


def _write_tile(root: Path, tile: _Tile) -> list[dict[str, Any]]:
    """Write all pairs of one tile; returns their metadata rows."""
    epsg, left, top = tile_corner(tile.name)
    random = np.random.default_rng([*tile.seed, 1])
    optical = [Conditions.draw(random, date.timetuple().tm_yday) for date in tile.dates]
    radar = [Conditions.draw(random, date.timetuple().tm_yday) for date in tile.dates]
    rows: list[dict[str, Any]] = []
    for place, ((column, row), labels, seen) in enumerate(
        zip(tile.places, tile.labels, tile.seen, strict=True)
    ):
        land = draw_landscape(labels, np.random.default_rng([*tile.seed, 2, place]))
        codes = _codes(land.classes, np.random.default_rng([*tile.seed, 3, place]))
        for number in seen:
            date = tile.dates[number]
            s1_date = date + datetime.timedelta(int(random.integers(0, 3)))
            patch_id = f"S2A_MSIL2A_{date:%Y%m%d}T101031_N9999_R022_T{tile.name}_{column:02d}_{row:02d}"
            s1_name = f"S1A_IW_GRDH_1SDV_{s1_date:%Y%m%d}T165043_{tile.name}_{column}_{row}"
            pixels = np.random.default_rng([*tile.seed, 4, place, number])
            images = observe(land, optical[number], radar[number], int(column), pixels)
            corner = (left + PATCH_METRES * int(column), top - PATCH_METRES * int(row))
            for band, image in images.items():
                key, name, cut = ("S1", s1_name, 3) if band in ("VV", "VH") else ("S2", patch_id, 2)
                folder = root / f"BigEarthNet-{key}" / name.rsplit("_", cut)[0] / name
                _write(folder / f"{name}_{band}.tif", image, corner, epsg)
            folder = root / "Reference_Maps" / patch_id.rsplit("_", 2)[0] / patch_id
            _write(folder / f"{patch_id}_reference_map.tif", codes, corner, epsg, compress="deflate")
            rows.append(
                {
                    "patch_id": patch_id,
                    "labels": sorted(CLASSES[c] for c in np.flatnonzero(labels)),
                    "split": tile.split,
                    "country": tile.country,
                    "s1_name": s1_name,
                    "s2v1_name": f"S2A_MSIL2A_{date:%Y%m%d}T101031_{column}_{row}",
                    "contains_seasonal_snow": False,
                    "contains_cloud_or_shadow": False,
                }
            )
    return rows


def _codes(classes: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint16]:
    """Turn class indices into CORINE level-3 codes; a class may appear under any of its codes."""
    table = np.full(256, random.choice(_UNLABELLED), np.uint16)
    for index, codes in enumerate(CLASS_CODES.values()):
        table[index] = codes[0] if random.random() > _RARE_CODES else random.choice(codes)
    return table[classes]


def _write(path: Path, image: NDArray, corner: tuple[float, float], epsg: int, **options: str) -> None:
    """Write one single-band GeoTIFF, as the official files are."""
    path.parent.mkdir(parents=True, exist_ok=True)
    side = image.shape[0]
    metres = PATCH_METRES / side
    nodata = {} if image.dtype == np.float32 else {"nodata": 0}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=side,
        height=side,
        count=1,
        dtype=image.dtype.name,
        crs=f"EPSG:{epsg}",
        transform=from_origin(*corner, metres, metres),
        **nodata,
        **options,
    ) as file:
        file.write(image, 1)
