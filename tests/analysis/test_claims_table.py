from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis.claims_table import ArchiveClaims, as_json, judge_claims
from mosaic.evaluation.claims import CLAIMS

RANDOM = np.random.default_rng(0)
N, C = 120, 5
LABELS = (RANDOM.random((2 * N, C)) < 0.4).astype(np.uint8)
STORE = SimpleNamespace(
    labels=LABELS,
    scenes=np.array([f"s{i % 24}" for i in range(2 * N)]),
    split_rows=lambda split: {"validation": np.arange(N), "test": np.arange(N, 2 * N)}[split],
    fingerprint="f",
)


class Study:
    """Predictions and embeddings of known quality, on disk as the study keeps them."""

    def __init__(self, folder):
        self.folder = folder
        self.rows, self.embedded = [], []

    def predict(self, method, fraction, evaluation, validation, test, protocol="budgeted", seeds=3):
        """Write predictions that are the truth with the given share of noise, split by split."""
        for seed in range(seeds):
            path = self.folder / f"{len(self.rows)}.npz"
            random = np.random.default_rng(len(self.rows))
            truth = {"validation": LABELS[:N], "test": LABELS[N:]}
            noise = {"validation": validation, "test": test}
            source = method.rsplit("_", 1)[1] if method.startswith("simclr") else "fused"
            key = f"{evaluation}|{source}|{fraction:g}"
            arrays = {
                f"{key}|{split}": ((1 - noise[split]) * y + noise[split] * random.random((N, C))).astype("f4")
                for split, y in truth.items()
            }
            np.savez(path, **arrays)
            entry = {"seed": seed, "method": method, "label_protocol": protocol, "fraction": fraction}
            self.rows.append(
                {**entry, "evaluation": evaluation, "input": source, "path": str(path), "key": key}
            )

    def embed(self, method, validation, test, seeds=3):
        for seed in range(seeds):
            path = self.folder / f"embedded-{len(self.embedded)}.npz"
            random = np.random.default_rng(len(self.embedded))
            values = {"validation": validation, "test": test}
            arrays = {f"coherence|{s}": v + 0.05 * random.normal(size=N) for s, v in values.items()}
            np.savez(path, **arrays)
            self.embedded.append({"method": method, "seed": seed, "path": str(path)})

    def claims(self, **more):
        embedded = pd.DataFrame(self.embedded, columns=["method", "seed", "path"])
        return ArchiveClaims(
            "Archive", STORE, pd.DataFrame(self.rows), embedded, np.arange(N, 2 * N), 1000, **more
        )


@pytest.fixture
def study(tmp_path):
    return Study(tmp_path)


def claim(name):
    return next(one for one in CLAIMS if one.name == name)


def test_evaluation_and_opponent_are_chosen_on_validation_not_on_test(study):
    """On the test split the losing choices would look better; they must not be taken."""
    study.predict("mosaic", 100.0, "linear", validation=0.5, test=0.8)
    study.predict("mosaic", 100.0, "knn", validation=0.7, test=0.1)
    study.predict("iai", 100.0, "linear", validation=0.6, test=0.6, protocol="none")
    study.predict("inter", 100.0, "linear", validation=0.7, test=0.1, protocol="none")
    archive = study.claims()
    assert archive.entry("mosaic", 100.0).evaluation == "linear"
    found = archive.compare(claim("accuracy vs self-supervised"))
    assert found.ours == "MoSAiC (linear probe)"
    assert found.opponent == "IaI-SimCLR (linear probe)"
    assert found.effect < 0
    assert found.n_seeds == 3


def test_full_label_pretraining_never_enters_a_few_label_claim(study):
    study.predict("mosaic", 5.0, "linear", 0.8, 0.8)
    study.predict("mosaic", 5.0, "linear", 0.0, 0.0, protocol="full")
    study.predict("mosaic", 100.0, "linear", 0.5, 0.5)
    study.predict("iai", 5.0, "linear", 0.6, 0.6, protocol="none")
    assert study.claims().compare(claim("few labels vs self-supervised")).effect < 0


def test_overlap_counts_only_patches_of_several_labels(study):
    study.predict("mosaic", 100.0, "linear", 0.5, 0.5)
    study.predict("iai", 100.0, "linear", 0.6, 0.7, protocol="none")
    archive = study.claims()
    many = LABELS[N:].sum(1) >= 3
    found = archive.difference(archive.entry("mosaic", 100.0), archive.entry("iai", 100.0), "overlap")
    assert found.n_scenes == len(np.unique(STORE.scenes[N:][many]))


