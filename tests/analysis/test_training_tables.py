import numpy as np
import pandas as pd
import pytest

from mosaic.analysis.training_tables import (
    length_answer,
    training_answer,
    training_costs,
    training_logs,
    validation_scores,
)
from mosaic.utils.files import write_json


def test_logs_and_costs_stand_beside_method_seed_and_budget(tmp_path):
    card = {"timing": {"seconds": 3.0}, "parameters": {"encoder": 9, "trained": 8}, "settings": {"steps": 7}}
    for name in ("a", "b"):
        write_json(tmp_path / name / "card.json", card)
    (tmp_path / "a" / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n")  # the other was not trained
    encoders = pd.DataFrame({"method": ["iai", "random"], "seed": 0, "budget": 0.0})
    encoders["folder"] = [str(tmp_path / name) for name in ("a", "b")]
    assert training_logs(encoders)[["method", "loss"]].values.tolist() == [["iai", 0.5], ["iai", 0.25]]
    costs = training_costs(encoders)[["seconds", "trained", "steps", "parameters"]]
    assert costs.values.tolist() == [[3, 8, 7, 9], [0, 0, 0, 9]]  # random features are not trained
    none = training_logs(encoders[1:])
    assert none[none["budget"].isin([0, 100])].dropna(subset=["embedding_std", "knn"]).empty


@pytest.mark.parametrize(
    ("methods", "ranks", "answer"),
    [
        (["random"], [], "No method of this run is trained."),
        (["random", "iai"], [9.2], "1 encoder of 1 method and 1 seed trained for 1 step; none collapsed: "
         "least effective rank 9."),
        (["iai", "mosaic"], [9.2, 1.1], "MoSAiC collapsed: effective rank 1 (1 encoder). 2 encoders of 2 "
         "methods and 1 seed trained for 1 step; MoSAiC collapsed: least effective rank 1."),
        (["mosaic"] * 2, [9.2, 12.1], "MoSAiC does not collapse: effective rank 9 to 12 (2 encoders). 2 "
         "encoders of 1 method and 1 seed trained for 1 step; none collapsed: least effective rank 9."),
        (["iai"], [], "1 encoder of 1 method and 1 seed trained for 1 step; none was checked for collapse."),
    ],
)  # fmt: skip
def test_the_answer_counts_what_was_trained_and_names_what_collapsed(methods, ranks, answer):
    encoders = pd.DataFrame({"method": methods, "seed": 0, "budget": range(len(methods))})
    untrained = pd.DataFrame({"method": ["band_statistics"], "seed": 0, "budget": 0, "step": 0})
    logs = [untrained.assign(effective_rank=1.0)]  # of few dimensions, none of which collapsed
    for step, shift in ((0, -9), (1, 0)):  # the last check counts
        checks = encoders[-len(ranks) :] if ranks else encoders[:0]
        logs.append(checks.assign(step=step, effective_rank=[rank + shift for rank in ranks]))
    assert training_answer(encoders, pd.concat(logs), steps=1) == answer


def curves(**methods):
    """Return scores of two seeds, 0.1 apart, at steps 0, 50, ... of each method."""
    rows = [
        (name, seed, 50 * i, value + 0.1 * (seed - 0.5))
        for name, values in methods.items()
        for seed in (0, 1)
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(rows, columns=["method", "seed", "step", "knn"])


def test_curves_that_rise_flatten_and_fall_are_told_apart_by_their_last_third():
    scores = curves(
        random=[0.4],  # not trained: no curve
        iai=[0.40, 0.55, 0.60, 0.604],  # flattened
        mosaic=[0.40, 0.45, 0.50, 0.53],  # rises
        supcon=[0.40, 0.60, 0.60, 0.585],  # falls
    )
    assert length_answer(scores) == (
        "from step 100 to 150, where a change below 0.01 counts as flat, still rising: MoSAiC (+0.030); "
        "flattened: IaI-SimCLR (+0.004); falling: Multi-label SupCon (−0.015). Longer training could change "
        "the order."
    )


def test_flat_curves_give_no_reason_to_train_longer():
    scores = curves(iai=[0.4, 0.6, 0.6, 0.609], mosaic=[0.4, 0.65, 0.7, 0.7 - 0.009])
    answer = length_answer(scores)
    assert "rising" not in answer and "falling" not in answer
    assert answer.endswith("Flat for this length of schedule; a longer one could change the order.")
    assert "from step 50 to 100" in length_answer(scores[scores["step"] <= 100])  # 100 is within no 2/3
    assert length_answer(curves(random=[0.4])) == length_answer(scores[:0])
    assert length_answer(scores[:0]) == "no training was scored on validation."


def test_scores_are_of_methods_with_all_seeds_and_of_one_label_budget(tmp_path):
    rows = [("iai", 0, 0.0), ("iai", 1, 0.0), ("mosaic", 0, 5.0), ("mosaic", 0, 100.0), ("mosaic", 1, 100.0)]
    encoders = pd.DataFrame([*rows, ("sct", 0, 100.0)], columns=["method", "seed", "budget"])
    encoders["folder"] = [str(tmp_path / str(i)) for i in encoders.index]
    for i in encoders.index:
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "log.csv").write_text(f"step,knn\n0,0.1\n1,\n2,0.{2 + i}\n")
    found = validation_scores(encoders)
    assert found.drop_duplicates(["method", "seed"])[["method", "seed"]].values.tolist() == [
        ["iai", 0], ["iai", 1], ["mosaic", 0], ["mosaic", 1]
    ]  # fmt: skip
    assert found["step"].unique().tolist() == [0, 2]
    np.testing.assert_allclose(found.loc[found["step"] == 2, "knn"], [0.2, 0.3, 0.5, 0.6])
    assert validation_scores(encoders[:0]).empty
