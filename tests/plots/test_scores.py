import itertools

import numpy as np
import pandas as pd

from mosaic.plots import palette
from mosaic.plots import scores as figures


def results(**columns):
    """One aggregated number; keywords replace its columns, and lists make several rows."""
    row: dict[str, object] = {"method": "mosaic", "seed": -1, "label_budget": "shared", "fraction": 100.0}
    row |= {"evaluation": "linear", "input": "fused", "stratum": "all", "metric": "ap_macro"}
    row |= {"n": 20, "n_seeds": 3, "value": 0.5, "low": 0.4, "high": 0.6}
    length = max([len(value) for value in columns.values() if isinstance(value, list)], default=1)
    return pd.DataFrame({name: columns.get(name, value) for name, value in row.items()}, index=range(length))


def test_stratum_titles():
    titles = {"all": "all", "labels: 1": "1 label", "labels: 3-4": "3–4 labels", "labels: 5+": "5+ labels"}
    titles |= {"group: forests": "forests", "class: Beaches, dunes, sands": "Beaches, dunes"}
    assert {stratum: figures.stratum_title(stratum) for stratum in titles} == titles


def test_scores_against_fraction_stand_in_their_panels(spans, words):
    both = {"fraction": [1.0, 100.0]}
    shared = results(value=[0.3, 0.5], low=[0.2, np.nan], high=[0.4, np.nan], **both)
    unlabelled = results(method="iai", label_budget="none", value=[0.25, 0.45], **both)
    full = results(label_budget="full", value=[0.4, 0.6], **both)
    frame = pd.concat([shared, full, unlabelled, results(evaluation="knn", value=0.35)])
    fig = figures.score_vs_fraction(frame)
    titles = [
        "k nearest neighbours, shared label budget",
        "linear probe, shared label budget",
        "linear probe, full-label pretraining",
    ]
    assert [ax.get_title() for ax in fig.axes] == titles
    _, linear, full = fig.axes
    drawn = [{line.get_label(): list(line.get_ydata()) for line in ax.lines} for ax in (linear, full)]
    # one without labels is in both
    assert drawn == [{"IaI-SimCLR": [0.25, 0.45], "MoSAiC": mosaic} for mosaic in ([0.3, 0.5], [0.4, 0.6])]
    ends = sorted(tuple(span[:, 1]) for span in spans(linear))
    assert ends == [(0.2, 0.4), (0.4, 0.6), (0.4, 0.6)]  # an unknown interval is not drawn
    assert words(full.get_xticklabels()) == ["1 %", "100 %"]
    assert words(fig.legends[0].get_texts()) == ["IaI-SimCLR", "MoSAiC"]


def test_per_class_heatmap_stars_the_best_and_bears_gaps(words):
    ours = results(stratum=["class: Pastures", "class: Arable land"], value=[0.2, 0.8], metric="ap")
    other = results(method="iai", stratum="class: Pastures", value=0.3, metric="ap")
    frame = pd.concat([ours, other, results()])  # the last is of no class: left out
    (ax,) = figures.per_class_heatmap(frame).axes
    assert words(ax.get_xticklabels()) == ["Arable land", "Pastures"]
    assert words(ax.get_yticklabels()) == ["IaI-SimCLR", "MoSAiC"]
    assert words(ax.texts) == ["0.30★", "0.80★", "0.20"]
    drawn = np.ma.filled(ax.collections[0].get_array().reshape(2, 2), np.nan)
    np.testing.assert_allclose(drawn, [[np.nan, 0.3], [0.8, 0.2]])
    assert ax.get_xlabel() == "average precision"
    few = results(method="sct", stratum="class: Pastures", value=0.9, n_seeds=1, metric="ap")
    (ax,) = figures.per_class_heatmap(pd.concat([frame, few])).axes
    assert words(ax.get_yticklabels()) == ["SCT Fusion (1 of 3 seeds)", "IaI-SimCLR", "MoSAiC"]
    assert sorted(words(ax.texts)) == ["0.20", "0.30★", "0.80★", "0.90"]
    (rare,) = figures.per_class_heatmap(results(stratum="class: Pastures", n=2, metric="ap")).axes
    assert words(rare.texts) == ["0.50"]


