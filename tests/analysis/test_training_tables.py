import pandas as pd
import pytest

from mosaic.analysis.training_tables import (
    methods_table,
    training_answer,
    training_costs,
    training_logs,
    tuning_table,
)
from mosaic.utils.files import write_json


def test_the_table_of_methods_shows_their_terms():
    table = methods_table(["iai", "mosaic"]).set_index("method")
    assert table.loc["IaI-SimCLR", ["intra", "inter", "label", "classify"]].tolist() == ["1", "1", "0", "0"]
    assert table.loc["MoSAiC", "label"] == "1"


def test_the_table_of_candidates_states_effort_and_gain():
    rows = [
        ("iai", "as the run", 0.3, 10.0, False),
        ("iai", "temperature intra 0.2", 0.6, 20.0, True),
        ("supcon", "as the run", 0.7, 5.0, True),
    ]
    tuned = pd.DataFrame(rows, columns=["method", "candidate", "validation_ap", "seconds", "chosen"])
    table = tuning_table(tuned).set_index("method")
    assert table["seconds"].tolist() == [30.0, 5.0]
    assert table["gain over the run's setting"].tolist() == pytest.approx([0.3, 0.0])
    assert table.at["IaI-SimCLR", "candidates"] == "as the run; temperature intra 0.2"
    assert table.at["Multi-label SupCon", "chosen"] == "as the run"


def test_logs_and_costs_stand_beside_method_seed_and_budget(tmp_path):
    for name in ("a", "b"):
        write_json(tmp_path / name / "card.json", {"timing": {"seconds": 3.0}})
    (tmp_path / "a" / "log.csv").write_text("step,loss\n1,0.5\n2,0.25\n")  # the other was not trained
    encoders = pd.DataFrame({"method": ["iai", "random"], "seed": 0, "budget": 0.0})
    encoders["folder"] = [str(tmp_path / name) for name in ("a", "b")]
    assert training_logs(encoders)[["method", "loss"]].values.tolist() == [["iai", 0.5], ["iai", 0.25]]
    assert training_costs(encoders)["seconds"].tolist() == [3.0, 0.0]  # random features are not trained
    assert training_logs(encoders[1:]).empty


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


def test_logs_of_nothing_have_the_columns_that_figures_ask_for(tmp_path):
    logs = training_logs(pd.DataFrame({"method": ["random"], "seed": 0, "folder": [str(tmp_path)]}))
    assert logs[logs["budget"].isin([0, 100])].dropna(subset=["embedding_std", "knn"]).empty
