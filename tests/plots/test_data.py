import numpy as np
import pandas as pd
import pytest

from mosaic.plots import data as figures
from mosaic.plots import palette

CLASSES = ["Arable land", "Marine waters", "Pastures"]
GROUPS = {"Agricultural areas": ["Arable land", "Pastures"], "Water bodies": ["Marine waters"]}
LABELS = np.array([[1, 0, 0], [1, 0, 1], [0, 1, 0], [1, 0, 0]])


def test_label_frequencies_draw_shares_and_name_absent_classes(words):
    (ax,) = figures.label_frequencies({"train": LABELS, "test": LABELS[:2]}, CLASSES).axes
    names = words(ax.get_yticklabels())
    assert names[0] == "Arable land"  # the most frequent is on top
    train, test = ax.lines
    drawn = dict(zip(names, train.get_xdata(), strict=True))
    assert drawn == {"Arable land": 75.0, "Marine waters": 25.0, "Pastures": 25.0}
    assert np.isnan(dict(zip(names, test.get_xdata(), strict=True))["Marine waters"])
    assert words(ax.texts) == ["absent: test"]
    assert words(ax.get_legend().get_texts()) == ["train (4)", "test (2)"]


def test_cooccurrence_is_conditional_and_ordered_by_group(words):
    (ax,) = figures.cooccurrence(LABELS, CLASSES, GROUPS).axes
    assert words(ax.get_xticklabels()) == ["Arable land", "Pastures", "Marine waters"]
    assert words(ax.get_yticklabels()) == ["Arable land (3)", "Pastures (1)", "Marine waters (1)"]
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(3, 3), np.nan)
    expected = [[np.nan, 100 / 3, 0], [100, np.nan, 0], [0, 0, np.nan]]
    np.testing.assert_allclose(drawn, expected)
    assert sorted(filter(None, words(ax.texts))) == ["100", "33"]
    # a class that is absent is blank
    (ax,) = figures.cooccurrence(LABELS[:2], CLASSES, GROUPS).axes
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(3, 3), np.nan)
    assert np.isnan(drawn[2]).all()


def test_labels_per_patch_beside_a_reference(words):
    (ax,) = figures.labels_per_patch(LABELS, {1: 0.5, 2: 0.3, 4: 0.2}).axes
    assert [bar.get_height() for bar in ax.patches] == [0.75, 0.25, 0.0, 0.0]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.5, 0.3, 0.0, 0.2])
    legend = words(ax.get_legend().get_texts())
    assert sorted(legend) == ["official table (mean 1.90)", "this archive (mean 1.25)"]
    # patches without labels count
    (ax,) = figures.labels_per_patch(np.array([[0, 0], [1, 0]])).axes
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.5]
    assert list(ax.get_xticks()) == [0, 1]


def test_kernel_positives(words):
    rows = [("any", 0.512, 1.0), ("all", 0.018, np.nan)]
    frame = pd.DataFrame(rows, columns=["kernel", "positive_share", "mean_weight"])
    left, right = figures.kernel_positives(frame).axes
    np.testing.assert_allclose([bar.get_width() for bar in left.patches], [0.512, 0.018])
    assert words(left.texts) == ["51.2 %", "1.8 %"]
    np.testing.assert_allclose([bar.get_width() for bar in right.patches], [1.0, 0.0])
    left.figure.draw_without_rendering()


def test_tile_map_places_tiles_of_known_position_and_scales_markers(words):
    rows = [("T31UFS", 5, 51, "train", 40), ("T31UFS", 5, 51, "test", 10), ("T35VLH", -24, 60, "train", 20)]
    rows.append(("unknown", np.nan, np.nan, "train", 99))
    frame = pd.DataFrame(rows, columns=["tile", "lon", "lat", "split", "count"])
    (ax,) = figures.tile_map(frame).axes
    train, test = ax.collections
    np.testing.assert_allclose(train.get_offsets(), [[4.71, 51], [-24.29, 60]], atol=0.01)
    np.testing.assert_allclose(test.get_offsets(), [[5.29, 51]], atol=0.01)  # side by side
    assert train.get_sizes()[0] > train.get_sizes()[1] > test.get_sizes()[0]
    assert words(ax.texts) == ["T31UFS", "T35VLH"]
    assert words(ax.figure.legends[0].get_texts()) == ["train (60)", "test (10)"]
    assert "° W" in ax.xaxis.get_major_formatter()(-24.0, 0)
    figures.tile_map(frame[:1]).draw_without_rendering()
    assert figures.tile_map(frame[-1:]).axes == []  # becomes a note


def spread(count, lon, lat):
    random = np.random.default_rng(0)
    places = {"lon": random.uniform(*lon, count), "lat": random.uniform(*lat, count)}
    frame = pd.DataFrame(places).assign(split="train", count=random.integers(1, 60, count))
    return frame.assign(tile=[f"T{i:02d}ABC" for i in range(count)])


