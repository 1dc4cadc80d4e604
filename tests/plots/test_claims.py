import numpy as np
import pandas as pd

from mosaic.plots import palette
from mosaic.plots.claims import claims_forest, claims_grid

CLAIMS = pd.DataFrame(
    [
        ("More accurate", "MoSAiC − best supervised", 0.031, 0.012, 0.05, "supported"),
        ("Helps under overlap", "MoSAiC − IaI-SimCLR", -0.02, -0.035, -0.008, "not supported"),
        ("Generalises", "on SEN12MS", np.nan, np.nan, np.nan, "undecided"),
    ],
    columns=["statement", "comparison", "effect", "low", "high", "verdict"],
)


def test_forest_draws_effects_intervals_and_verdicts() -> None:
    (ax,) = claims_forest(CLAIMS).axes
    zero, *points = ax.lines
    assert list(zero.get_xdata()) == [0, 0]
    assert [point.get_xdata()[0] for point in points[:2]] == [0.031, -0.02]
    assert np.isnan(points[2].get_xdata()[0])
    colors = [palette.VERDICTS[name][0] for name in CLAIMS["verdict"]]
    assert [point.get_color() for point in points] == colors
    assert len({point.get_marker() for point in points}) == 3
    spans = [segment for item in ax.collections for segment in item.get_segments()]
    np.testing.assert_allclose(spans, [[[0.012, 0], [0.05, 0]], [[-0.035, -1], [-0.008, -1]]])
    texts = [text.get_text() for text in ax.texts]
    assert texts[:2] == ["More accurate", "MoSAiC − best supervised"]
    assert texts[2:4] == ["✓ supported", "+0.031 [+0.012, +0.050]"]
    assert "−0.020 [−0.035, −0.008]" in texts
    assert texts[-1] == "not computed"


def test_each_measure_has_its_own_scale() -> None:
    claims = CLAIMS.assign(measure=["macro AP", "macro AP", "label-Jaccard@10"])
    fig = claims_forest(claims)
    assert [ax.get_xlabel() for ax in fig.axes] == ["macro AP", "label-Jaccard@10"]
    assert [len(ax.lines) for ax in fig.axes] == [3, 2]


def test_statements_do_not_touch_each_other_or_the_axes() -> None:
    long = "MoSAiC is more accurate than every supervised and self-supervised baseline at any label fraction"
    fig = claims_forest(CLAIMS.assign(statement=long))
    fig.draw_without_rendering()
    renderer = fig.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in fig.axes[0].texts if text.get_ha() == "right"]
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[place + 1 :])
        assert box.x1 <= fig.axes[0].bbox.x0
        assert box.x0 >= 0


def test_grid_has_a_row_a_claim_and_a_column_an_archive_and_family() -> None:
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
    assert [t.get_text() for t in ax.get_yticklabels()] == ["accuracy", "overlap, few labels"]
    assert [t.get_text().replace("\n", " ") for t in ax.get_xticklabels()] == [
        "than supervised training",
        "than self-supervision",
    ] * 2
    texts = [text.get_text() for text in ax.texts]
    assert texts[:2] == ["✗ not supported\nnot computed", "✓ supported\n+0.020\n[+0.010, +0.030]"]
    assert texts[-2:] == ["A", "B"]
    colors = ax.collections[0].get_facecolors()
    assert len(colors) == len(rows)
    assert len({tuple(color) for color in colors}) == 3
