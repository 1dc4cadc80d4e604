import numpy as np
import pandas as pd

from mosaic.plots import data as figures

CLASSES = ["Arable land", "Marine waters", "Pastures"]
GROUPS = {"Agricultural areas": ["Arable land", "Pastures"], "Water bodies": ["Marine waters"]}
LABELS = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_label_frequencies_draw_shares_and_name_absent_classes() -> None:
    (ax,) = figures.label_frequencies({"train": LABELS, "test": LABELS[:2]}, CLASSES).axes
    names = [tick.get_text() for tick in ax.get_yticklabels()]
    assert names[0] == "Arable land"  # the most frequent is on top
    train, test = ax.lines
    drawn = dict(zip(names, train.get_xdata(), strict=True))
    assert drawn == {"Arable land": 75.0, "Marine waters": 25.0, "Pastures": 25.0}
    assert np.isnan(dict(zip(names, test.get_xdata(), strict=True))["Marine waters"])
    assert [text.get_text() for text in ax.texts] == ["absent: test"]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["train (4)", "test (2)"]


def test_cooccurrence_is_conditional_and_ordered_by_group() -> None:
    (ax,) = figures.cooccurrence(LABELS, CLASSES, GROUPS).axes
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["Arable land", "Pastures", "Marine waters"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == [
        "Arable land (3)",
        "Pastures (1)",
        "Marine waters (1)",
    ]
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(3, 3), np.nan)
    expected = [[np.nan, 100 / 3, 0], [100, np.nan, 0], [0, 0, np.nan]]
    np.testing.assert_allclose(drawn, expected)
    assert sorted(text.get_text() for text in ax.texts if text.get_text()) == ["100", "33"]


def test_cooccurrence_of_a_class_that_is_absent_is_blank() -> None:
    (ax,) = figures.cooccurrence(LABELS[:2], CLASSES, GROUPS).axes
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(3, 3), np.nan)
    assert np.isnan(drawn[2]).all()


def test_labels_per_patch_beside_a_reference() -> None:
    (ax,) = figures.labels_per_patch(LABELS, {1: 0.5, 2: 0.3, 4: 0.2}).axes
    assert [bar.get_height() for bar in ax.patches] == [0.75, 0.25, 0.0, 0.0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.5, 0.3, 0.0, 0.2])
    texts = {text.get_text() for text in ax.get_legend().get_texts()}
    assert texts == {"this archive (mean 1.25)", "official table (mean 1.90)"}


def test_labels_per_patch_counts_patches_without_labels() -> None:
    (ax,) = figures.labels_per_patch(np.array([[0, 0], [1, 0]])).axes
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.5]
    assert list(ax.get_xticks()) == [0, 1]


def test_kernel_positives() -> None:
    frame = pd.DataFrame(
        {"kernel": ["any", "all"], "positive_share": [0.512, 0.018], "mean_weight": [1.0, np.nan]}
    )
    fig = figures.kernel_positives(frame)
    left, right = fig.axes
    np.testing.assert_allclose([bar.get_width() for bar in left.patches], [0.512, 0.018])
    assert [text.get_text() for text in left.texts] == ["51.2 %", "1.8 %"]
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], [1.0, np.nan])
    fig.draw_without_rendering()


def test_tile_map_places_tiles_and_scales_markers() -> None:
    frame = pd.DataFrame(
        {
            "tile": ["T31UFS", "T31UFS", "T35VLH"],
            "lon": [5.0, 5.0, -24.0],
            "lat": [51.0, 51.0, 60.0],
            "split": ["train", "test", "train"],
            "count": [40, 10, 20],
        }
    )
    (ax,) = figures.tile_map(frame).axes
    train, test = ax.collections
    np.testing.assert_allclose(train.get_offsets(), [[5.0, 51.0], [-24.0, 60.0]])
    assert train.get_sizes()[0] > train.get_sizes()[1] > test.get_sizes()[0]
    assert [text.get_text() for text in ax.texts] == ["T31UFS", "T35VLH"]
    legend = [text.get_text() for text in ax.get_legend().get_texts()]
    assert legend == ["train (60)", "test (10)"]
    ax.figure.draw_without_rendering()
    (west, east), (south, north) = ax.get_xlim(), ax.get_ylim()
    assert west < -24 < 5 < east
    assert south < 51 < 60 < north
    assert "° W" in ax.xaxis.get_major_formatter()(-24.0, 0)


def test_tile_map_of_one_tile() -> None:
    frame = pd.DataFrame({"tile": ["T31UFS"], "lon": [5.0], "lat": [51.0], "split": ["train"], "count": [1]})
    figures.tile_map(frame).draw_without_rendering()
