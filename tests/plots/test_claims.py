import numpy as np
import pandas as pd

from mosaic.plots import palette
from mosaic.plots.claims import claims_forest, claims_grid, detectable_effects

CLAIMS = pd.DataFrame(
    [
        ("More accurate", "MoSAiC − best supervised", 0.031, 0.012, 0.05, "supported"),
        ("Helps under overlap", "MoSAiC − IaI-SimCLR", -0.02, -0.035, -0.008, "not supported"),
        ("Generalises", "on SEN12MS", np.nan, np.nan, np.nan, "undecided"),
    ],
    columns=["statement", "comparison", "effect", "low", "high", "verdict"],
)


def test_forest_draws_effects_intervals_and_verdicts(spans, words):
    ax, other = claims_forest(CLAIMS.assign(measure=["macro AP", "macro AP", "Jaccard"])).axes
    assert [ax.get_xlabel(), other.get_xlabel()] == ["macro AP", "Jaccard"]  # a scale a measure
    zero, *points = ax.lines
    assert list(zero.get_xdata()) == [0, 0]
    drawn = {point.get_color(): point.get_xydata()[np.isfinite(point.get_xdata())] for point in points}
    looks = {name: look["color"] for name, (look, _) in palette.VERDICTS.items()}
    np.testing.assert_allclose(drawn[looks["supported"]], [[0.031, 0]])
    np.testing.assert_allclose(drawn[looks["not supported"]], [[-0.02, -1]])
    np.testing.assert_allclose(spans(ax), [[[0.012, 0], [0.05, 0]], [[-0.035, -1], [-0.008, -1]]])
    first = ["More accurate", "MoSAiC − best supervised", "✓ supported", "+0.031 [+0.012, +0.050]"]
    assert words(ax.texts)[:4] == first and words(ax.texts)[-1] == "−0.020 [−0.035, −0.008]"
    assert words(other.texts)[2:] == ["? undecided", "not computed"]


def test_statements_do_not_touch_each_other_or_the_axes():
    long = "MoSAiC is more accurate than every supervised and self-supervised baseline at any label fraction"
    fig = claims_forest(CLAIMS.assign(statement=long, measure="macro AP"))
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in fig.axes[0].texts if text.get_ha() == "right"]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert 0 <= box.x0 < box.x1 <= fig.axes[0].bbox.x0


def test_grid_has_a_row_a_claim_and_a_column_an_archive_and_family(words):
    rows = [
        (archive, f"{claim} vs {family}", effect, verdict)
        for archive in ("A", "B")
        for claim in ("accuracy", "overlap, few labels")
        for family, effect, verdict in (
            ("supervised", -0.03, "not supported"),
            ("self-supervised", 0.02, "supported" if archive == "A" else "undecided"),
        )
    ]
    claims = pd.DataFrame(rows, columns=["dataset", "name", "effect", "verdict"])
    claims["low"], claims["high"] = claims["effect"] - 0.01, claims["effect"] + 0.01
    claims.loc[0, ["effect", "low", "high"]] = np.nan
    families = {"supervised": "supervised training", "self-supervised": "self-supervision"}
    (ax,) = claims_grid(claims, families).axes
    assert words(ax.get_yticklabels()) == ["accuracy", "overlap, few labels"]
    columns = [text.replace("-\n", "-").replace("\n", " ") for text in words(ax.get_xticklabels())]
    assert columns == ["than supervised training", "than self-supervision"] * 2
    texts = words(ax.texts)
    assert texts[:2] == ["✗ not supported\nnot computed", "✓ supported\n+0.020\n[+0.010, +0.030]"]
    assert texts[-2:] == ["A", "B"]
    assert len({tuple(color) for color in ax.collections[0].get_facecolors()}) == 3


def test_detectable_effects_have_a_line_a_number_of_seeds_and_the_relevant_difference():
    rows = [("A", scenes, seeds, seeds / scenes) for seeds in (1, 3) for scenes in (10, 100)]
    (ax,) = detectable_effects(
        pd.DataFrame(rows, columns=["dataset", "n_scenes", "n_seeds", "mde"]), 0.01
    ).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in ax.lines}
    assert lines["1 seed"] == [0.1, 0.01] and lines["3 seeds"] == [0.3, 0.03]
    assert [0.01, 0.01] in lines.values() and ax.get_title() == "A"
