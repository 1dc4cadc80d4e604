import numpy as np

from mosaic.datasets.sen12ms import SEN12MSArchive
from mosaic.datasets.simulation import landscape as land
from mosaic.datasets.simulation.landscape import CELL, land_cover


def test_neighbours_overlap_by_half_and_lists_end_their_lines_as_the_official_ones(simulated):
    root = simulated("sen12ms")
    assert (root / "train_list.txt").read_bytes().count(b"\r\n") == 16  # four scenes of six
    archive = SEN12MSArchive(root)
    parts = archive.index["patch_id"].str.rsplit("_p", n=1)
    number = parts.str[1].astype(int)
    scene = parts.str[0]
    follows = (scene.values[:, None] == scene.values) & (number.values == number.values[:, None] + 1)
    pairs = [(i, j) for i, j in np.argwhere(follows) if number[i] % 2 == 0]
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
