import inspect

import numpy as np
import pandas as pd
import pytest

from mosaic.plots import claims, compare, data, embeddings, layout, scores, training

ROOMS = (claims, compare, data, embeddings, scores, training)
FIGURES = [figure for room in ROOMS for figure in vars(room).values() if hasattr(figure, "__wrapped__")]


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, 3, (1, 1)), (3, 3, (1, 3)), (4, 3, (2, 2)), (6, 5, (2, 3)), (13, 5, (3, 5)), (7, 4, (2, 4))],
)
def test_panels_fill_rows_of_about_equal_length(count: int, columns: int, shape: tuple[int, int]) -> None:
    fig, axes = layout.panels(count, columns, 2.0)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert len(axes) == count
    assert fig.get_figheight() == 2.0 * shape[0]
    assert fig.get_figwidth() <= layout.WIDTH
    assert all(not ax.axison for ax in fig.axes[count:])


def test_ticks_of_a_column_stay_visible_above_an_empty_place() -> None:
    _, axes = layout.panels(3, 2, 2.0, sharex=True)
    shown = [any(label.get_visible() for label in ax.get_xticklabels()) for ax in axes]
    assert shown == [False, True, True]


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_an_empty_frame_gives_a_figure_that_says_so_and_a_wrong_one_is_refused(draw) -> None:
    parameters = list(inspect.signature(draw).parameters.values())[1:]
    arguments = [() for parameter in parameters if parameter.default is parameter.empty]
    (ax,) = draw(pd.DataFrame(), *arguments).axes
    assert ax.texts[0].get_text() == layout.NOTHING
    with pytest.raises(ValueError, match=r"needs columns .*; the frame has \['other'\]"):
        draw(pd.DataFrame({"other": [1]}), *arguments)


def test_intervals_with_an_unknown_end_are_left_out() -> None:
    _, (ax,) = layout.panels(1, 1, 3.0)
    at, low, high = np.array([0.0, 1.0, 2.0]), np.array([0.1, np.nan, 0.3]), np.array([0.2, 0.5, np.nan])
    for vertical in (True, False):
        layout.whiskers(ax, at, low, high, color="black", vertical=vertical)
    upright, flat = (lines.get_segments() for lines in ax.collections)
    np.testing.assert_allclose(upright, [[[0.0, 0.1], [0.0, 0.2]]])
    np.testing.assert_allclose(flat, [[[0.1, 0.0], [0.2, 0.0]]])


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (4, 4), (5, 3), (14, 4)])
def test_a_legend_is_balanced_and_lies_outside_the_panels(count: int, columns: int) -> None:
    fig, axes = layout.panels(1, 1, 3.0)
    layout.legend(fig, layout.method_handles([f"method_{k}" for k in range(count)]))
    (legend,) = fig.legends
    assert legend._ncols == columns
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    assert not legend.get_window_extent(renderer).overlaps(axes[0].get_tightbbox(renderer))


def test_column_of_a_frame_that_lacks_it_is_unknown() -> None:
    frame = pd.DataFrame({"low": [1, None]}, dtype="Float64")
    np.testing.assert_array_equal(layout.column_of(frame, "low"), [1.0, np.nan])
    np.testing.assert_array_equal(layout.column_of(frame, "high"), [np.nan, np.nan])
