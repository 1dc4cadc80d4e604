import inspect

import numpy as np
import pandas as pd
import pytest

from mosaic.plots import claims, compare, data, embeddings, layout, scores, training

ROOMS = (claims, compare, data, embeddings, scores, training)
FIGURES = [figure for room in ROOMS for figure in vars(room).values() if hasattr(figure, "__wrapped__")]
BLUE = {"a": {"color": "blue"}, "b": {"color": "red"}}


@pytest.mark.parametrize(
    ("count", "columns", "shape"),
    [(1, 3, (1, 1)), (3, 3, (1, 3)), (4, 3, (2, 2)), (6, 5, (2, 3)), (13, 5, (3, 5)), (7, 4, (2, 4))],
)
def test_panels_fill_rows_of_about_equal_length(count, columns, shape):
    fig, axes = layout.panels(count, columns, 2.0)
    grid = axes[0].get_subplotspec().get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert fig.axes == axes and len(axes) == count
    assert fig.get_figheight() == 2.0 * shape[0] and fig.get_figwidth() <= layout.WIDTH


@pytest.mark.parametrize("draw", FIGURES, ids=lambda draw: draw.__name__)
def test_an_empty_frame_gives_a_figure_without_panels(draw):
    parameters = list(inspect.signature(draw).parameters.values())[1:]
    needed = [one for one in parameters if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
    assert draw(pd.DataFrame(), *[()] * len(needed)).axes == []


@pytest.mark.parametrize("vertical", [True, False])
def test_dots_stand_side_by_side_with_the_intervals_that_are_known_and_their_seeds(vertical, spans, words):
    _, (ax,) = layout.panels(1, 1, 3.0)
    rows = [("x", "a", -1, 0.5, 0.4, 0.6), ("y", "a", -1, 0.7, np.nan, 0.8), ("y", "b", -1, 0.2, 0.1, 0.3)]
    rows += [("x", "a", 0, 0.45, np.nan, np.nan), ("x", "a", 1, 0.55, np.nan, np.nan)]
    frame = pd.DataFrame(rows, columns=["place", "by", "seed", "value", "low", "high"])
    titles = {"x": "first", "y": "second"}
    at = layout.dots(ax, frame, "place", titles, BLUE, "by", spread=0.2, vertical=vertical)
    one, step = (0, 1) if vertical else (1, -1)
    assert at.tolist() == [0, step]
    points = [line.get_xydata()[:, [one, 1 - one]] for line in ax.lines]
    np.testing.assert_allclose(points[0], [[-0.1 * step, 0.5], [0.9 * step, 0.7]])
    np.testing.assert_allclose(points[1], [[0.1 * step, np.nan], [1.1 * step, 0.2]])
    np.testing.assert_allclose([span[:, 1 - one] for span in spans(ax)], [[0.4, 0.6], [0.1, 0.3]])
    (small,) = [dots for dots in ax.collections if not hasattr(dots, "get_segments")]
    np.testing.assert_allclose(small.get_offsets()[:, 1 - one], [0.45, 0.55])
    names = ax.get_xticklabels() if vertical else ax.get_yticklabels()
    assert words(names) == ["first", "second"]
    with pytest.raises(ValueError, match="duplicate"):
        layout.dots(ax, frame.assign(seed=0), "place", titles, BLUE, "by")


@pytest.mark.parametrize(("count", "columns"), [(2, 2), (4, 4), (5, 3), (14, 4), (35, 4)])
def test_a_legend_is_balanced_and_lies_outside_the_panels(count, columns, words):
    fig, axes = layout.panels(1, 1, 3.0)
    for k in range(count):
        axes[0].plot([0, 1], label=f"method {k}")
    layout.legend(fig)
    (legend,) = fig.legends
    assert legend._ncols == columns
    assert words(legend.get_texts()) == [f"method {k}" for k in range(count)]
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    assert not legend.get_window_extent(renderer).overlaps(axes[0].get_tightbbox(renderer))
    assert axes[0].bbox.height / fig.dpi > 2  # however many rows it has


def test_merit_runs_from_the_worst_to_the_best_of_a_column():
    values = [[1.0, 5.0, np.nan], [3.0, 5.0, 2.0], [2.0, 5.0, np.nan]]
    np.testing.assert_allclose(layout.merit(values), [[0, 0, np.nan], [1, 0, 0], [0.5, 0, np.nan]])
