import numpy as np
from matplotlib.colors import to_hex, to_rgb

from mosaic.plots import imagery as figures

CLASSES = ["Arable land", "Marine waters", "Pastures"]
COLORS = ["#FFFFA8", "#E6F2FF", "#E6E64D"]


def test_true_colour_stretches_one_fixed_range():
    low, high = figures.OPTICAL_RANGE
    middle = (low + high) / 2
    drawn = figures.true_colour(np.array([low - 5, low, middle, high, high + 9], dtype=np.float32))
    np.testing.assert_allclose(drawn, [0, 0, 0.5 ** (1 / figures.OPTICAL_GAMMA), 1, 1])


def test_sar_composite_is_vv_vh_and_their_difference():
    sar = np.array([-11.5, -18.5]).reshape(2, 1, 1) * np.ones((2, 2, 2))
    drawn = figures.sar_composite(sar)
    assert drawn.shape == (2, 2, 3)
    np.testing.assert_allclose(drawn[0, 0], [0.5, 0.5, (7 - 2) / 12])
    np.testing.assert_array_equal(figures.sar_composite(np.full((1, 2, 2, 2), -60.0))[0, 0, 0], [0, 0, 0])


def pairs(count):
    rng = np.random.default_rng(0)
    return rng.integers(0, 3000, (count, 4, 4, 3)), rng.normal(-12, 3, (count, 2, 4, 4))


def test_gallery_shows_each_pair_in_a_column_and_only_classes_present(words):
    optical, sar = pairs(3)
    maps = np.zeros((3, 4, 4), np.uint8)
    maps[1] = 2
    maps[2, 0, 0] = figures.UNLABELLED
    fig = figures.gallery(optical, sar, maps, ["a", "b", "c"], CLASSES, COLORS)
    images = [ax.images[0].get_array() for ax in fig.axes]
    assert len(images) == 9
    np.testing.assert_allclose(images[1], figures.true_colour(optical[1]))
    np.testing.assert_allclose(images[5], figures.sar_composite(sar[2]))
    np.testing.assert_allclose(images[7][0, 0], to_rgb(COLORS[2]))
    assert [ax.get_title() for ax in fig.axes[:3]] == ["a", "b", "c"]
    (legend,) = fig.legends
    assert words(legend.get_texts()) == ["Arable land", "Pastures", "unlabelled"]
    colors = [line.get_color() for line in legend.get_lines()]
    assert colors[:2] == [COLORS[0], COLORS[2]]


def test_gallery_without_maps_wraps_into_blocks():
    optical, sar = pairs(8)
    fig = figures.gallery(optical, sar, None, list("abcdefgh"), CLASSES, COLORS)
    assert fig.legends == []
    grid = np.array(fig.axes).reshape(4, 6)
    np.testing.assert_allclose(grid[2, 1].images[0].get_array(), figures.true_colour(optical[7]))
    assert [ax.has_data() for ax in grid[3]] == [True, True, *[False] * 4]
    assert grid[2, 0].get_title() == "g"
    assert len(figures.gallery(optical[:1], sar[:1], None, ["a"], CLASSES, COLORS).axes) == 2


def test_neighbours_carry_their_jaccard_index_and_tick_shared_labels():
    images = 2500 * np.random.default_rng(0).random((2, 3, 4, 4, 3))
    query_labels = np.array([[1, 1, 0], [0, 0, 0]])
    neighbour_labels = np.array([[[1, 1, 0], [0, 1, 1], [0, 0, 1]], [[0, 0, 0], [1, 0, 0], [1, 1, 1]]])
    fig = figures.neighbour_gallery(images[:, 0], images, query_labels, neighbour_labels, CLASSES)
    grid = np.array(fig.axes).reshape(2, 4)
    assert [ax.get_title() for ax in grid[0]] == ["query", "Jaccard 1.00", "Jaccard 0.33", "Jaccard 0.00"]
    assert [ax.get_title() for ax in grid[1, 1:]] == ["Jaccard 0.00"] * 3
    assert grid[0, 0].get_xlabel() == "Arable land\nMarine waters"
    assert grid[0, 2].get_xlabel() == "✓ Marine waters\nPastures"
    assert grid[1, 3].get_xlabel() == "Arable land\nMarine waters\nPastures"
    np.testing.assert_allclose(grid[0, 3].images[0].get_array(), figures.true_colour(images[0, 2]))
    frames = [to_hex(ax.spines["left"].get_edgecolor()) for ax in grid[0, 1:]]
    assert len(set(frames)) == 3