@pytest.mark.parametrize("lon, lat", [((-10, 30), (36, 65)), ((-179, 179), (-70, 75)), ((8, 8), (47, 47))])
def test_the_coast_is_drawn_within_the_limits_that_the_tiles_give(lon, lat):
    frame = spread(30, lon, lat)
    (ax,) = figures.tile_map(frame).axes
    (coast,) = ax.lines
    for limits, place in zip((ax.get_xlim(), ax.get_ylim()), (frame["lon"], frame["lat"]), strict=True):
        assert limits[0] < place.min() and place.max() < limits[1]
        # the whole world is not shown for it
        assert np.ptp(limits) == pytest.approx(max(1.1 * np.ptp(place), 8))
    shown = ax.viewLim.transformed(ax.transData)
    points = ax.transData.transform(coast.get_xydata())
    assert any(shown.contains(*point) for point in points) and coast.get_clip_on()
    assert coast.get_zorder() < min(marks.get_zorder() for marks in ax.collections)


def test_the_coast_is_that_of_the_earth():
    (ax,) = figures.tile_map(spread(2, (-170, 170), (-70, 80))).axes
    coast = ax.lines[0].get_xydata()
    capes = {"Roca": (-9.5, 38.8), "Agulhas": (20.0, -34.8), "Comorin": (77.5, 8.1), "Horn": (-67.3, -55.9)}
    for lon, lat in capes.values():
        assert np.nanmin(np.hypot(*(coast - [lon, lat]).T)) < 1.5
    steps = np.diff(coast, axis=0)
    assert np.nanmax(np.hypot(*steps.T)) < 25  # no line across the map from one piece to the next


def test_names_on_the_map_cover_neither_each_other_nor_symbols(words):
    frame = spread(80, (0, 20), (40, 55))
    fig = figures.tile_map(frame)
    (ax,) = fig.axes
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert 10 < len(boxes) < 80  # some have no room
    for i, box in enumerate(boxes):
        assert not box.count_overlaps(boxes[:i])
        assert ax.bbox.contains(*box.min) and ax.bbox.contains(*box.max)
        points = ax.transData.transform(frame[["lon", "lat"]])
        assert not any(box.contains(*point) for point in points)
    largest = frame.loc[frame["count"].idxmax(), "tile"]
    named = words(ax.texts)
    assert named[0] == largest and len(set(named)) == len(named)


def quantiles(column, names):
    classes = {"Marine waters": -10.0, "Arable land": 0.0}
    rows = [(cls, name, names[name] + shift) for cls, shift in classes.items() for name in names]
    frame = pd.DataFrame(rows, columns=["class", column, "p50"])
    return frame.assign(p5=frame["p50"] - 1, p95=frame["p50"] + 2)


def test_spectra_show_one_class_over_the_others_by_wavelength():
    frame = quantiles("band", {"B08": 900.0, "B02": 300.0})
    frame["wavelength"] = frame["band"].map({"B02": 492.0, "B08": 833.0})
    fig = figures.class_spectra(frame, GROUPS)
    arable, marine = fig.axes
    assert [arable.get_title(), marine.get_title()] == ["Arable land", "Marine waters"]
    own = arable.lines[-1]
    np.testing.assert_allclose(own.get_xdata(), [492.0, 833.0])
    np.testing.assert_allclose(own.get_ydata(), [3.0, 9.0])  # DN / 100 = per cent
    assert own.get_color() == palette.OKABE_ITO["orange"]
    assert [line.get_color() for line in arable.lines[:-1]] == [palette.LIGHT_GREY] * 2
    band = arable.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((2.99, 9.02))


def test_backscatter_is_ordered_by_the_first_band(spans, words):
    frame = quantiles("band", {"VV": -10.0, "VH": -17.0})
    left, right = figures.backscatter(frame, GROUPS).axes
    assert [left.get_title(), right.get_title()] == ["VV", "VH"]
    assert words(left.get_yticklabels()) == ["Arable land", "Marine waters"]
    points = [line.get_xydata()[np.isfinite(line.get_xdata())].tolist() for line in left.lines]
    assert points == [[[-10, 0]], [[-20, -1]]]
    np.testing.assert_allclose(spans(left), [[[-11, 0], [-8, 0]], [[-21, -1], [-18, -1]]])
    figures.backscatter(frame[:3], GROUPS).draw_without_rendering()  # a class lacks a band


def test_realism_compares_classes_found_on_both_sides():
    real = quantiles("quantity", {"VV": -10.0}).assign(source="real")
    simulated = real[real["class"] == "Arable land"].assign(source="simulated", p50=-9.0)
    (ax,) = figures.real_vs_simulated_quantiles(pd.concat([real, simulated]).assign(unit="dB"), GROUPS).axes
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), [[-10.0, -9.0]])
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlabel() == "real, dB"


def test_bars_stand_beside_each_other_with_intervals_where_known(spans, words):
    rows = [
        ("mean Jaccard", "simulated", 0.17, np.nan, np.nan),
        ("mean Jaccard", "real", 0.16, np.nan, np.nan),
        ("macro AP", "simulated", 0.5, 0.45, 0.55),
    ]
    frame = pd.DataFrame(rows, columns=["statistic", "source", "value", "low", "high"])
    jaccard, ap = figures.real_vs_simulated_bars(frame).axes
    assert [bar.get_width() for bar in jaccard.patches] == [0.16, 0.17]
    assert words(jaccard.texts) == ["0.160", "0.170"]
    assert words(jaccard.get_yticklabels()) == ["real", "simulated"]
    assert words(ap.texts) == ["–", "0.500"]
    np.testing.assert_allclose(spans(ap)[1:], [[[0.45, -1], [0.55, -1]]])
