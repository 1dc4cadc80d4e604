from types import SimpleNamespace

import numpy as np
import pandas as pd

from mosaic.experiments import tuning
from mosaic.experiments.grid import Trial, settings_of
from mosaic.experiments.predictions import save_arrays
from mosaic.experiments.study import Study
from mosaic.methods import METHODS
from mosaic.settings import GridSettings, StudySettings
from mosaic.utils.files import write_json


def test_trained_methods_have_three_candidates_of_known_settings_the_runs_own_first():
    grid = GridSettings(methods=list(METHODS), tuning_steps=5)
    tried = pd.DataFrame(tuning.candidates(grid), columns=["method", "changes"]).groupby("method")["changes"]
    assert (
        set(tried.groups) == {n for n, m in METHODS.items() if m.trained and not m.like} >= set(tuning.GRIDS)
    )
    for name, changes in tried:
        assert len(changes) == 3 and changes.iloc[0] == {}
        for change in changes:
            chosen = settings_of(Trial(name, 0, 100.0), StudySettings(), {name: change})
            assert chosen.flat() | change == chosen.flat()


def test_validation_decides_and_a_variant_tunes_the_method_it_is_like(store, tmp_path, monkeypatch):
    """By known probes: best are the second candidate of one method and the first of the other."""
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    quality = {"iai": [0.3, 0.6, 0.5], "supcon": [0.7, 0.6, 0.5]}
    trained = []

    def pretrain(store, config, rows, card):
        write_json(card, {"timing": {"seconds": 10.0}})
        trained.append((config, rows))

    def probe(encoder, probes, store, rows, path):
        share = quality[encoder["method"]].pop(0)
        noise = np.random.default_rng(1).random((len(rows), 5))
        save_arrays(path, {"scores": share * store.labels[rows] + (1 - share) * noise})

    monkeypatch.setattr(tuning.grid, "pretrain_trial", pretrain)
    monkeypatch.setattr(tuning, "probe_trial", probe)
    chosen = {"methods": ["random", "supcon_any", "iai"], "tuning_steps": 7, "label_fractions": [100.0]}
    table = tuning.tune_all(Study("02_pretrain", StudySettings(**chosen, jobs=1), tmp_path), store)
    assert list(dict.fromkeys(table["method"])) == ["iai", "supcon"]
    assert table["chosen"].tolist() == [False, True, False, True, False, False]
    assert tuning.choices(table) == {"iai": tuning.GRIDS["iai"][1], "supcon": {}}
    assert {(config.steps, config.seed) for config, _ in trained} == {(7, tuning.SEED)}
    labelled = {config.method: len(rows) for config, rows in trained}
    assert labelled == {"iai": 0, "supcon": 90}


def test_a_run_without_trial_steps_tries_and_chooses_nothing():
    assert tuning.candidates(GridSettings(methods=list(METHODS))) == []
    assert tuning.choices(tuning.tune_all(SimpleNamespace(settings=StudySettings()), None)) == {}


def test_a_variant_takes_the_choice_of_its_method():
    choices = {"mosaic": {"label_weight": 0.3, "temperature_intra": 0.2}}
    settings = StudySettings()
    assert settings_of(Trial("mosaic_temporal", 0, 100.0), settings, choices).loss.label_weight == 0.3
    assert settings_of(Trial("iai", 0, 0.0), settings, choices).loss.temperature_intra == 0.5
