from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt
from matplotlib.collections import LineCollection

from mosaic.plots import layout as marks
from mosaic.plots import palette


@pytest.fixture(autouse=True)
def clean_figures() -> Iterator[None]:
    plt.switch_backend("agg")
    palette.use_theme()
    yield
    plt.close("all")


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, 3, (1, 1)), (3, 3, (1, 3)), (4, 3, (2, 2)), (6, 5, (2, 3)), (13, 5, (3, 5)), (7, 4, (2, 4))],
)
def test_panels_fill_rows_of_about_equal_length(count: int, columns: int, shape: tuple[int, int]) -> None:
    fig, axes = marks.panels(count, columns, 2.0)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert len(axes) == count
    assert fig.get_figheight() == 2.0 * shape[0]
    assert fig.get_figwidth() <= marks.WIDTH
    assert all(not ax.axison for ax in fig.axes[count:])


def test_no_panels_say_so() -> None:
    fig, axes = marks.panels(0, 3, 2.0)
    assert axes == []
    assert [text.get_text() for text in fig.axes[0].texts] == [marks.NOTHING]


def test_ticks_of_a_column_stay_visible_above_an_empty_place() -> None:
    _, axes = marks.panels(3, 2, 2.0, sharex=True)
    shown = [any(label.get_visible() for label in ax.get_xticklabels()) for ax in axes]
    assert shown == [False, True, True]


def test_missing_columns_are_named() -> None:
    with pytest.raises(ValueError, match=r"\['value'\].*\['method'\]"):
        marks.require(pd.DataFrame({"method": ["iai"]}), "method", "value")
    marks.require(pd.DataFrame(), "method")


def test_intervals_with_an_unknown_end_are_left_out() -> None:
    ax = marks.canvas(None)
    at, low, high = np.array([0.0, 1.0, 2.0]), np.array([0.1, np.nan, 0.3]), np.array([0.2, 0.5, np.nan])
    marks.whiskers(ax, at, low, high, "black", vertical=True)
    (lines,) = (item for item in ax.collections if isinstance(item, LineCollection))
    np.testing.assert_allclose(lines.get_segments(), [[[0.0, 0.1], [0.0, 0.2]]])
    marks.whiskers(ax, at, low, high, "black", vertical=False)
    np.testing.assert_allclose(ax.collections[1].get_segments(), [[[0.1, 0.0], [0.2, 0.0]]])


def test_dodge_is_centred() -> None:
    np.testing.assert_allclose(marks.dodge(3, 0.4), [-0.2, 0.0, 0.2])
    np.testing.assert_allclose(marks.dodge(1, 0.4), [0.0])
    assert marks.dodge(0, 0.4).size == 0


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (4, 4), (5, 3), (14, 4)])
def test_a_legend_is_balanced_and_lies_outside_the_panels(count: int, columns: int) -> None:
    fig, axes = marks.panels(1, 1, 3.0)
    marks.legend(fig, marks.method_handles([f"method_{k}" for k in range(count)]))
    (legend,) = fig.legends
    assert legend._ncols == columns
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    assert not legend.get_window_extent(renderer).overlaps(axes[0].get_tightbbox(renderer))


def test_no_legend_without_handles() -> None:
    fig, _ = marks.panels(1, 1, 3.0)
    marks.legend(fig, [])
    assert fig.legends == []


def test_column_of_a_frame_that_lacks_it_is_unknown() -> None:
    frame = pd.DataFrame({"low": [1, None]}, dtype="Float64")
    np.testing.assert_array_equal(marks.column_of(frame, "low"), [1.0, np.nan])
    np.testing.assert_array_equal(marks.column_of(frame, "high"), [np.nan, np.nan])


def test_empty_canvas_is_marked() -> None:
    ax = marks.canvas(None, pd.DataFrame())
    assert [text.get_text() for text in ax.texts] == [marks.NOTHING]
    assert marks.canvas(ax) is ax


def test_percentages() -> None:
    assert [marks.percent(value) for value in (0.1, 5.0, 100.0)] == ["0.1 %", "5 %", "100 %"]
