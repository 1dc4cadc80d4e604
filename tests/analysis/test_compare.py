from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import compare, scoring
from mosaic.analysis.costs import cost_table, readable_costs
from mosaic.evaluation.bootstrap import interval
from mosaic.settings import CompareSettings, PretrainSettings
from mosaic.utils.files import write_json

RANDOM = np.random.default_rng(0)
N, C = 90, 4
LABELS = (RANDOM.random((N, C)) < 0.4).astype(np.uint8)
STORE = SimpleNamespace(
    fingerprint="f",
    labels=LABELS,
    scenes=np.array([f"s{i % 9}" for i in range(N)]),
    split_rows=lambda split: np.arange(N),
    class_names=("a", "b", "c", "d"),
)


def result(method, value=0.5, **more):
    base = {
        "method": method,
        "label_protocol": "none",
        "fraction": 100.0,
        "evaluation": "linear",
        "input": "fused",
        "stratum": "all",
        "metric": "ap_macro",
        "seed": -1,
        "value": value,
        "low": value - 0.1,
        "high": value + 0.1,
        "n_seeds": 3,
    }
    return {**base, **more}


def finished(results=(), cells=(), predictions=(), seeds=3, title="A", choices=None, **settings):
    return compare.FinishedRun(
        title,
        STORE,
        PretrainSettings(seeds=seeds, **settings),
        choices or {},
        pd.DataFrame(list(cells), columns=["method", "seed", "budget", "folder"]),
        pd.DataFrame(list(results)),
        pd.DataFrame(list(predictions)),
        {"rows": [], "source": "", "why": "no"},
    )


def run(**settings):
    return SimpleNamespace(
        settings=CompareSettings(jobs=1, bootstrap_resamples=50, **settings),
        cached=lambda name, key, compute: compute(),
    )


def test_the_score_table_has_every_input_and_leaves_out_other_protocols_and_evaluations():
    one = finished(
        [
            result("iai", 0.6),
            result("iai", 0.4, input="s1"),
            result("iai", 0.9, metric="ap_micro"),
            result("iai", 0.3, fraction=5.0),
            result("iai", 0.99, input="fused_without_s1"),
            result("iai", 0.99, evaluation="knn"),
            result("iai", 0.99, seed=0),
            result("mosaic", 0.7, label_protocol="budgeted"),
            result("mosaic", 0.99, label_protocol="full"),
            result("random", 0.2),
        ]
    )
    table = compare.score_table(one)
    assert table["method"].tolist() == ["Random features", "IaI-SimCLR", "IaI-SimCLR", "MoSAiC"]
    assert table["input"].tolist() == ["all sensors", "S1", "all sensors", "all sensors"]
    assert table.columns[3:].tolist() == ["macro, 5 %", "macro, 100 %", "micro, 5 %", "micro, 100 %"]
    assert table["macro, 100 %"][3] == pytest.approx((0.7, 0.6, 0.8))
    values = [cell[0] for name in table.columns[3:] for cell in table[name].dropna()]
    assert 0.99 not in values


def predictions(folder, method, noise, seeds, fraction=100.0):
    rows = []
    for seed in range(seeds):
        path = folder / f"{method}-{seed}-{fraction:g}.npz"
        random = np.random.default_rng(seed)
        scores = ((1 - noise) * LABELS + noise * random.random((N, C))).astype(np.float32)
        np.savez(path, **{f"linear|fused|{fraction:g}|test": scores})
        rows.append(
            {
                "seed": seed,
                "method": method,
                "label_protocol": "none",
                "fraction": fraction,
                "evaluation": "linear",
                "input": "fused",
                "path": str(path),
                "key": f"linear|fused|{fraction:g}",
            }
        )
    return rows


def test_only_methods_with_all_seeds_are_ranked_and_by_their_scores(tmp_path):
    noise = {"random": 0.95, "iai": 0.5, "mosaic": 0.6, "inter": 0.1}
    rows, cells = [], []
    for method, own in noise.items():
        seeds = 1 if method == "inter" else 2
        rows += predictions(tmp_path, method, own, seeds)
        cells += [(method, seed, 0.0, "") for seed in range(seeds)]
    one = finished([result(name) for name in noise], cells, rows, seeds=2)
    methods, ranking = compare.method_ranking(run(), [one])
    assert methods == ["random", "iai", "mosaic"]
    table = compare.rank_table(methods, ranking)
    assert table["method"].tolist() == ["iai", "mosaic", "random"]
    assert table["rank"].tolist() == [1, 2, 3]


def test_resampled_scores_are_those_of_the_interval(tmp_path):
    rows = pd.DataFrame(predictions(tmp_path, "iai", 0.5, 2))
    value, drawn = scoring.resampled(STORE, rows, 50)
    arrays = [scoring.load(one) for _, one in rows.iterrows()]
    span = interval(LABELS, arrays, STORE.scenes, "macro", 50)
    assert value == span.value
    low, high = np.quantile(drawn, [0.025, 0.975])
    assert high - low == pytest.approx(span.high - span.low)


