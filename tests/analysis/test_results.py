import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mosaic.analysis import results

RANDOM = np.random.default_rng(0)
CLASSES = ("Arable land", "Pastures", "Mixed forest", "Marine waters")


def test_methods_are_compared_by_one_evaluation_and_never_by_full_label_pretraining(result):
    rows = [
        result("iai"),
        result("iai", evaluation="knn"),
        result("iai", input="s1"),
        result("iai", fraction=5.0),
        result("mosaic", label_budget="shared"),
        result("mosaic", label_budget="full"),
        result("supervised_late", label_budget="shared", evaluation="end_to_end"),
        result("supervised_late", label_budget="shared"),
        result("supervised_s1", label_budget="shared", input="s1"),
    ]
    table = pd.DataFrame(rows)
    assert results.common_rows(table, 100.0).index.tolist() == [0, 4, 7, 8]
    assert results.common_evaluation_title(table) == "linear probe"


@pytest.mark.parametrize(
    "evaluations, kept, title",
    [
        (("knn", "end_to_end"), [0], "k nearest neighbours"),
        (("finetune", "end_to_end"), [0, 1], "fine-tuning or end to end"),
    ],
)
def test_without_a_linear_probe_another_evaluation_compares_all(result, evaluations, kept, title):
    table = pd.DataFrame([result("iai", evaluation=evaluation) for evaluation in evaluations])
    assert results.common_rows(table, 100.0).index.tolist() == kept
    assert results.common_evaluation_title(table) == title


def test_interval_table_has_a_column_a_fraction_in_ascending_order(result):
    rows = [result("mosaic", fraction=f, label_budget="shared") for f in (100.0, 5.0, 20.0)]
    table = results.interval_table(pd.DataFrame([*rows, result("random", fraction=5.0)]))
    assert table.columns.tolist()[:3] == ["method", "labels in pretraining", "evaluation"]
    assert table.columns.tolist()[3:] == ["5 %", "20 %", "100 %"]
    assert table["method"].tolist() == ["Random features", "MoSAiC"]
    assert table.index.tolist() == [0, 1]  # another index would be shown as a column
    assert table.iloc[1].tolist() == ["MoSAiC", "shared", "linear probe", *[(0.5, 0.4, 0.6)] * 3]


def test_metric_table_averages_seeds_and_leaves_out_the_pooled_row(result):
    rows = [result("iai", value, seed=seed) for seed, value in ((0, 0.2), (1, 0.4), (-1, 0.9))]
    table = results.metric_table(pd.DataFrame(rows), 100.0)
    assert table.loc[0, "macro average precision"] == pytest.approx(0.3)


def test_conditional_scores_have_a_column_a_method_and_are_means_over_seeds(predict):
    labels = (RANDOM.random((80, 4)) < 0.5).astype(np.uint8)
    store = SimpleNamespace(
        labels=labels,
        split_rows=lambda split: np.arange(80),
        class_names=CLASSES,
        manifest=SimpleNamespace(confusable={"open": CLASSES[:2]}),
    )
    iai, mosaic = (predict(m, {"test": labels}, {"test": n}, (0, 1)) for m, n in (("iai", 1), ("mosaic", 0)))
    methods = ["mosaic", "inter", "iai"]
    table = results.conditional_table(store, pd.DataFrame(iai + mosaic), methods, 100.0)
    assert table.columns[5:].tolist() == ["MoSAiC", "IaI-SimCLR"]
    assert table[["of", "among"]].values.tolist() == [list(CLASSES[:2]), list(CLASSES[1::-1])]
    assert table["MoSAiC"].tolist() == [1, 1]
    seeds = [np.load(row["path"])["linear|fused|100|test"] for row in iai]
    carriers = labels[:, 1] == 1
    expected = [average_precision_score(labels[carriers, 0], scores[carriers, 0]) for scores in seeds]
    assert table["IaI-SimCLR"][0] == pytest.approx(np.mean(expected))


def test_groups_derived_from_data_find_company_and_look(monkeypatch):
    """Two classes always come together; two others look alike."""
    pair = RANDOM.random(400) < 0.5
    nearly = pair ^ (RANDOM.random(400) < 0.05)
    labels = np.column_stack([pair, nearly, ~pair, RANDOM.random(400) < 0.3]).astype(np.uint8)
    signature = np.array([[0.0, 0.0], [9.0, 0.0], [5.0, 9.0], [5.2, 9.1]])
    share = labels / np.maximum(labels.sum(1, keepdims=True), 1)
    store = SimpleNamespace(
        class_names=CLASSES,
        labels=labels,
        split_rows=lambda split: np.arange(400),
        manifest=SimpleNamespace(confusable={"known": CLASSES[:2]}),
    )
    monkeypatch.setattr(results, "_band_means", lambda store, rows: share @ signature)
    monkeypatch.setattr(results, "similar_groups", lambda s, names: {"1": names_of_most_similar(s, names)})
    groups = results.hard_groups(store)
    assert groups["known"] == CLASSES[:2]
    assert groups["company 1"] == ("Arable land", "Pastures")
    assert groups["look-alike 1"] == ("Mixed forest", "Marine waters")


def names_of_most_similar(similarity, names):
    upper = np.where(np.triu(np.ones_like(similarity), 1) > 0, similarity, -np.inf)
    first, second = np.unravel_index(upper.argmax(), upper.shape)
    return (names[first], names[second])


def test_processes_that_score_load_neither_pytorch_nor_what_draws():
    """So that they start in a second."""
    code = "import sys, mosaic.analysis.scoring, mosaic.experiments.parallel; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert not loaded & {"torch", "torchvision", "timm", "lightning", "matplotlib", "seaborn"}


def test_classes_of_few_test_patches_are_named():
    test = (np.arange(40)[:, None] < [30, 3, 0]).astype(np.uint8)
    store = SimpleNamespace(
        class_names=("a", "b", "c"),
        labels=np.concatenate([[[1, 1, 0]], test]),
        split_rows=lambda split: np.arange(1) if split == "train" else np.arange(1, 41),
    )
    assert results.unscored_classes(store).values.tolist() == [["b", 1, 3], ["c", 0, 0]]


@pytest.mark.parametrize(
    ("scores", "answer"),
    [
        ({"A": 0.5}, "With 5 % of the labels A is the only method: macro AP 0.500 (linear probe)."),
        ({"A": 0.5, "B": 0.4}, "With 5 % of the labels A scores highest: macro AP 0.500 (linear probe)."),
        ({"A": 0.5, "B": 0.5001}, "With 5 % of the labels A and B score highest: macro AP 0.500 (linear "
         "probe)."),
    ],
)  # fmt: skip
def test_the_best_in_words_at_its_edges(scores, answer):
    rows = pd.DataFrame({"method": list(scores), "value": list(scores.values())})
    assert results.best_in_words(rows, 5.0, "linear probe") == answer
