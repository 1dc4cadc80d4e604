import copy

import pytest

from mosaic.analysis import run_tables
from mosaic.evaluation.uncertainty import estimate_ap
from mosaic.experiments.predictions import load
from mosaic.experiments.study import Study, reports_folder
from mosaic.settings import NOTEBOOKS, StudySettings
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import RunError


def test_a_planted_difference_is_found_with_its_interval(run_of, predict, truth):
    good, poor = predict("iai", 0, range(3), "knn"), predict("iai", 0.9, evaluation="knn")
    others = predict("iai", 0.9, range(3)) + predict("random", 0.9, [0], "knn")
    runs = {"good": run_of(good + others), "poor": run_of(poor), "same": run_of(good)}
    table = run_tables.run_scores(runs, ["poor", "same"]).set_index(["method", "run", "measure"])
    # by the evaluation that all have, and each method less itself
    labels, scenes = truth
    ap = [estimate_ap(labels, [load(row) for row in rows], scenes) for rows in (good[:2], poor, others[-1:])]
    expected = {("iai", "good"): 1, ("iai", "poor"): ap[1].value, ("iai", "same"): 1}
    expected["random", "good"] = ap[2].value
    assert table["value"].xs("score", level="measure").to_dict() == pytest.approx(expected)
    differences = table.xs(("iai", "difference"), level=("method", "measure"))
    assert differences.loc["same", ["value", "low", "high"]].tolist() == [0, 0, 0]
    expected = vars((ap[1] - ap[0]).interval())
    assert differences.loc["poor", list(expected)].to_dict() == pytest.approx(expected)
    assert differences["n_seeds"].to_dict() == {"poor": 2, "same": 3}  # those that both have
    with pytest.raises(RunError, match=r"no evaluation \(a has knn; b has linear\)"):
        run_tables.run_scores({"a": run_of(good), "b": run_of(others[:3])}, [])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("labels", lambda labels: 1 - labels),
        ("scenes", lambda scenes: scenes[::-1]),
        ("index", lambda index: index.assign(patch_id="q" + index["patch_id"])),
        ("split_rows", lambda rows: lambda split: rows(split)[1:]),
    ],
)
def test_runs_tested_on_anything_else_are_not_paired(run_of, store, name, change):
    other = copy.copy(store)
    setattr(other, name, change(getattr(store, name)))
    radar = PackedStore(store.folder, bands=["VV"])
    assert run_tables.paired_runs({"a": run_of(), "b": run_of(store=other), "c": run_of(store=radar)}) == [
        "c"
    ]


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
