"""The whole sequence, tiny: what it leaves, what a rerun reuses, and what one changed parameter reruns."""

import json
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import average_precision_score

from mosaic.experiments.grid import Trial, checkpoint_folder, settings_of
from mosaic.methods import METHODS
from mosaic.models.checkpoint import load_encoder
from mosaic.settings import NOTEBOOKS, make
from mosaic.store.reader import PackedStore
from mosaic.utils.files import read_json

pytestmark = pytest.mark.slow


def rerun(folder: Path, *parameters: str) -> str:
    """Run the sequence again in the same place; returns its output, without what libraries say on stderr."""
    command = [sys.executable, "-m", "mosaic", "run", "--profile", "smoke", *parameters]
    environment = {**os.environ, "MOSAIC_ROOT": str(folder.parents[1])}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_notebook_leaves_a_finished_report(smoke_run):
    records = {record["name"]: record for record in read_json(smoke_run / "run.json")["notebooks"]}
    assert list(records) == list(NOTEBOOKS)
    assert {record["status"] for record in records.values()} == {"finished"}
    for name in [*NOTEBOOKS, "index"]:
        page = smoke_run / f"{name}.html"
        assert page.stat().st_size < 2_000_000
    assert not [path.name for path in smoke_run.iterdir() if "partial" in path.name]


