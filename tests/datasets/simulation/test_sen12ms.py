import numpy as np
import pytest
import rasterio

from mosaic.datasets.nomenclature import IGBP
from mosaic.datasets.sen12ms import SEN12MSArchive
from mosaic.datasets.simulation import landscape as land
from mosaic.datasets.simulation.landscape import CELL, land_cover


@pytest.fixture
def root(simulated):
    return simulated["sen12ms"]


def test_layout_is_the_official_one(root):
    paths = sorted(p.relative_to(root).as_posix() for p in root.rglob("*_p*.tif"))
    name = next(p for p in paths if "/s2_" in p)
    season, folder, file = name.split("/")
    assert file.startswith(f"{season}_{folder}_p")
    with rasterio.open(root / name) as file:
        assert (file.count, *file.shape, file.dtypes[0]) == (13, 256, 256, "uint16")
    with rasterio.open(root / name.replace("s2_", "lc_")) as file:
        codes = file.read()
        assert (file.count, file.dtypes[0]) == (4, "uint8")
    assert (IGBP.class_of_code[codes[0]] != 255).all()
    assert (root / "train_list.txt").read_bytes().count(b"\r\n") == 16  # four scenes of six


def test_neighbours_overlap_by_half(root):
    archive = SEN12MSArchive(root)
    parts = archive.index["patch_id"].str.rsplit("_p", n=1)
    number = parts.str[1].astype(int)
    scene = parts.str[0]
    follows = (scene.values[:, None] == scene.values) & (number.values == number.values[:, None] + 1)
    pairs = [(i, j) for i, j in np.argwhere(follows) if (number[i] - 30) % 4 < 3]
    assert pairs
    for i, j in pairs:
        left, right = archive.read(i)["B04"], archive.read(j)["B04"]
        assert (left[:, 128:] == right[:, :128]).all()


def test_labels_are_coarse_and_mostly_right():
    truth = np.full((600, 600), land.CONIFER, np.uint8)
    truth[:, 300:] = land.SEA
    layers = land_cover(truth, np.random.default_rng(0))
    assert set(np.unique(layers[0])) <= {1, 17, 8, 4, 5, 9, 10}
    assert (layers[0, :, :250] == 1).mean() > 0.6  # a cell in seven is mistaken
    assert (layers[0, :, 350:] == 17).mean() > 0.6
    # the code changes along a row at the borders of cells only
    steps = np.flatnonzero((np.diff(layers[0].astype(int), axis=1) != 0).any(0))
    assert len(set(steps % CELL)) == 1
