"""Simulated scenes in exactly the official layout of SEN12MS: the same reader opens them.

Patches of a scene overlap by half, as the real ones do; scenes belong to one season and one split.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mosaic.datasets.sen12ms_layout import LISTS, SEASONS, SIDE
from mosaic.datasets.sensors import S1_BANDS, WAVELENGTH
from mosaic.datasets.simulation import landscape as land
from mosaic.datasets.simulation.produce import Rows, produce, write_geotiff
from mosaic.datasets.simulation.sensors import Conditions, observe_above_atmosphere

#: Raise it when the same seed gives other pixels.
VERSION = 2
_STRIDE = SIDE // 2
_GRID = 4  # patches along a side of a scene
_SCENE_SIDE = 642  # covers the grid, and 6 divides it, for the bands of 60 m
_TEST_SHARE = 0.25
_LEAST_SCENES = 6
_TRIPLET_BYTES = 2_500_000
_DAY_OF_SEASON = {"spring": 105, "summer": 196, "fall": 288, "winter": 15}
#: Landscapes beyond Europe: share of the scenes, and the covers that join a patch's European label set.
_THEMES: tuple[tuple[float, tuple[int, ...]], ...] = (
    (0.5, ()),
    (0.2, (land.ROCK, land.MOOR)),
    (0.15, (land.AGROFOREST, land.GRASS, land.MOOR)),
    (0.15, (land.SNOW, land.ROCK, land.CONIFER)),
)


class _Scene(NamedTuple):
    season: str
    number: int
    split: str
    patches: list[int]  # positions in the grid
    covers: NDArray[np.uint8]
    epsg: int
    corner: tuple[float, float]
    seed: tuple[int, ...]


def simulate(root: Path, patches: int = 2000, seed: int = 0) -> Path:
    """Write a simulated archive of SEN12MS; see :func:`mosaic.datasets.registry.simulate_archive`."""
    recipe = {"layout": "sen12ms", "patches": patches, "seed": seed, "version": VERSION}
    return produce(root, recipe, _TRIPLET_BYTES, _plan, _write_scene, _write_lists)


def _plan(patches: int, seed: int) -> list[_Scene]:
    """Deal patches to scenes, and scenes to seasons, splits, landscapes and locations on Earth."""
    random = np.random.default_rng([seed, 12])
    count = max(_LEAST_SCENES, -(-patches // _GRID**2))
    labels = land.draw_label_sets(2 * count, random).astype(bool)
    test = set(random.permutation(count)[: max(1, round(_TEST_SHARE * count))].tolist())
    shares, themes = zip(*_THEMES, strict=True)
    scenes = []
    for number in range(count):
        covers = np.zeros(len(land.COVERS), np.uint8)
        covers[: labels.shape[1]] = labels[2 * number] | labels[2 * number + 1]
        covers[list(themes[random.choice(len(themes), p=shares)])] = 1
        size = patches // count + (number < patches % count)
        positions = np.sort(random.permutation(_GRID**2)[:size])
        scenes.append(
            _Scene(
                SEASONS[number % len(SEASONS)],
                1 + number,
                "test" if number in test else "train",
                positions.tolist(),
                covers,
                epsg=int(random.choice([32600, 32700]) + random.integers(1, 61)),
                corner=(10.0 * random.integers(30_000, 70_000), 10.0 * random.integers(100_000, 800_000)),
                seed=(seed, 13, number),
            )
        )
    return scenes


def _write_scene(root: Path, scene: _Scene) -> Rows:
    """Write all triplets of one scene; return their list entries."""
    random = np.random.default_rng(scene.seed)
    ground = land.draw_landscape(scene.covers, random, _SCENE_SIDE)
    day = _DAY_OF_SEASON[scene.season.split("_")[1]]
    optical, radar = (Conditions.draw(random, day, scene.epsg % 100 // 6) for _ in range(2))
    images = observe_above_atmosphere(ground, optical, radar, random)
    layers = {
        "s1": np.stack([images[band] for band in S1_BANDS]),
        "s2": np.stack([images[band] for band in WAVELENGTH]),
        "lc": land.land_cover(ground.truth, random),
    }
    for position in scene.patches:
        top, left = (_STRIDE * step for step in divmod(position, _GRID))
        corner = (scene.corner[0] + 10 * left, scene.corner[1] - 10 * top)
        for key, layer in layers.items():
            path = root / scene.season / f"{key}_{scene.number}" / _file_name(scene, key, position)
            write_geotiff(path, layer[:, top : top + SIDE, left : left + SIDE], corner, scene.epsg)
    return [{"name": _file_name(scene, "s2", p), "split": scene.split} for p in scene.patches]


def _file_name(scene: _Scene, key: str, position: int) -> str:
    return f"{scene.season}_{key}_{scene.number}_p{30 + position}.tif"


def _write_lists(root: Path, rows: Rows) -> None:
    """Write both lists; the official ones end their lines as Windows does."""
    for split, name in LISTS.items():
        lines = [row["name"] + "\r\n" for row in rows if row["split"] == split]
        (root / name).write_bytes("".join(lines).encode())
