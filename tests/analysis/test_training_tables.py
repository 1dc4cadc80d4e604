import pandas as pd
import pytest

from mosaic.analysis.training_tables import training_answer, training_costs, training_logs
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
    encoders = pd.DataFrame({"method": methods, "seed": 0, "folder": "none"})
    last = pd.DataFrame({"method": methods[-len(ranks) :] if ranks else [], "effective_rank": ranks})
    assert training_answer(encoders, last, steps=1) == answer
