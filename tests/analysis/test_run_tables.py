from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from mosaic.analysis import run_tables
from mosaic.experiments.study import Study, reports_folder
from mosaic.settings import NOTEBOOKS, StudySettings
from mosaic.utils.errors import RunError

N, SCENES = 60, 6
LABELS = (np.random.default_rng(0).random((N, 3)) < 0.5).astype(np.uint8)
PATCHES = pd.DataFrame({"patch_id": [f"p{i}" for i in range(N)]})
FLAT = np.full(LABELS.shape, 0.5)  # its average precision is the share of positives


@pytest.fixture
def run(study, predict):
    """Make a run of its predictions, by (method, evaluation, seeds), on packed data with changes."""

    def make(predictions, **changes):
        store = {"fingerprint": "f", "labels": LABELS, "class_names": ("a", "b", "c"), "index": PATCHES}
        store["scenes"] = np.array([f"s{i % SCENES}" for i in range(N)])
        store = SimpleNamespace(**store | {"split_rows": lambda split: np.arange(N)} | changes)
        rows = [
            row
            for (method, evaluation, seeds), scores in predictions.items()
            for row in predict(method, {"test": scores}, {"test": 0.0}, range(seeds), evaluation)
        ]
        return SimpleNamespace(
            **vars(study), read={"predictions": pd.DataFrame(rows)}.get, store=lambda: store
        )

    return make


def test_a_planted_difference_is_found_with_its_jackknife_interval(run):
    runs = {"good": run({("iai", "knn", 3): LABELS, ("iai", "linear", 3): FLAT, ("random", "knn", 1): FLAT})}
    runs |= {"flat": run({("iai", "knn", 2): FLAT}), "same": run({("iai", "knn", 3): LABELS})}
    table = run_tables.run_scores(runs, ["flat", "same"]).set_index(["method", "run", "measure"])
    # by the evaluation that all have, and each method less itself
    scores = table["value"].xs("score", level="measure").to_dict()
    share = pytest.approx(LABELS.mean())
    expected = {("iai", "good"): 1, ("iai", "flat"): share, ("iai", "same"): 1, ("random", "good"): share}
    assert scores == expected
    differences = table.xs(("iai", "difference"), level=("method", "measure"))
    assert differences.loc["same", ["value", "low", "high"]].tolist() == [0, 0, 0]
    without = np.array([LABELS[np.arange(N) % SCENES != s].mean() for s in range(SCENES)])
    error = np.sqrt((SCENES - 1) / SCENES * ((without - without.mean()) ** 2).sum())
    expected = LABELS.mean() - 1 + error * np.array([0, *t.interval(0.95, SCENES - 1)])
    assert differences.loc["flat", ["value", "low", "high"]].tolist() == pytest.approx(expected.tolist())
    assert differences["n_seeds"].to_dict() == {"flat": 2, "same": 3}  # those that both have


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": 1 - LABELS},
        {"scenes": np.array(["s"] * N)},
        {"index": "q" + PATCHES},
        {"split_rows": lambda split: np.arange(1, N)},
    ],
)
def test_runs_tested_on_anything_else_are_not_paired(run, changed):
    runs = {"a": run({}), "b": run({}, **changed), "c": run({}, fingerprint="other bands")}
    assert run_tables.paired_runs(runs) == ["c"]


@pytest.fixture
def finished(tmp_path, monkeypatch):
    """What two finished runs leave, which differ in a parameter and in what changes no result."""
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    for name, values in {"demo": {"jobs": 1}, "warm": {"jobs": 2, "temperature_label": 0.5}}.items():
        for notebook in list(NOTEBOOKS)[1:]:  # the first keeps nothing
            Study(notebook, StudySettings(out=name, **values), reports_folder(name)).write()


def test_settings_are_those_recorded(finished):
    before, after = map(run_tables.run_settings, run_tables.open_runs(["demo", "warm"]).values())
    assert {name: after[name] for name in before if after[name] != before[name]} == {"temperature_label": 0.5}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["demo", "demo"], "two runs or more"),
        (["demo", "wram"], "no run 'wram' in .*; did you mean 'warm'"),
        (["demo", "warm"], "warm/07_claims.json is missing: run 07_claims.ipynb with out='warm' first"),
    ],
)
def test_runs_that_cannot_be_compared_are_named(finished, names, message):
    (reports_folder("warm") / "07_claims.json").unlink()
    with pytest.raises(RunError, match=message):
        run_tables.open_runs(names)
