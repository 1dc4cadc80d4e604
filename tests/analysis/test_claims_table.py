import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mosaic.analysis.claims_table import ArchiveClaims, as_json, judge_claims
from mosaic.evaluation.claims import CLAIMS
from mosaic.experiments.predictions import load


class Archive:
    """Predictions and embeddings of known quality."""

    def __init__(self, folder, write, run_of):
        self.folder, self.write, self.run_of = folder, write, run_of
        self.rows, self.embedded = [], pd.DataFrame(columns=["method", "seed", "path"])

    def predict(self, method, noise, **more):
        self.rows += self.write(method, noise, **{"seeds": range(3)} | more)

    def embed(self, method, quality, seeds=3, scenes=60):
        for seed in range(seeds):
            path, random = self.folder / f"{method}-{seed}.npz", np.random.default_rng(len(self.embedded))
            of_scenes = quality + 0.05 * random.normal(size=scenes)
            without = (of_scenes.sum() - of_scenes) / (scenes - 1)
            names = "neighbours|validation", "neighbours|test"
            np.savez(path, **dict.fromkeys(names, np.append(of_scenes.mean(), without)))
            self.embedded.loc[len(self.embedded)] = method, seed, str(path)

    def claims(self, **more):
        return ArchiveClaims(self.run_of(self.rows, embeddings=self.embedded, **more))

    def compare(self, name, **more):
        return self.claims(**more).compare(next(claim for claim in CLAIMS if claim.name == name))


@pytest.fixture
def archive(tmp_path, predict, run_of):
    return Archive(tmp_path, predict, run_of)


def test_evaluation_and_opponent_are_chosen_on_validation_not_on_test(archive):
    """On the test split the losing choices would look better; they must not be taken."""
    archive.predict("mosaic", {"validation": 0.5, "test": 0.8})
    archive.predict("mosaic", {"validation": 0.7, "test": 0.1}, evaluation="knn")
    archive.predict("iai", 0.6)
    archive.predict("inter", {"validation": 0.7, "test": 0.1})
    archive.predict("mosaic", 0.0, evaluation="finetune")  # enters no claim, however well
    comparison = archive.compare("accuracy vs self-supervised")
    assert comparison.sides == "MoSAiC (linear probe) against IaI-SimCLR (linear probe)"
    assert comparison.difference.value < 0
    assert comparison.difference.n_seeds == 3


def test_full_label_pretraining_never_enters_a_few_label_claim(archive):
    archive.predict("mosaic", 0.8, fraction=5.0)
    archive.predict("mosaic", 0.0, fraction=5.0, budget="full")
    archive.predict("mosaic", 0.5)
    archive.predict("iai", 0.6, fraction=5.0)
    assert archive.compare("few labels vs self-supervised").difference.value < 0
    del archive.rows[:3]
    assert archive.compare("few labels vs self-supervised").sides.startswith("no MoSAiC with 5 % of the")


def test_overlap_is_which_class_among_carriers_of_the_other(archive, store, truth, monkeypatch):
    archive.predict("mosaic", 0.5)
    archive.predict("iai", {"validation": 0.6, "test": 0.7})
    scores, (labels, _) = [], truth
    for each in map(load, archive.rows[:3]):
        pairs = [(labels[:, b] == 1, a) for a, b in ((1, 2), (2, 1))]  # forest and town
        scores.append(np.mean([average_precision_score(labels[m, a], each[m, a]) for m, a in pairs]))
    entry = archive.claims().entry("mosaic", "ap_conditional", 100.0)
    assert archive.claims().estimate(entry, "ap_conditional").values == pytest.approx(scores)
    assert archive.compare("overlap vs self-supervised").difference.value > 0
    monkeypatch.setattr(store, "manifest", SimpleNamespace(confusable={}))
    assert archive.compare("overlap vs self-supervised").sides.startswith("no confusable pair")


def test_claims_without_their_methods_are_not_tested_and_say_why(archive, study):
    archive.predict("iai", 0.5)
    table = judge_claims(study, [archive.claims()]).set_index("name")
    assert len(table) == len(CLAIMS)
    assert set(table["verdict"]) == {"not tested"}
    assert table.at["accuracy vs supervised", "reason"].startswith("no MoSAiC with 100 % of the labels")
    assert "no label fraction below 100 %" in table.at["few labels vs supervised", "reason"]
    archive.predict("mosaic", 0.4)
    for method in ("mosaic", "iai"):
        archive.embed(method, np.nan)  # all patches of one place
    assert archive.compare("coherence vs self-supervised").sides.startswith("nothing to score")
    for row in archive.rows:
        row["fraction"] = 5.0
    assert archive.compare("few labels vs self-supervised").difference
    assert archive.compare("accuracy vs self-supervised").sides == "no evaluation with all labels in this run"


