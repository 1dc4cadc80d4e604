from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.experiments import grid as grid_module
from mosaic.experiments.grid import Trial, checkpoint_folder, left_out, plan, settings_of, train_one
from mosaic.methods import METHODS
from mosaic.settings import StudySettings, TrialSettings, fields
from mosaic.store.label_budgets import label_budgets
from mosaic.utils.errors import BudgetError, SettingsError


def settings(**values):
    return StudySettings(**{"label_fractions": [5.0, 100.0], **values})


def test_methods_that_use_no_labels_have_one_trial_a_seed():
    trials = plan(settings(methods=["random", "iai", "simclr_s1"], seeds=2).grid)
    assert len(trials) == len(set(trials)) == 6
    assert {trial.budget for trial in trials} == {0.0}


@pytest.mark.parametrize(
    ("changes", "budgets"),
    [({}, [5.0, 100.0]), ({"label_budgets": ["full"]}, [100.0]), ({"label_fractions": [5.0]}, [5.0, 100.0])],
)
def test_shared_and_full_label_budgets_have_the_encoder_that_saw_all_labels_in_common(changes, budgets):
    trials = plan(settings(methods=["mosaic"], **changes).grid)
    assert trials == [Trial("mosaic", 0, budget) for budget in budgets]


def test_every_method_gets_the_same_schedule_and_only_the_label_term_its_weight():
    chosen = settings(methods=list(METHODS), label_weight=4.0)
    configs = {name: settings_of(Trial(name, 0, 100.0), chosen) for name in METHODS}
    for field in ("steps", "batch_scenes", "learning_rate", "image_size", "crop_scale", "radiometry"):
        assert len({config.flat()[field] for config in configs.values()}) == 1
    others = {name: config.encoder for name, config in configs.items() if config.encoder != "light"}
    assert others == {"supervised_vit": "vit_light", "mosaic_vit": "vit_light", "sct": "sct_light"}
    weighted = {name for name, config in configs.items() if config.weighted_method().label == 4.0}
    variants = ("no_intra", "no_inter", "temporal", "classify", "vit")
    assert weighted == {"mosaic", *(f"mosaic_{variant}" for variant in variants)}
    assert configs["supcon"].weighted_method().label == 1.0
    assert configs["iai"].weighted_method().label == 0.0


def test_views_of_two_dates_are_left_out_where_no_place_was_seen_twice():
    for counts, absent in (([0, 1], []), ([0, 0], ["mosaic_temporal"])):
        store = SimpleNamespace(temporal_positives=SimpleNamespace(counts=np.array(counts)))
        assert left_out(store, ["mosaic", "mosaic_temporal"])["key"].tolist() == absent


def test_a_changed_row_of_the_table_is_another_encoder(tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    store = SimpleNamespace(fingerprint="f", index=pd.DataFrame({"patch_id": ["a", "b"]}))
    config = settings_of(Trial("decur", 0, 0.0), settings())

    def folder(**changes):
        monkeypatch.setitem(METHODS, "decur", replace(METHODS["decur"], **changes))
        return checkpoint_folder(store, config, np.empty(0, np.int64))

    assert folder() == folder(title="another title") != folder(inter=0.5)


LABELS = (np.random.default_rng(0).random((200, 4)) < 0.4).astype(np.uint8)


@pytest.fixture
def asked(monkeypatch, tmp_path):
    """Ask for an encoder of data with 150 training patches; returns its settings and labelled rows."""
    store = SimpleNamespace(labels=LABELS, split_rows=lambda split: np.arange(150))
    monkeypatch.setattr(grid_module, "PackedStore", lambda folder: store)
    monkeypatch.setattr(grid_module, "pretrain", lambda store, settings, rows, folder: (settings, rows))
    return lambda method, fraction, **parameters: train_one(tmp_path, tmp_path, method, fraction, parameters)


def test_labels_are_the_budget_of_the_fraction_and_seed(asked):
    found, rows = asked("mosaic", 20.0, seed=3, steps=7)
    assert found == TrialSettings(method="mosaic", seed=3, steps=7)
    assert np.array_equal(rows, label_budgets(LABELS, np.arange(150), [20.0], seed=3)[20.0])
    assert np.array_equal(asked("mosaic", 100.0)[1], np.arange(150))
    assert len(asked("iai", 20.0)[1]) == 0  # uses none
    with pytest.raises(BudgetError, match="at most 100"):
        asked("mosaic", 101.0)


def test_every_parameter_of_a_trial_is_checked(asked):
    assert asked("iai", 20.0, msc_alpha=0.5)[0] == TrialSettings(method="iai", **{"msc_alpha": 0.5})
    for name, value in {"msc_alpha": "x", "seed": 1.5, "precision": "16", "learning_rate": 0.0}.items():
        with pytest.raises(SettingsError, match=f"train: parameter '{name}'"):
            asked("iai", 20.0, **{name: value})
    for name in set(fields(StudySettings)) - {*fields(TrialSettings), "plugins"}:
        with pytest.raises(SettingsError, match=f"train has no parameter '{name}'"):
            asked("iai", 20.0, **{name: 1})


def test_plugins_are_loaded_before_the_parameters_are_checked(asked, tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_PLUGINS", "")
    plugin = tmp_path / "mine.py"
    plugin.write_text(
        "from dataclasses import replace\nfrom mosaic.methods import METHODS, register_method\n"
        "register_method(replace(METHODS['iai'], name='mine'))\n"
    )
    try:
        assert asked("mine", 20.0, plugins=[str(plugin)])[0].method == "mine"
    finally:
        METHODS.pop("mine", None)
