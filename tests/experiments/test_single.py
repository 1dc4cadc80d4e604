from types import SimpleNamespace

import numpy as np
import pytest

from mosaic.experiments import single
from mosaic.experiments.single import train_one
from mosaic.settings import StudySettings, TrialSettings, fields
from mosaic.store.label_budgets import label_budgets
from mosaic.utils.errors import BudgetError, SettingsError

LABELS = (np.random.default_rng(0).random((200, 4)) < 0.4).astype(np.uint8)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Ask for an encoder of data with 150 training patches; returns configuration and labelled rows."""
    store = SimpleNamespace(labels=LABELS, split_rows=lambda split: np.arange(150))
    monkeypatch.setattr(single, "PackedStore", lambda folder: store)
    monkeypatch.setattr(single, "pretrain", lambda store, config, rows, folder: (config, rows))
    return lambda method, fraction, **parameters: train_one(tmp_path, tmp_path, method, fraction, parameters)


def test_labels_are_the_budget_of_the_fraction_and_seed(asked):
    config, rows = asked("mosaic", 20.0, seed=3, steps=7)
    assert config == TrialSettings(method="mosaic", seed=3, steps=7)
    assert np.array_equal(rows, label_budgets(LABELS, np.arange(150), [20.0], seed=3)[20.0])
    assert np.array_equal(asked("mosaic", 100.0)[1], np.arange(150))
    with pytest.raises(BudgetError, match="at most 100"):
        asked("mosaic", 101.0)


def test_methods_that_use_no_labels_get_none(asked):
    assert len(asked("iai", 20.0)[1]) == 0


def test_every_parameter_of_a_trial_is_checked(asked):
    assert asked("iai", 20.0, msc_alpha=0.5)[0] == TrialSettings(method="iai", **{"msc_alpha": 0.5})
    wrong = {"msc_alpha": "x", "seed": 1.5, "precision": "16", "steps": 0, "learning_rate": 0.0}
    for name, value in wrong.items():
        with pytest.raises(SettingsError, match=f"train: parameter '{name}'"):
            asked("iai", 20.0, **{name: value})
    for name in set(fields(StudySettings)) - set(fields(TrialSettings)):
        with pytest.raises(SettingsError, match=f"train has no parameter '{name}'"):
            asked("iai", 20.0, **{name: 1})
