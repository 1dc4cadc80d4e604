import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.experiments import tuning
from mosaic.experiments.grid import Trial, settings_of
from mosaic.methods import METHODS
from mosaic.settings import StudySettings, TrialSettings, fields
from mosaic.utils.files import write_json


def test_every_trained_method_has_the_same_number_of_candidates_the_runs_own_first():
    for method in METHODS.values():
        grid = tuning.grid_of(method)
        if method.trained and not method.like:
            assert len(grid) == 3 and grid[0] == {}, method.name
        else:
            assert grid == (), method.name


def test_every_candidate_changes_a_setting_of_the_trainer():
    known = set(fields(TrialSettings))
    for method in METHODS.values():
        for changes in tuning.grid_of(method):
            assert set(changes) <= known
            config = settings_of(Trial(method.name, 0, 100.0), StudySettings(), {method.name: changes})
            for name, value in changes.items():
                assert config.flat()[name] == value


def test_grids_are_of_methods_of_the_table_that_choose_for_themselves():
    assert all(METHODS[name].trained and not METHODS[name].like for name in tuning.GRIDS)


@pytest.fixture
def tuned(tmp_path, monkeypatch):
    """Tune two methods of known probes: best are the second candidate of one and the first of the other."""
    scores = {"iai": [0.3, 0.6, 0.5], "supcon": [0.7, 0.6, 0.5]}
    trained = []
    numbers = itertools.count()
    monkeypatch.setattr(
        tuning, "checkpoint_folder", lambda store, config, rows: tmp_path / str(next(numbers))
    )

    def train(run, calls, what):
        for _, config, rows, folder in calls.values():
            write_json(folder / "card.json", {"timing": {"seconds": 10.0}})
            trained.append((config, rows))
        return list(calls)

    def parallel_map(function, calls, what, jobs):
        assert function is tuning.validation_ap
        places = {name: iter(values) for name, values in scores.items()}
        return [next(places[method]) for _, _, method in calls]

    monkeypatch.setattr(tuning, "train_missing", train)
    monkeypatch.setattr(tuning, "parallel_map", parallel_map)
    settings = StudySettings(**{"methods": ["random", "supcon_any", "iai"], "tuning_steps": 7})
    store = SimpleNamespace(split_rows=lambda split: np.arange(5), fingerprint="f", folder=tmp_path)
    run = SimpleNamespace(settings=settings, cached=lambda name, key, compute: compute())
    return tuning.tune_all(run, store), trained


def test_validation_decides_and_a_variant_tunes_the_method_it_is_like(tuned):
    table, trained = tuned
    assert list(dict.fromkeys(table["method"])) == ["iai", "supcon"]
    assert table["chosen"].tolist() == [False, True, False, True, False, False]
    assert tuning.choices(table) == {"iai": tuning.GRIDS["iai"][1], "supcon": {}}
    assert {config.steps for config, _ in trained} == {7}
    assert {config.seed for config, _ in trained} == {tuning.SEED}
    labelled = {config.method: len(rows) for config, rows in trained}
    assert labelled == {"iai": 0, "supcon": 5}


def test_the_shown_grid_states_effort_and_gain(tuned):
    table, _ = tuned
    shown = tuning.shown(table).set_index("method")
    assert shown["seconds"].tolist() == [30.0, 30.0]
    assert shown.at["IaI-SimCLR", "gain over the run's setting"] == pytest.approx(0.3)
    assert shown.at["Multi-label SupCon", "chosen"] == "as the run"


def test_a_run_without_trial_steps_chooses_nothing():
    run = SimpleNamespace(settings=StudySettings())
    table = tuning.tune_all(run, None)
    assert isinstance(table, pd.DataFrame) and table.empty
    assert tuning.choices(table) == {}


def test_a_variant_takes_the_choice_of_its_method():
    choices = {"mosaic": {"label_weight": 0.3, "temperature_intra": 0.2}}
    settings = StudySettings()
    assert settings_of(Trial("mosaic_temporal", 0, 100.0), settings, choices).loss.label_weight == 0.3
    assert settings_of(Trial("iai", 0, 0.0), settings, choices).loss.temperature_intra == 0.5