def test_claims_without_their_methods_are_undecided_and_say_why(study):
    study.predict("iai", 100.0, "linear", 0.5, 0.5, protocol="none")
    table = judge_claims([study.claims()])
    assert len(table) == len(CLAIMS)
    assert set(table["verdict"]) == {"undecided"}
    assert table.set_index("name").at["accuracy vs supervised", "reason"] == "no MoSAiC in this run"
    assert "one label fraction" in table.set_index("name").at["few labels vs supervised", "reason"]


def test_a_clear_and_steady_advantage_is_supported_and_its_reverse_is_not(study):
    study.predict("mosaic", 100.0, "linear", 0.5, 0.5)
    study.predict("iai", 100.0, "linear", 0.8, 0.9, protocol="none")
    study.predict("supervised_late", 100.0, "end_to_end", 0.1, 0.1)
    study.embed("mosaic", 0.5, 0.5)
    study.embed("iai", 0.3, 0.3)
    study.embed("supervised_late", 0.7, 0.7)
    verdicts = judge_claims([study.claims()]).set_index("name")["verdict"]
    assert verdicts["accuracy vs self-supervised"] == "supported"
    assert verdicts["accuracy vs supervised"] == "not supported"
    assert verdicts["coherence vs self-supervised"] == "supported"
    assert verdicts["coherence vs supervised"] == "not supported"


def test_an_opponent_with_fewer_seeds_enters_no_claim(study):
    study.predict("mosaic", 100.0, "linear", 0.5, 0.5)
    study.predict("vicreg", 100.0, "linear", 0.1, 0.1, protocol="none", seeds=1)
    why = study.claims().compare(claim("accuracy vs self-supervised")).opponent
    assert why == "no self-supervised method with all seeds in this run"
    study.predict("iai", 100.0, "linear", 0.6, 0.6, protocol="none")
    found = study.claims().compare(claim("accuracy vs self-supervised"))
    assert found.opponent == "IaI-SimCLR (linear probe)"
    study.embed("mosaic", 0.5, 0.5)
    study.embed("vicreg", 0.9, 0.9, seeds=1)
    assert "all seeds" in study.claims().compare(claim("coherence vs self-supervised")).opponent


def test_where_trials_of_an_opponent_failed_nothing_is_decided_against_its_family(study):
    study.predict("mosaic", 100.0, "linear", 0.5, 0.5)
    study.predict("iai", 100.0, "linear", 0.8, 0.9, protocol="none")
    study.predict("supervised_late", 100.0, "linear", 0.8, 0.9)
    archive = study.claims(lost=["vicreg"])
    assert "VICReg failed" in archive.compare(claim("accuracy vs self-supervised")).opponent
    assert np.isfinite(archive.compare(claim("accuracy vs supervised")).effect)


def test_a_difference_is_paired_by_the_seeds_of_both_sides(study):
    study.predict("mosaic", 100.0, "linear", 0.5, 0.5)
    study.predict("iai", 100.0, "linear", 0.6, 0.6, protocol="none", seeds=2)
    archive = study.claims()
    assert archive.difference(archive.entry("mosaic", 100.0), archive.entry("iai", 100.0)).n_seeds == 2


def test_archives_are_judged_together_and_corrected_for_all(study, tmp_path):
    for one in (study, other := Study(tmp_path / "other")):
        one.folder.mkdir(exist_ok=True)
        one.predict("mosaic", 100.0, "linear", 0.5, 0.5)
        one.predict("iai", 100.0, "linear", 0.8, 0.9, protocol="none")
    alone = judge_claims([study.claims()])
    both = judge_claims([study.claims(), other.claims()])
    assert len(both) == 2 * len(alone)
    assert both["dataset"].tolist() == ["Archive"] * 2 * len(CLAIMS)
    name = "accuracy vs self-supervised"
    first = alone.set_index("name").at[name, "p_holm"]
    assert both[both["name"] == name]["p_holm"].iloc[0] > first


def test_the_ablation_compares_with_the_method_less_a_term(study):
    study.predict("mosaic", 100.0, "linear", 0.7, 0.7)
    study.predict("iai", 100.0, "linear", 1.0, 1.0, protocol="none")
    table = study.claims().ablation()
    assert table["term"].tolist() == ["label"]  # untuned, IaI-SimCLR is MoSAiC less its label term
    assert table["effect"].item() > 0
    study.predict("mosaic_no_label", 100.0, "linear", 0.4, 0.4, protocol="none")
    study.predict("mosaic_no_label", 100.0, "knn", 0.1, 1.0, protocol="none")
    table = study.claims().ablation()
    assert table["effect"].item() < 0  # by the probe, as all methods are, whichever is best on validation


def test_json_has_no_nan(study):
    study.predict("iai", 100.0, "linear", 0.4, 0.4, protocol="none")
    content = as_json(judge_claims([study.claims()]), {"level": 0.05})
    assert content["claims"][0]["effect"] is None
    assert content["claims"][0]["verdict"] == "undecided"
