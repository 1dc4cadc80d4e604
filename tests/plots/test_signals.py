import numpy as np
import pandas as pd
import pytest

from mosaic.plots import palette
from mosaic.plots import signals as figures

GROUPS = {"Agricultural areas": ["Arable land"], "Water bodies": ["Marine waters"]}


def quantiles(column: str, names: dict[str, float]) -> pd.DataFrame:
    rows = [
        {"class": cls, column: name, "p5": centre - 1, "p50": centre, "p95": centre + 2}
        for cls, shift in (("Marine waters", -10.0), ("Arable land", 0.0))
        for name, base in names.items()
        for centre in (base + shift,)
    ]
    return pd.DataFrame(rows)


def test_spectra_show_one_class_over_the_others_by_wavelength() -> None:
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


def test_backscatter_is_ordered_by_the_first_band() -> None:
    frame = quantiles("band", {"VV": -10.0, "VH": -17.0})
    left, right = figures.backscatter(frame, GROUPS).axes
    assert [left.get_title(), right.get_title()] == ["VV", "VH"]
    assert [tick.get_text() for tick in left.get_yticklabels()] == ["Arable land", "Marine waters"]
    spans, points = left.collections
    np.testing.assert_allclose(points.get_offsets(), [[-10.0, 0], [-20.0, -1]])
    np.testing.assert_allclose(spans.get_segments(), [[[-11, 0], [-8, 0]], [[-21, -1], [-18, -1]]])


def test_backscatter_of_a_class_that_lacks_a_band() -> None:
    frame = quantiles("band", {"VV": -10.0, "VH": -17.0}).iloc[:3]
    fig = figures.backscatter(frame, GROUPS)
    fig.draw_without_rendering()
    drawn = [np.ma.filled(ax.collections[1].get_offsets(), np.nan) for ax in fig.axes]
    assert [np.isfinite(points).all(1).tolist() for points in drawn] == [[True, True], [False, True]]


def test_realism_compares_classes_found_on_both_sides() -> None:
    real = quantiles("quantity", {"VV": -10.0}).assign(source="real")
    simulated = real[real["class"] == "Arable land"].assign(source="simulated", p50=-9.0)
    (ax,) = figures.real_vs_simulated_quantiles(pd.concat([real, simulated]).assign(unit="dB"), GROUPS).axes
    np.testing.assert_allclose(ax.collections[-1].get_offsets(), [[-10.0, -9.0]])
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlabel() == "real, dB"


def test_bars_stand_beside_each_other_with_intervals_where_known() -> None:
    frame = pd.DataFrame(
        {
            "statistic": ["mean Jaccard", "mean Jaccard", "macro AP"],
            "source": ["simulated", "real", "simulated"],
            "value": [0.17, 0.16, 0.5],
            "low": [np.nan, np.nan, 0.45],
            "high": [np.nan, np.nan, 0.55],
        }
    )
    jaccard, ap = figures.real_vs_simulated_bars(frame).axes
    assert [bar.get_width() for bar in jaccard.patches] == [0.16, 0.17]
    assert [text.get_text() for text in jaccard.texts] == ["0.160", "0.170"]
    assert [tick.get_text() for tick in jaccard.get_yticklabels()] == ["real", "simulated"]
    assert [text.get_text() for text in ap.texts] == ["–", "0.500"]
    np.testing.assert_allclose(ap.collections[0].get_segments(), [[[0.45, -1], [0.55, -1]]])
