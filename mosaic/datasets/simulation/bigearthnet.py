"""Simulated scenes in exactly the official layout of BigEarthNet v2: the same reader opens them."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.datasets import bigearthnet_layout as layout
from mosaic.datasets.archive import SPLITS
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.sensors import S1_BANDS
from mosaic.datasets.simulation.landscape import draw_label_sets, draw_landscape
from mosaic.datasets.simulation.produce import Rows, produce, write_geotiff
from mosaic.datasets.simulation.sensors import Conditions, observe

#: Raise it when the same seed gives other pixels.
VERSION = 3
#: Real tiles, each with a country; the first number of a seed's tiles are taken in a shuffled order.
_TILES = list(pd.read_csv(Path(__file__).with_name("tiles.csv")).itertuples(index=False, name=None))
_SHARES = {"train": 0.5, "validation": 0.25, "test": 0.25}
_SCENE_PATCHES = 20
_LEAST_TEST_TILES = 3  # of two dates each: six scenes, the least that have an interval
_REVISITED = 0.3  # share of a tile's locations that were seen on both of its dates
_PAIR_BYTES, _STACKED_BYTES = 330_000, 470_000
_RARE_CODES = 0.25  # how often a class appears under another of its codes than the first
_UNLABELLED = (142, 131, 122)


class _Tile(NamedTuple):
    name: str
    country: str
    split: str
    labels: NDArray[np.uint8]  # (n, 19), a row a pair
    seed: tuple[int, ...]


def simulate(root: Path, patches: int = 2000, seed: int = 0) -> Path:
    """Write a simulated archive of BigEarthNet v2; see :func:`mosaic.datasets.registry.simulate_archive`.

    A tile has one split and two dates; a quarter of the pairs are the other date of a location.
    """
    recipe = {"patches": patches, "seed": seed, "version": VERSION}

    def write_metadata(partial: Path, rows: Rows) -> None:
        table = pd.DataFrame(rows).sort_values("patch_id", ignore_index=True)
        table.to_parquet(partial / layout.METADATA, index=False)

    return produce(root, recipe, _PAIR_BYTES, _plan, _write_tile, write_metadata)


def simulate_stacked(root: Path, patches: int = 2000, seed: int = 0) -> Path:
    """Write the pairs of :func:`simulate` as Copernicus-Bench does, without maps; coarser pixels repeated."""
    recipe = {"layout": "copernicus_bench", "patches": patches, "seed": seed, "version": VERSION}

    def write_lists(partial: Path, rows: Rows) -> None:
        table = pd.DataFrame(rows).sort_values("patch_id", ignore_index=True)
        lists = pd.DataFrame({"s1_path": table["s1_name"], "s2_path": table["patch_id"]})
        lists = lists.map(layout.stacked_file)
        for name in CORINE.classes:
            lists[name] = [int(name in names) for names in table["labels"]]
        for split, file in layout.BENCH_LISTS.items():
            lists[table["split"] == split].to_csv(partial / file, index=False)

    return produce(root, recipe, _STACKED_BYTES, _plan, _write_stacked_tile, write_lists)


def _plan(patches: int, seed: int) -> list[_Tile]:
    """Deal patches to splits and tiles."""
    random = np.random.default_rng([seed, 0])
    names = [_TILES[i] for i in random.permutation(len(_TILES))]
    counts = {split: max(4, round(patches * share)) for split, share in _SHARES.items()}
    counts["train"] = patches - counts["validation"] - counts["test"]
    needed = {split: max(1, round(n / (2 * _SCENE_PATCHES))) for split, n in counts.items()}
    needed["test"] = max(_LEAST_TEST_TILES, needed["test"])
    scale = max(1.0, sum(needed.values()) / len(_TILES))  # more patches a tile once tiles run out
    plan = []
    for split in SPLITS:
        tiles = max(1, int(needed[split] / scale))
        labels = draw_label_sets(counts[split], random)
        for number in range(tiles):
            name, country = names.pop()
            plan.append(_Tile(name, country, split, labels[number::tiles], (seed, 1, len(names))))
    return plan


def training_labels(patches: int, seed: int) -> NDArray[np.uint8]:
    """Return the labels (n, 19) of the training patches of a simulation, which need not be written yet."""
    parts = []
    for tile in _plan(patches, seed):
        places = len(tile.labels) - _twice(tile)
        parts += [tile.labels[:places], tile.labels[: _twice(tile)]] if tile.split == "train" else []
    return np.concatenate(parts)


def _twice(tile: _Tile) -> int:
    """Return how many locations of a tile are seen on both dates."""
    number = len(tile.labels)
    return int(_REVISITED * number / (1 + _REVISITED)) if number > 3 else 0


def _write_tile(root: Path, tile: _Tile) -> Rows:
    """Write all pairs of one tile, a file a band; return their metadata rows."""
    rows: Rows = []
    for row, images, corner, epsg in _draw_pairs(tile):
        for band, image in images.items():
            folder, name, options = "BigEarthNet-S2", row["patch_id"], dict[str, Any](nodata=0)
            if band in S1_BANDS:
                folder, name, options = "BigEarthNet-S1", row["s1_name"], {}
            elif band == "reference_map":
                folder, options["compress"] = "Reference_Maps", "deflate"
            path = root / folder / layout.acquisition(name) / name / f"{name}_{band}.tif"
            write_geotiff(path, image[None], corner, epsg, layout.PATCH_METRES / len(image), **options)
        rows.append(row)
    return rows


def _write_stacked_tile(root: Path, tile: _Tile) -> Rows:
    """Write all pairs of one tile, a file a sensor; return their metadata rows."""
    rows: Rows = []
    for row, images, corner, epsg in _draw_pairs(tile):
        radar, optical = ([images[band] for band in bands] for bands in (S1_BANDS, layout.S2_SIZE))
        repeats = [120 // len(image) for image in optical]
        optical = [i.repeat(n, 0).repeat(n, 1) for i, n in zip(optical, repeats, strict=True)]
        s1_file, s2_file = (layout.stacked_file(row[column]) for column in ("s1_name", "patch_id"))
        write_geotiff(root / layout.BENCH_FOLDERS["s1"] / s1_file, np.stack(radar), corner, epsg)
        write_geotiff(root / layout.BENCH_FOLDERS["s2"] / s2_file, np.stack(optical), corner, epsg, nodata=0)
        rows.append(row)
    return rows


def _draw_pairs(tile: _Tile) -> Iterator[tuple[dict[str, Any], dict[str, NDArray], tuple[int, int], int]]:
    """Yield each pair's metadata row, images (the map is ``reference_map``), corner and EPSG code."""
    random = np.random.default_rng(tile.seed)
    days = np.sort(random.choice(350, size=2, replace=False))
    dates = [datetime.date(2017, 6, 13) + datetime.timedelta(int(day)) for day in days]
    twice = _twice(tile)
    locations = random.choice(91 * 91, size=len(tile.labels) - twice, replace=False).tolist()
    epsg, left, top = layout.tile_corner(tile.name)
    random = np.random.default_rng([*tile.seed, 1])
    numbers, biome = [date.timetuple().tm_yday for date in dates], int(tile.name[:2])  # UTM zones of Europe
    optical, radar = ([Conditions.draw(random, day, biome) for day in numbers] for _ in range(2))
    for place, location in enumerate(locations):
        column, row = divmod(location, 91)
        labels = tile.labels[place]
        land = draw_landscape(labels, np.random.default_rng([*tile.seed, 2, place]))
        # CORINE level-3 codes; a class may appear under any of its codes
        coding = np.random.default_rng([*tile.seed, 3, place])
        table = np.full(256, coding.choice(_UNLABELLED), np.uint16)
        for index, codes in enumerate(CORINE.codes.values()):
            table[index] = codes[0] if coding.random() > _RARE_CODES else coding.choice(codes)
        for visit in (0, 1) if place < twice else (place % 2,):
            s1_date = dates[visit] + datetime.timedelta(int(random.integers(0, 3)))
            acquired = f"S2A_MSIL2A_{dates[visit]:%Y%m%d}T101031"
            patch_id = f"{acquired}_N9999_R022_T{tile.name}_{column:02d}_{row:02d}"
            s1_name = f"S1A_IW_GRDH_1SDV_{s1_date:%Y%m%d}T165043_{tile.name}_{column}_{row}"
            pixels = np.random.default_rng([*tile.seed, 4, place, visit])
            images = observe(land, optical[visit], radar[visit], column, pixels)
            corner = (left + layout.PATCH_METRES * column, top - layout.PATCH_METRES * row)
            facts = {
                "patch_id": patch_id,
                "labels": sorted(CORINE.classes[c] for c in np.flatnonzero(labels)),
                "split": tile.split,
                "country": tile.country,
                "s1_name": s1_name,
                "s2v1_name": f"{acquired}_{column}_{row}",
                **dict.fromkeys(layout.FLAGS, False),
            }
            yield facts, {**images, "reference_map": table[land.classes]}, corner, epsg
