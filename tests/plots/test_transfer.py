import itertools

import pandas as pd

from mosaic.plots import palette
from mosaic.plots.transfer import transfer_dots, unseen_slopes


def test_transfer_has_a_panel_a_target_and_probe_and_a_mark_a_source():
    probes = (("target", 5.0), ("target", 100.0), ("source", 0.0))
    rows = [
        {"source": s, "target": t, "method": m, "probe": p, "fraction": f, "value": v, "low": v, "high": v}
        for v, ((s, t), m, (p, f)) in enumerate(
            itertools.product(itertools.product("AB", "AB"), ("random", "mosaic"), probes)
        )
    ]
    fig = transfer_dots(pd.DataFrame(rows))
    assert [ax.get_title() for ax in fig.axes] == [
        f"{target}: {words}"
        for target in "AB"
        for words in ("5 % of its labels", "100 % of its labels", "no label of it")
    ]
    first = fig.axes[0]
    assert [label.get_text() for label in first.get_yticklabels()] == ["Random features", "MoSAiC"]
    values = [line.get_xdata().tolist() for line in first.lines]
    # of target A and 5 %: sources A and B, methods in the order of the table
    assert values == [[0.0, 3.0], [12.0, 15.0]]
    (legend,) = fig.legends
    assert [text.get_text() for text in legend.get_texts()] == ["pretrained on A", "pretrained on B"]
    markers = {(line.get_marker(), line.get_color()) for line in first.lines}
    assert len(markers) == 2 and len({marker for marker, _ in markers}) == 2


def test_slopes_run_from_seen_to_unseen_one_panel_a_place():
    rows = [
        {"domain": d, "method": m, "training": t, "value": v, "low": v - 0.1, "high": v + 0.1}
        for d in ("Finland", "Austria")
        for m, (seen, unseen) in (("iai", (0.6, 0.5)), ("mosaic", (0.7, 0.4)))
        for t, v in (("seen", seen), ("unseen", unseen), ("change", unseen - seen))
    ]
    fig = unseen_slopes(pd.DataFrame(rows))
    assert [ax.get_title() for ax in fig.axes] == ["Finland", "Austria"]
    for ax in fig.axes:
        assert [line.get_ydata().tolist() for line in ax.lines] == [[0.6, 0.5], [0.7, 0.4]]
        assert [t.get_text() for t in ax.get_xticklabels()] == ["seen in training", "never seen"]
    assert fig.axes[0].lines[1].get_color() == palette.method_style("mosaic")["color"]