def test_a_clear_and_steady_advantage_is_supported_and_its_reverse_is_not(archive, study):
    for method, noise, quality in (("mosaic", 0.7, 0.5), ("iai", 0.95, 0.3), ("supervised_late", 0.2, 0.7)):
        archive.predict(method, noise)
        archive.embed(method, quality)
    table = judge_claims(study, [archive.claims()]).set_index("name")
    assert "no band statistics or random features" in table.at["accuracy vs supervised", "reason"]
    for method in ("band_statistics", "random"):
        archive.predict(method, 0.99)
    verdicts = judge_claims(study, [archive.claims()]).set_index("name")["verdict"]
    for topic in ("accuracy", "coherence"):
        assert verdicts[f"{topic} vs self-supervised"] == "supported"
        assert verdicts[f"{topic} vs supervised"] == "not supported"


def test_below_band_statistics_or_not_above_random_features_there_is_no_verdict(archive, study):
    archive.predict("mosaic", 0.6)
    archive.predict("iai", 0.95)
    archive.predict("random", 0.9)
    archive.predict("random", 0.1, evaluation="finetune")  # which is training
    archive.predict("band_statistics", 0.9)

    def accuracy():
        table = judge_claims(study, [archive.claims()])
        return table.set_index("name").loc["accuracy vs self-supervised", ["verdict", "reason"]].tolist()

    assert accuracy()[0] == "supported"
    archive.predict("band_statistics", 0.4, evaluation="trees")
    verdict, reason = accuracy()
    assert verdict == "undecided"
    assert reason.startswith("too little training: MoSAiC less band statistics -0.")
    assert ", less random features +0." in reason


def test_what_the_archive_can_show_is_the_bar_over_chance_and_the_best_by_validation_over_the_bar(
    archive, truth
):
    archive.predict("random", 0.95)
    assert archive.claims().what_it_can_show().empty
    archive.predict("band_statistics", 0.6)
    archive.predict("iai", {"validation": 0.1, "test": 0.9})
    archive.predict("inter", {"validation": 0.5, "test": 0.1})
    archive.predict("vicreg", {"validation": 0.01, "test": 0.1}, seeds=[0])  # too few to be the best
    table = archive.claims().what_it_can_show()
    assert table["comparison"].tolist() == [
        "Band statistics (linear probe) less Random features (linear probe)",
        "IaI-SimCLR (linear probe) less Band statistics (linear probe)",
    ]
    assert table["shown"].tolist() == ["yes", "no"]
    scores = [average_precision_score(truth[0], load(row)) for row in archive.rows[:9]]
    chance, bar, best = np.mean(np.reshape(scores, (3, 3)), axis=1)
    assert table["value"].tolist() == pytest.approx([bar - chance, best - bar])
    assert (table["low"] < table["value"]).all()
    archive.rows = [row for row in archive.rows if row["seed"] == 0]
    few = archive.claims().what_it_can_show()
    assert (few["low"].iloc[0] > 0, few["shown"].unique().tolist()) == (True, ["undecided"])


def test_four_scenes_decide_no_claim(archive, study, store, monkeypatch):
    """However large an advantage is; what is written is JSON, without NaN in a number or text."""
    monkeypatch.setattr(store, "scenes", np.array([f"s{i // 2 % 4}" for i in range(len(store))]))
    for method, noise, quality in (("mosaic", 0.2, 0.7), ("iai", 0.95, 0.3), ("random", 0.99, 0.1)):
        archive.predict(method, noise)
        archive.embed(method, quality, scenes=4)
    content = as_json(judge_claims(study, [archive.claims()]))
    tested = [claim for claim in content["claims"] if claim["effect"] is not None]
    assert len(tested) == 3
    for claim in tested:
        assert (claim["verdict"], claim["effect"] > 0.1) == ("undecided", True)
        assert claim["reason"].startswith("too few scenes (4)")
        assert claim["low"] is claim["p_value"] is claim["mde"] is None
    assert "nan" not in json.dumps(content, allow_nan=False)


def test_an_opponent_with_fewer_seeds_enters_no_claim(archive):
    archive.predict("mosaic", 0.5)
    archive.predict("vicreg", 0.1, seeds=[0])
    alone = archive.compare("accuracy vs self-supervised")
    assert alone.sides == "no self-supervised method with all seeds in this run"
    archive.predict("iai", 0.6)
    assert "against IaI-SimCLR" in archive.compare("accuracy vs self-supervised").sides
    archive.embed("mosaic", 0.5)
    archive.embed("vicreg", 0.9, seeds=1)
    assert "all seeds" in archive.compare("coherence vs self-supervised").sides


def test_where_trials_of_an_opponent_failed_nothing_is_decided_against_its_family(archive):
    archive.predict("mosaic", 0.5)
    archive.predict("iai", {"validation": 0.8, "test": 0.9})
    archive.predict("supervised_late", {"validation": 0.8, "test": 0.9})
    assert "VICReg failed" in archive.compare("accuracy vs self-supervised", lost=["vicreg"]).sides
    assert archive.compare("accuracy vs supervised", lost=["vicreg"]).difference
