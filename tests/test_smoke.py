"""The whole sequence, tiny: what it leaves, what a rerun reuses, and what one changed parameter reruns."""

import itertools
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import papermill
import pytest
from sklearn.metrics import average_precision_score

from mosaic.evaluation.metrics import scored_classes
from mosaic.experiments.grid import Trial, settings_of, training_task
from mosaic.methods import METHODS
from mosaic.report.sequence import load_profile, notebooks_folder, run_comparison
from mosaic.settings import NOTEBOOKS, make
from mosaic.store.reader import PackedStore
from mosaic.utils.files import read_json

pytestmark = pytest.mark.slow
BY_HAND = "03_finetune_low_label"


def store_of(run: Path) -> PackedStore:
    return PackedStore(run.parents[1] / read_json(run / "archive.json")["packed"])


def cards(run: Path) -> list[dict]:
    """Return the cards of all encoders that were trained in the place of a run."""
    return [read_json(path) for path in (run.parents[1] / "data/cache/pretrain").glob("*/*/card.json")]


def assert_finished(run: Path) -> None:
    records = read_json(run / "run.json")["notebooks"]
    assert {record["name"]: record["status"] for record in records} == dict.fromkeys(NOTEBOOKS, "finished")


def test_every_notebook_leaves_a_finished_report(smoke_run):
    assert_finished(smoke_run)
    for name in [*NOTEBOOKS, "index"]:
        assert (smoke_run / f"{name}.html").stat().st_size < 2_000_000
    assert not [path.name for path in smoke_run.iterdir() if "partial" in path.name]
    for path in [*smoke_run.glob("*.html"), *smoke_run.glob("*.ipynb"), smoke_run.parent / "index.html"]:
        assert str(smoke_run.parents[1]) not in path.read_text("utf-8"), path


def test_executed_notebooks_hold_no_error_no_progress_and_no_nan(smoke_run):
    def refuse(constant):
        raise AssertionError(constant)

    for name in NOTEBOOKS:
        text = (smoke_run / f"{name}.ipynb").read_text("utf-8")
        cells = json.loads(text, parse_constant=refuse)["cells"]  # JSON to strict parsers as well
        kinds = {output["output_type"] for cell in cells for output in cell.get("outputs", [])}
        assert not kinds & {"error", "stream"}


def test_results_are_tidy_and_their_scores_are_scikit_learns(smoke_run):
    results = pd.read_parquet(smoke_run / "results.parquet")
    ran = {"random", "band_statistics", "supervised_late", "mimrf", "simclr_s2", "iai", "mosaic"}
    assert set(results["method"]) == ran
    assert {"knn", "linear", "finetune", "end_to_end", "trees"} == set(results["evaluation"])
    statistics = results[results["method"] == "band_statistics"]
    assert set(statistics["evaluation"]) == {"knn", "linear", "trees"}
    keys = ["method", "label_budget", "fraction", "evaluation", "input", "stratum", "metric", "seed"]
    assert not results.duplicated(keys).any()
    spans = results.dropna(subset=["low"])
    assert (spans["low"] <= spans["high"]).all()

    store = store_of(smoke_run)
    labels = store.labels[store.split_rows("test")]
    prediction = pd.read_parquet(smoke_run / "predictions.parquet").iloc[7]
    with np.load(smoke_run.parents[1] / prediction["path"]) as file:
        scores = file[f"{prediction['key']}|test"]
    scored = scored_classes(labels)
    expected = average_precision_score(labels[:, scored], scores[:, scored], average="macro")
    for key in ("method", "label_budget", "fraction", "evaluation", "input", "seed"):
        results = results[results[key] == prediction[key]]
    value = results.query("metric == 'ap_macro' and stratum == 'all'")["value"].item()
    assert value == pytest.approx(expected, abs=1e-6)


def test_budgets_are_nested_and_labels_beyond_them_never_reached_an_encoder(smoke_run):
    (quarter,) = read_json(smoke_run / "label_budgets-seed0.json")["budgets"]
    store = store_of(smoke_run)
    train = set(store.index["patch_id"].iloc[store.split_rows("train")])
    assert quarter["fraction_percent"] == 25
    assert set(quarter["patches"]) < train
    for trial in pd.read_parquet(smoke_run / "encoders.parquet").to_dict("records"):
        labelled = read_json(smoke_run.parents[1] / trial["folder"] / "card.json")["patches"]["labelled"]
        assert labelled <= np.ceil(len(train) * trial["budget"] / 100)
        assert (labelled > 0) == METHODS[trial["method"]].uses_labels