def test_strata_have_a_panel_a_kind_and_a_row_each(words):
    strata = ["all", "labels: 1", "labels: 2", "group: forests"]
    other = results(method="iai", stratum="labels: 2", value=0.3, low=np.nan, high=np.nan)
    frame = pd.concat([results(stratum=strata, value=[0.9, 0.4, 0.5, 0.6]), other])
    fig = figures.strata_dots(frame)
    labels, groups = fig.axes
    assert words(labels.get_yticklabels()) == ["1 label", "2 labels"]
    assert words(groups.get_yticklabels()) == ["forests"]
    points = {line.get_label(): line for line in labels.lines if not line.get_label().startswith("_")}
    np.testing.assert_allclose(points["MoSAiC"].get_xdata(), [0.4, 0.5])
    np.testing.assert_allclose(points["IaI-SimCLR"].get_xdata(), [np.nan, 0.3])
    assert all(abs(y - round(y)) < 0.5 for y in points["MoSAiC"].get_ydata())
    # derived groups have a panel each
    derived = ["together: Pastures + 1", "together: B + 2", "look-alike: C + 1"]
    strata = ["labels: 1", "group: forests", *(f"group: {name}" for name in derived)]
    fig = figures.strata_dots(results(stratum=strata, value=[0.1, 0.2, 0.3, 0.4, 0.5]))
    rows = [[text.replace("\n", " ") for text in words(ax.get_yticklabels())] for ax in fig.axes]
    assert rows == [["1 label"], ["forests"], derived[:2], derived[2:]]


def test_missing_sensor_draws_what_a_method_has(words):
    inputs = ["fused", "fused_without_s1", "fused_without_s2", "s1"]
    ours, other = results(input=inputs, value=[0.5, 0.4, 0.3, 0.1]), results(method="iai", value=0.45)
    frame = pd.concat([ours, other, results(method="supervised_s1", input="s1")])
    (ax,) = figures.missing_sensor(frame).axes
    lines = {line.get_label(): line for line in ax.lines}
    np.testing.assert_allclose(lines["MoSAiC"].get_ydata(), [0.4, 0.5, 0.3])
    np.testing.assert_allclose(lines["IaI-SimCLR"].get_ydata(), [np.nan, 0.45, np.nan])
    assert "Supervised S1" not in lines
    assert words(ax.get_xticklabels()) == ["S1 missing", "all sensors", "S2 missing"]


def test_transfer_has_a_panel_a_target_and_probe_and_a_mark_a_source(words):
    probes = (("target", 5.0), ("target", 100.0), ("source", 0.0))
    rows = itertools.product("AB", "AB", ("random", "mosaic"), probes)
    table = pd.DataFrame(rows, columns=["source", "target", "method", "probe"])
    table[["probe", "fraction"]] = table["probe"].tolist()
    fig = figures.transfer_dots(table.assign(value=table.index, low=table.index, high=table.index))
    titles = ("5 % of its labels", "100 % of its labels", "no label of it")
    assert [ax.get_title() for ax in fig.axes] == [f"{a}: {title}" for a in "AB" for title in titles]
    first = fig.axes[0]
    assert words(first.get_yticklabels()) == ["Random features", "MoSAiC"]
    values = [line.get_xdata().tolist() for line in first.lines]
    # of target A and 5 %: sources A and B, methods in the order of the table
    assert values == [[0.0, 3.0], [12.0, 15.0]]
    (legend,) = fig.legends
    assert words(legend.get_texts()) == ["pretrained on A", "pretrained on B"]
    markers = {(line.get_marker(), line.get_color()) for line in first.lines}
    assert len(markers) == 2 and len({marker for marker, _ in markers}) == 2


def test_slopes_run_from_seen_to_unseen_one_panel_a_place(words):
    scores = [("iai", "seen", 0.6), ("iai", "unseen", 0.5), ("iai", "change", -0.1)]
    scores += [("mosaic", "seen", 0.7), ("mosaic", "unseen", 0.4), ("mosaic", "change", -0.3)]
    rows = [(domain, *score) for domain in ("Finland", "Austria") for score in scores]
    fig = figures.unseen_slopes(pd.DataFrame(rows, columns=["domain", "method", "training", "value"]))
    assert [ax.get_title() for ax in fig.axes] == ["Finland", "Austria"]
    for ax in fig.axes:
        assert [line.get_ydata().tolist() for line in ax.lines] == [[0.6, 0.5], [0.7, 0.4]]
        assert words(ax.get_xticklabels()) == ["seen in training", "never seen"]
    assert fig.axes[0].lines[1].get_color() == palette.method_style("mosaic")["color"]