def test_executed_notebooks_hold_no_error_and_no_progress(smoke_run):
    for name in NOTEBOOKS:
        notebook = nbformat.read(smoke_run / f"{name}.ipynb", 4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert not [output for output in outputs if output["output_type"] == "error"]
        streams = [output["text"] for output in outputs if output["output_type"] == "stream"]
        assert not streams, streams[:3]


def test_results_are_tidy_and_their_scores_are_scikit_learns(smoke_run):
    results = pd.read_parquet(smoke_run / "results.parquet")
    assert set(results["method"]) == {
        "random",
        "supervised_late",
        "mimrf",
        "simclr_s2",
        "iai",
        "mosaic",
    }
    assert {"knn", "linear", "finetune", "end_to_end"} == set(results["evaluation"])
    keys = ["method", "label_budget", "fraction", "evaluation", "input", "stratum", "metric", "seed"]
    assert not results.duplicated(keys).any()
    spans = results.dropna(subset=["low"])
    assert (spans["low"] <= spans["high"]).all()

    store = PackedStore(Path(read_json(smoke_run / "archive.json")["packed"]))
    labels = store.labels[store.split_rows("test")]
    prediction = pd.read_parquet(smoke_run / "predictions.parquet").iloc[7]
    with np.load(prediction["path"]) as file:
        scores = file[f"{prediction['key']}|test"]
    present = labels.any(0)
    expected = average_precision_score(labels[:, present], scores[:, present], average="macro")
    found = results
    for key in ("method", "label_budget", "fraction", "evaluation", "input", "seed"):
        found = found[found[key] == prediction[key]]
    value = found.query("metric == 'ap_macro' and stratum == 'all'")["value"].item()
    assert value == pytest.approx(expected, abs=1e-6)


def test_budgets_are_nested_and_labels_beyond_them_never_reached_an_encoder(smoke_run):
    (quarter,) = read_json(smoke_run / "label_budgets-seed0.json")["budgets"]
    store = PackedStore(Path(read_json(smoke_run / "archive.json")["packed"]))
    train = set(store.index["patch_id"].iloc[store.split_rows("train")])
    assert quarter["fraction_percent"] == 25
    assert set(quarter["patches"]) < train
    for trial in pd.read_parquet(smoke_run / "encoders.parquet").to_dict("records"):
        card = read_json(Path(trial["folder"]) / "card.json")
        allowed = len(train) * trial["budget"] / 100
        assert card["patches"]["labelled"] <= np.ceil(allowed)
        assert (card["patches"]["labelled"] > 0) == METHODS[trial["method"]].uses_labels


def test_one_seed_decides_no_claim(smoke_run):
    ledger = read_json(smoke_run / "claims.json")
    assert {claim["verdict"] for claim in ledger["claims"]} == {"undecided"}
    reasons = {claim["name"].rpartition(" vs ")[2]: claim["reason"] for claim in ledger["claims"]}
    assert reasons["supervised"].startswith("1 seed") and reasons["self-supervised"].startswith("1 seed")
    assert reasons["label-contrastive"].startswith("no label-contrastive")
    json.dumps(ledger, allow_nan=False)


def test_encoders_load_in_three_lines(smoke_run):
    trial = pd.read_parquet(smoke_run / "encoders.parquet").iloc[-1]
    encoder = load_encoder(trial["folder"])
    assert encoder.card["method"] == trial["method"]


def test_the_same_again_reuses_all_work_and_gives_the_same_numbers(smoke_run):
    before = pd.read_parquet(smoke_run / "results.parquet")
    claims = (smoke_run / "claims.json").read_text()
    told = rerun(smoke_run)
    assert "pretraining: 0 trials to run, 9 reused" in told
    assert "evaluation: 0 trials to run, 9 reused" in told
    assert "embeddings: 0 trials to run, 6 reused" in told
    assert "simulating" not in told
    assert told.rstrip().endswith("index.html")
    pd.testing.assert_frame_equal(pd.read_parquet(smoke_run / "results.parquet"), before)
    assert (smoke_run / "claims.json").read_text() == claims


@pytest.fixture(scope="module")
def partial_run(smoke_run):
    """A rerun with one method more, which fails as a file lies where its encoder should go, and another k.

    Returns its folder, what the terminal showed and that file.
    """
    store = PackedStore(Path(read_json(smoke_run / "archive.json")["packed"]))
    settings = make("02_pretrain", read_json(smoke_run / "02_pretrain.json")["settings"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSAIC_ROOT", str(smoke_run.parents[1]))
        own = settings_of(Trial("inter", 0, 0.0), settings)
        place = checkpoint_folder(store, own, np.empty(0, np.int64))
    place.parent.mkdir()
    place.write_text("in the way")
    methods = json.dumps([*settings.grid.methods, "inter"])
    changes = [f"methods={methods}", "neighbours=7", "evaluations=[knn]"]
    words = [word for value in changes for word in ("-p", value)]
    told = rerun(smoke_run, "--out", "partial", "--keep-going", *words)
    return smoke_run.parent / "partial", told, place


def test_a_run_that_keeps_going_reports_what_finished(smoke_run, partial_run):
    folder, told, place = partial_run
    assert "pretraining: 1 trials to run, 9 reused" in told
    methods, before = (
        set(pd.read_parquet(run / "encoders.parquet")["method"]) for run in (folder, smoke_run)
    )
    assert methods == before
    (reason,) = read_json(folder / "02_pretrain.json")["failed"]["pretraining"].values()
    assert str(place) in reason
    assert "inter seed 0" in (folder / "02_pretrain.html").read_text()
    records = read_json(folder / "run.json")["notebooks"]
    assert [record["status"] for record in records] == ["finished"] * len(NOTEBOOKS)


def test_one_parameter_reruns_what_depends_on_it(partial_run):
    """Another k of the kNN classifier: nothing is trained, every encoder is judged anew."""
    folder, told, _ = partial_run
    assert "evaluation: 9 trials to run, 0 reused" in told
    assert "embeddings: 0 trials to run, 6 reused" in told
    assert set(pd.read_parquet(folder / "results.parquet")["evaluation"]) == {"knn", "end_to_end"}


def test_a_place_that_was_held_out_reached_neither_encoder_nor_budget(smoke_run):
    """Two methods were trained without the largest country: their cards count its patches out."""
    (country,) = pd.read_parquet(smoke_run / "domain_shift.parquet")["domain"].unique()
    store = PackedStore(Path(read_json(smoke_run / "archive.json")["packed"]))
    train = store.index.iloc[store.split_rows("train")]
    elsewhere = int((train["country"] != country).sum())
    assert 0 < elsewhere < len(train)
    pretrained = smoke_run.parents[1] / "data" / "cache" / "pretrain"
    cards = [read_json(path) for path in pretrained.glob("*/*/card.json")]
    without = [card for card in cards if card["patches"]["train"] == elsewhere]
    assert sorted(card["method"] for card in without) == ["mosaic", "random"]
    assert {card["patches"]["labelled"] for card in without} == {0, elsewhere}


@pytest.fixture(scope="module")
def second_run(smoke_run):
    """A run on a simulated archive in the layout of SEN12MS, beside the first."""
    small = ["patches=96", "methods=[random,mosaic]", "label_fractions=[50.0,100.0]", "evaluations=[linear]"]
    words = [word for value in [*small, "companion_runs=[smoke]", "held_out=0"] for word in ("-p", value)]
    rerun(smoke_run, "--dataset", "sen12ms", "--out", "second", *words)
    return smoke_run.parent / "second"


def test_another_archive_runs_the_same_and_both_stand_in_its_ledger(second_run):
    records = read_json(second_run / "run.json")["notebooks"]
    assert [record["status"] for record in records] == ["finished"] * len(NOTEBOOKS)
    results = pd.read_parquet(second_run / "results.parquet")
    assert results["dataset"].unique().tolist() == ["sen12ms"]
    claims = read_json(second_run / "claims.json")["claims"]
    assert [claim["dataset"] for claim in claims] == ["SEN12MS"] * 15 + ["BigEarthNet v2"] * 15


def test_encoders_carry_over_between_the_archives_on_their_shared_bands(second_run):
    rows = pd.read_parquet(second_run / "transfer.parquet")
    archives = {"SEN12MS", "BigEarthNet v2"}
    assert set(zip(rows["source"], rows["target"], strict=True)) == {
        (a, b) for a in archives for b in archives
    }
    assert set(rows["method"]) == {"random", "mosaic"}
    assert rows.query("target == 'SEN12MS' and probe == 'target'")["fraction"].unique().tolist() == [50, 100]
    assert rows["value"].between(0, 1).all()
    pretrained = second_run.parents[1] / "data" / "cache" / "pretrain"
    bands = {
        tuple(read_json(path)["layout"]["sensors"][1]["bands"]) for path in pretrained.glob("*/*/card.json")
    }
    assert {len(names) for names in bands} == {12, 13}  # SEN12MS whole, and both less the cirrus band
    assert all("B10" not in names for names in bands if len(names) == 12)
