import numpy as np
import pandas as pd

from mosaic.plots import training as figures

LOG = pd.DataFrame(
    {
        "step": [0, 50, 0, 50, 0, 50],
        "method": ["mosaic"] * 4 + ["iai"] * 2,
        "seed": [0, 0, 1, 1, 0, 0],
        "intra": [4.0, 2.0, 4.0, 3.0, 5.0, 1.0],
        "label": [2.0, 1.0, 2.0, 1.0, np.nan, np.nan],
        "embedding_std": [0.2, 0.8, 0.4, 1.0, 0.3, 0.9],
        "effective_rank": [5.0, 50.0, 7.0, 70.0, 6.0, 40.0],
        "alignment": [1.0, 0.5, 1.2, 0.6, 0.9, np.nan],
        "uniformity": [-1.0, -3.0, -1.0, -3.2, -1.0, -2.0],
        "knn": [0.3, 0.5, 0.3, 0.6, 0.3, 0.4],
    }
)


def strong(ax):
    return {line.get_label(): line for line in ax.lines if not line.get_label().startswith("_")}  # type: ignore


def test_loss_curves_draw_each_run_and_the_mean_of_each_term(words):
    fig = figures.loss_curves(LOG)
    iai, mosaic = fig.axes
    assert [iai.get_title(), mosaic.get_title()] == ["IaI-SimCLR", "MoSAiC"]
    assert list(strong(iai)) == ["intra-modality"]  # its label term was never logged
    lines = strong(mosaic)
    assert list(lines) == ["intra-modality", "label"]
    np.testing.assert_allclose(lines["intra-modality"].get_ydata(), [4.0, 2.5])
    faint = [line.get_ydata().tolist() for line in mosaic.lines if line not in lines.values()]
    assert [4.0, 2.0] in faint and [4.0, 3.0] in faint
    one = pd.DataFrame({"step": range(5), "method": "iai", "intra": [4.0, 0.0, 4.0, 0.0, 4.0]})
    raw, mean = figures.loss_curves(one, smooth=3).axes[0].lines  # of one run, without a column of seeds
    np.testing.assert_allclose(raw.get_ydata(), one["intra"])
    np.testing.assert_allclose(mean.get_ydata(), [2, 8 / 3, 4 / 3, 8 / 3, 2])
    assert mosaic.get_ylim()[0] == 0
    assert words(fig.legends[0].get_texts()) == ["intra-modality", "label"]


def test_monitor_curves_draw_means_over_runs_and_mark_the_isotropic_level(words):
    fig = figures.monitor_curves(LOG, "embedding_std", "effective_rank")
    spread, rank = fig.axes
    np.testing.assert_allclose(strong(spread)["MoSAiC"].get_ydata(), [0.3, 0.9])
    np.testing.assert_allclose(strong(rank)["MoSAiC"].get_ydata(), [6.0, 60.0])
    assert any(list(line.get_ydata()) == [1, 1] for line in spread.lines)
    assert spread.get_ylim()[0] == rank.get_ylim()[0] == 0
    assert words(fig.legends[0].get_texts()) == ["IaI-SimCLR", "MoSAiC"]
    log = pd.DataFrame({"step": [0, 10, 20], "method": "iai", "knn": [0.2, np.nan, 0.4]})
    np.testing.assert_allclose(figures.monitor_curves(log, "knn").axes[0].lines[0].get_xdata(), [0, 20])


def test_score_curves_draw_seeds_and_mean_of_each_method_over_lines_for_what_is_not_trained(words):
    bars = {"method": ["random", "random", "band_statistics"], "seed": [0, 1, 0], "knn": [0.2, 0.3, 0.55]}
    fig = figures.score_curves(pd.concat([LOG, pd.DataFrame(bars).assign(step=0)]))
    iai, mosaic = fig.axes
    assert [ax.get_title() for ax in fig.axes] == ["IaI-SimCLR", "MoSAiC"]
    assert iai.get_ylim() == mosaic.get_ylim()
    for ax in fig.axes:
        drawn = strong(ax)
        for name, value in {"Random features": 0.25, "Band statistics": 0.55}.items():
            np.testing.assert_allclose(drawn[name].get_ydata(), [value, value])
            assert list(drawn[name].get_xdata()) == [0, 1]  # of the axes: across the whole panel
    np.testing.assert_allclose(strong(mosaic)["MoSAiC"].get_ydata(), [0.3, 0.55])
    faint = [line.get_ydata().tolist() for line in mosaic.lines if line not in strong(mosaic).values()]
    assert [0.3, 0.5] in faint and [0.3, 0.6] in faint  # seeds
    assert [0.3, 0.4] in faint  # the other method
    assert words(fig.legends[0].get_texts()) == ["Random features", "Band statistics"]
    # without anything trained, or any score, there is nothing to show
    assert figures.score_curves(pd.DataFrame(bars).assign(step=0)).axes == []
    assert figures.score_curves(LOG[:0]).axes == []


def test_alignment_uniformity_marks_where_each_run_ended(words):
    (ax,) = figures.alignment_uniformity(LOG).axes
    ends = [line for line in ax.lines if line.get_linestyle() == "None"]
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in ends]
    assert points == [(-1.0, 0.9), (-3.0, 0.5), (-3.2, 0.6)]
    assert words(ax.figure.legends[0].get_texts()) == ["IaI-SimCLR", "MoSAiC"]


def test_cost_bars_show_means_and_extremes_and_leave_out_what_was_not_measured(spans, words):
    frame = pd.DataFrame(
        {"method": ["mosaic", "mosaic", "iai"], "seconds": [1000.0, 1400.0, 8.0], "peak_memory_mb": np.nan}
    )
    (ax,) = figures.cost_bars(frame).axes
    assert [bar.get_width() for bar in ax.patches] == [8.0, 1200.0]
    assert words(ax.get_yticklabels()) == ["IaI-SimCLR", "MoSAiC"]
    assert [(text.get_text(), text.xy[0]) for text in ax.texts] == [("8", 8), ("1,200", 1400)]
    np.testing.assert_allclose(spans(ax), [[[8, 0], [8, 0]], [[1000, -1], [1400, -1]]])