def test_costs_are_those_of_the_cards_beside_the_score(tmp_path):
    for seed, seconds in ((0, 60.0), (1, 120.0)):
        card = {
            "parameters": {"encoder": 1_000_000, "trained": 1_200_000},
            "config": {"steps": 200},
            "timing": {"seconds": seconds, "peak_memory_mb": 500, "device": "CPU, 1 thread"},
        }
        write_json(tmp_path / f"iai{seed}" / "card.json", card)
        write_json(tmp_path / f"random{seed}" / "card.json", card)
    cells = [(m, s, 0.0, str(tmp_path / f"{m}{s}")) for m in ("random", "iai") for s in (0, 1)]
    table = cost_table(finished([result("iai", 0.6), result("random", 0.2)], cells)).set_index("method")
    assert table.loc["iai", ["minutes", "steps", "trained", "value"]].tolist() == [1.5, 200, 1_200_000, 0.6]
    assert table.loc["random", ["steps", "trained"]].tolist() == [0, 0]
    shown = readable_costs(table.reset_index())
    assert shown["encoder, million"].tolist() == [1.0, 1.0]


def test_kernels_are_compared_on_the_seeds_that_all_have(tmp_path):
    rows = [
        *predictions(tmp_path, "supcon", 0.6, 3),
        *predictions(tmp_path, "supcon_any", 0.5, 1),
        *predictions(tmp_path, "supcon_queue", 0.1, 1),
        *predictions(tmp_path, "mosaic", 0.1, 3),
    ]
    table = compare.kernel_table(run(), finished([result("supcon")], (), rows, kernel="cosine"))
    assert table["kernel"].tolist() == ["cosine", "any"]
    assert table["seeds"].tolist() == [1, 1]
    for found, place in zip(table["100 %"], (0, 3), strict=True):
        first = scoring.load(pd.Series(rows[place]))
        span = interval(LABELS, [first], STORE.scenes, "macro", 50)
        assert found == pytest.approx((span.value, span.low, span.high))


def test_the_kernel_of_supcon_is_the_one_it_was_tuned_to(tmp_path):
    names = ("supcon", "supcon_any", "supcon_jaccard", "supcon_idf_jaccard")
    rows = [row for name in names for row in predictions(tmp_path, name, 0.5, 1)]
    tuned = finished([result("supcon")], (), rows, choices={"supcon": {"kernel": "idf_jaccard"}})
    assert compare.kernel_table(run(), tuned)["kernel"].tolist() == ["idf_jaccard", "any", "jaccard"]
    kept = finished([result("supcon")], (), rows, choices={"supcon": {"temperature_label": 0.2}})
    assert compare.kernel_table(run(), kept)["kernel"].tolist() == ["jaccard", "any", "idf_jaccard"]


def test_methods_of_fewer_seeds_stand_beside_others_on_the_same_seeds(tmp_path):
    noise = {"random": (0.9, 2), "mosaic": (0.4, 2), "sct": (0.5, 1), "inter": (0.5, 2)}
    rows = [row for name, (own, seeds) in noise.items() for row in predictions(tmp_path, name, own, seeds)]
    cells = [(name, seed, 0.0, "") for name, (_, seeds) in noise.items() for seed in range(seeds)]
    one = finished([result(name) for name in noise], cells, rows, seeds=2)
    table = compare.few_seeds_table(run(), one)
    assert table["method"].tolist() == ["random", "sct", "mosaic"]
    assert table["seeds"].tolist() == [1, 1, 1]
    whole = finished([result("mosaic")], [c for c in cells if c[0] != "sct"], rows, seeds=2)
    assert compare.few_seeds_table(run(), whole).empty


def test_the_score_table_leaves_rows_of_fewer_seeds_to_that_table():
    one = finished([result("iai", 0.6), result("supcon", 0.9, n_seeds=1, label_protocol="budgeted")])
    assert compare.score_table(one)["method"].tolist() == ["IaI-SimCLR"]


def test_published_scores_are_shown_only_where_they_compare_and_ours_below_them():
    assert compare.published_table(finished()).empty
    own = [result("iai", 0.6), result("iai", 0.7, metric="ap_micro")]
    own += [result("iai", value, metric="f1_macro", seed=seed) for seed, value in enumerate((0.4, 0.5))]
    one = finished([*own, result("iai", 0.9, fraction=5.0)])
    other = {"model": "ResNet", "input": "all sensors", "ap_macro": 0.7, "ap_micro": 0.8, "f1_macro": 0.6}
    one = replace(one, published={"rows": [other], "source": "", "why": ""})
    table = compare.published_table(one)
    assert table["model"].tolist() == ["ResNet", "IaI-SimCLR (this run)"]
    assert table.iloc[1, 2:].tolist() == [0.6, 0.7, pytest.approx(0.45)]