def test_one_seed_decides_no_claim_and_controls_of_known_answer_are_decided(smoke_run):
    content = read_json(smoke_run / "claims.json")
    assert {claim["verdict"] for claim in content["claims"]} == {"undecided", "not tested"}
    for claim in content["claims"]:
        untested = claim["name"].endswith("label-contrastive")
        reason = "no label-contrastive" if untested else "1 seed cannot decide; at least 3"
        assert claim["reason"].startswith(reason) and claim["p_value"] is None
    (path,) = (smoke_run.parents[1] / "data/cache/controls").glob("*.parquet")
    *undecided, yes, no = pd.read_parquet(path)["verdict"]
    assert (yes, no) == ("supported", "not supported")
    assert not {yes, no} & set(undecided)


def test_a_place_that_was_held_out_reached_neither_encoder_nor_budget(smoke_run):
    """Three methods were trained without the largest country: their cards count its patches out."""
    (country,) = pd.read_parquet(smoke_run / "domain_shift.parquet")["domain"].unique()
    store = store_of(smoke_run)
    train = store.index.iloc[store.split_rows("train")]
    elsewhere = int((train["country"] != country).sum())
    assert 0 < elsewhere < len(train)
    without = [card for card in cards(smoke_run) if card["patches"]["train"] == elsewhere]
    assert sorted(card["method"] for card in without) == ["band_statistics", "mosaic", "random"]
    assert {card["patches"]["labelled"] for card in without} == {0, elsewhere}


