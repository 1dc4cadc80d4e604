import pytest

from mosaic.analysis import compare
from mosaic.evaluation.uncertainty import estimate_ap
from mosaic.experiments.predictions import load
from mosaic.losses.label_kernels import KERNELS


def test_methods_are_compared_on_every_input_by_one_evaluation_and_budget(run_of, result):
    kept = [result("iai"), result("iai", input="s1"), result("iai", metric="ap_micro"), result("random")]
    others = ({"input": "fused_without_s1"}, {"evaluation": "knn"}, {"seed": 0}, {"label_budget": "full"})
    left_out = [result("iai", 0.99, **other) for other in (*others, {"metric": "lrap"}, {"stratum": "a"})]
    rows = compare.compared_rows(run_of(results=kept + left_out))
    assert rows.index.tolist() == [0, 1, 2, 3]
    assert rows["archive"].unique().tolist() == ["A"]


def test_only_methods_with_all_seeds_are_ranked_and_by_their_scores(run_of, study, predict):
    rows = predict("random", 0.95) + predict("iai", 0.5) + predict("mosaic", 0.6) + predict("inter", 0.1, [0])
    table, _ = compare.method_ranking(study, [run_of(rows)])
    assert table["method"].tolist() == ["iai", "mosaic", "random"]
    assert table["rank"].tolist() == [1, 2, 3]


def test_methods_of_other_seeds_are_compared_on_the_seeds_that_all_have(run_of, study, predict, truth):
    rows = predict("supcon", 0.6) + predict("supcon_any", 0.5, [0]) + predict("supcon_queue", 0.1, [0])
    run = run_of(rows)
    table = compare.on_common_seeds(study, run, ["supcon_any", "supcon"])
    assert table[["method", "fraction"]].values.tolist() == [["supcon", 100.0], ["supcon_any", 100.0]]
    assert table["n_seeds"].tolist() == [1, 1]
    for row, of_first_seed in zip(table.to_dict("records"), (rows[0], rows[2]), strict=True):
        expected = estimate_ap(truth[0], [load(of_first_seed)], truth[1]).interval()
        assert (row["value"], row["low"]) == pytest.approx((expected.value, expected.low))
    assert compare.on_common_seeds(study, run, []).empty


@pytest.mark.parametrize(
    ("tuned", "setting", "kernel"),
    [
        ({"kernel": "idf_jaccard"}, "jaccard", "idf_jaccard"),
        ({"temperature_label": 0.2}, "jaccard", "jaccard"),
        ({}, "cosine", "cosine"),
    ],
)
def test_the_kernel_of_supcon_is_the_one_it_was_tuned_to_and_stands_once(run_of, tuned, setting, kernel):
    kernels = compare.kernels_of(run_of(choices={"supcon": tuned}, kernel=setting))
    assert kernels["supcon"] == kernel
    assert sorted(kernels.values()) == sorted({*KERNELS, "msc"})


def test_a_term_adds_what_mosaic_gains_over_the_method_without_it(run_of, study, predict):
    rows = predict("mosaic", 0.7, range(3)) + predict("iai", 1.0)
    table = compare.term_gains(study, run_of(rows))
    assert table[["term", "n_seeds"]].values.tolist() == [["label", 2]]  # untuned, that is IaI-SimCLR
    assert table["value"][0] > 0
    rows += predict("mosaic_no_label", 0.4) + predict("mosaic_no_label", 1.0, evaluation="knn")
    assert compare.term_gains(study, run_of(rows))["value"][0] < 0  # by the probe, as all methods are


def test_published_scores_are_shown_only_where_they_compare_and_ours_below_them(run_of, result):
    assert compare.published_table(run_of()).empty
    rows = [result("iai", 0.6), result("iai", 0.7, metric="ap_micro"), result("iai", 0.9, fraction=5.0)]
    rows += [result("iai", value, metric="f1_macro", seed=seed) for seed, value in enumerate((0.4, 0.5))]
    other = {"model": "ResNet", "input": "all sensors", "ap_macro": 0.7, "ap_micro": 0.8, "f1_macro": 0.6}
    table = compare.published_table(run_of(results=rows, published=[other]))
    assert table["model"].tolist() == ["ResNet", "IaI-SimCLR (this run)"]
    assert table.iloc[1, 2:].tolist() == [0.6, 0.7, pytest.approx(0.45)]
    # scores of one sensor stand beside ours of that sensor
    rows += [result("iai", 0.3, metric="ap_micro", input=name) for name in ("s1", "s2", "fused_without_s1")]
    rows += [result("iai", 0.9, metric="ap_micro", input="s1", label_budget="full")]
    other = {"model": "A", "input": "S1", "ap_micro": 0.4}
    table = compare.published_table(run_of(results=rows, published=[other]))
    assert table["input"].tolist() == ["S1", "S1", "all sensors"]
    assert table["micro AP"].tolist() == [0.4, 0.3, 0.7]