@pytest.fixture(scope="module")
def later_runs(smoke_run, run_smoke):
    """Two more runs in the same place at the same time: their folders, and what the terminal of one showed.

    ``partial`` is the same again with one method more, which fails as a file lies where its encoder should go
    (``in_the_way``). ``second`` is of a simulated archive in the layout of SEN12MS, with the first run as its
    companion, in two processes.
    """
    settings = make("02_pretrain", read_json(smoke_run / "02_pretrain.json")["settings"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSAIC_ROOT", str(smoke_run.parents[1]))
        trial, no_labels = Trial("inter", 0, 0.0), np.empty(0, np.int64)
        task = training_task(store_of(smoke_run), trial, settings_of(trial, settings), no_labels)
        in_the_way = task.path.parent
    in_the_way.parent.mkdir()
    in_the_way.write_text("in the way")
    small = {"patches": 96, "methods": ["random", "mosaic"], "label_fractions": [50.0, 100.0], "held_out": 0}
    small |= {"evaluations": ["linear"], "umap_methods": ["mosaic"], "companion_runs": ["smoke"]}
    small |= {"jobs": 2}
    more = {"methods": [*settings.grid.methods, "inter"]}
    with ThreadPoolExecutor(2) as pool:
        partial = pool.submit(run_smoke, "--out", "partial", "--keep-going", **more)
        second = pool.submit(run_smoke, "--dataset", "sen12ms", "--out", "second", **small)
        told = partial.result()
        second.result()
    partial, second = map(smoke_run.with_name, ("partial", "second"))
    return SimpleNamespace(partial=partial, told=told, in_the_way=in_the_way, second=second)


def test_the_same_again_reuses_all_work_and_gives_the_same_numbers(smoke_run, later_runs):
    folder, told = later_runs.partial, later_runs.told
    for stage, again, trials in (("pretraining", 1, 10), ("evaluation", 0, 10), ("embeddings", 0, 7)):
        assert f"{stage}: {again} trial{'s' * (again == 0)} to run, {trials} reused" in told
    assert "simulating" not in told
    assert told.rstrip().endswith("index.html")
    results, before = (pd.read_parquet(run / "results.parquet") for run in (folder, smoke_run))
    pd.testing.assert_frame_equal(results, before)
    claims, expected = (read_json(run / "claims.json")["claims"] for run in (folder, smoke_run))
    failed = "trials of Dual-SimCLR (inter only) failed, perhaps of the best opponent"
    pairs = list(zip(claims, expected, strict=True))
    assert all(claim == before or claim["reason"] == failed for claim, before in pairs)
    assert 0 < sum(claim == before for claim, before in pairs) < len(pairs)


def test_a_run_that_keeps_going_reports_what_finished(smoke_run, later_runs):
    folder = later_runs.partial
    encoders, before = (pd.read_parquet(run / "encoders.parquet") for run in (folder, smoke_run))
    assert set(encoders["method"]) == set(before["method"])
    (reason,) = read_json(folder / "02_pretrain.json")["failed"]["pretraining"].values()
    assert str(later_runs.in_the_way) in reason
    assert "inter seed 0" in (folder / "02_pretrain.html").read_text()
    assert_finished(folder)


def test_runs_lie_beside_each_other(later_runs, monkeypatch):
    """A method more, which failed, changes nothing; a run of another archive is not paired."""
    monkeypatch.setenv("MOSAIC_ROOT", str(later_runs.second.parents[1]))
    index = run_comparison(["smoke", "partial", "second"])
    notebook = nbformat.read(index.parent / "compare_runs.ipynb", 4)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    told = "\n".join(output["data"]["text/plain"] for output in outputs)
    assert "No difference is given for second" in told
    assert "MoSAiC in partial less smoke: +0.000 [+0.000, +0.000]" in told
    settings = told[told.index("Parameters that differ") :].partition("Origin and")[0]
    assert {"methods", "patches", "dataset", "companion_runs"} < set(settings.split())
    assert read_json(index.parent / "run.json")["status"] == "finished"


def test_one_parameter_reruns_what_depends_on_it(later_runs, tmp_path, monkeypatch, capfd):
    """Another k of the kNN classifier, in a notebook run by hand: every encoder is judged anew."""
    folder = later_runs.partial
    monkeypatch.setenv("MOSAIC_ROOT", str(folder.parents[1]))
    parameters = load_profile("smoke")[1] | {"out": folder.name, "neighbours": 7}
    parameters |= {"evaluations": ["knn"]}
    parameters = {name: value for name, value in parameters.items() if name in NOTEBOOKS[BY_HAND]}
    notebook = notebooks_folder() / f"{BY_HAND}.ipynb"
    options = {"cwd": notebook.parent, "stdout_file": sys.stdout, "progress_bar": False}
    papermill.execute_notebook(notebook, tmp_path / notebook.name, parameters, **options)
    assert "evaluation: 10 trials to run, 0 reused" in capfd.readouterr().out
    assert set(pd.read_parquet(folder / "results.parquet")["evaluation"]) == {"knn", "end_to_end", "trees"}


def test_another_archive_runs_the_same_and_claims_are_of_both(later_runs):
    second_run = later_runs.second
    assert_finished(second_run)
    results = pd.read_parquet(second_run / "results.parquet")
    assert results["dataset"].unique().tolist() == ["sen12ms"]
    claims = read_json(second_run / "claims.json")["claims"]
    archives = "SEN12MS, simulated", "BigEarthNet v2, simulated"
    assert [claim["dataset"] for claim in claims] == list(np.repeat(archives, 12))


def test_encoders_carry_over_between_the_archives_on_their_shared_bands(later_runs):
    rows = pd.read_parquet(later_runs.second / "transfer.parquet")
    archives = "SEN12MS, simulated", "BigEarthNet v2, simulated"
    assert set(zip(rows["source"], rows["target"], strict=True)) == set(itertools.product(archives, archives))
    assert set(rows["method"]) == {"random", "band_statistics", "mosaic"}
    to_sen12ms = rows.query("target == 'SEN12MS, simulated' and probe == 'target'")
    assert to_sen12ms["fraction"].unique().tolist() == [50, 100]
    assert rows.query("probe != 'change'")["value"].between(0, 1).all()
    bands = {tuple(card["layout"]["sensors"][1]["bands"]) for card in cards(later_runs.second)}
    assert {len(names) for names in bands} == {12, 13}  # SEN12MS whole, and both less the cirrus band
    assert all("B10" not in names for names in bands if len(names) == 12)
