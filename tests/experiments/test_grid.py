import inspect
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.experiments import grid as grid_module
from mosaic.experiments.grid import (
    Trial,
    left_out,
    plan,
    require_trained_on,
    settings_of,
    train_one,
    training_task,
    used_settings,
)
from mosaic.losses.objectives.base import LOSSES
from mosaic.methods import METHODS
from mosaic.settings import GridSettings, StudySettings, TrialSettings, fields
from mosaic.store.label_budgets import label_budgets
from mosaic.utils.errors import RunError, SettingsError


@pytest.mark.parametrize(
    ("fractions", "kinds", "budgets"),
    [
        ([5.0, 100.0], ["shared", "full"], [5.0, 100.0]),  # which have that of all labels in common
        ([5.0], ["shared", "full"], [5.0, 100.0]),
        ([5.0, 100.0], ["full"], [100.0]),
    ],
)
def test_methods_have_a_trial_for_each_seed_and_if_they_use_labels_budget(fractions, kinds, budgets):
    grid = GridSettings(label_fractions=fractions, label_budgets=kinds, methods=["iai", "mosaic"], seeds=2)
    expected = [Trial("iai", 0, 0.0), *(Trial("mosaic", 0, budget) for budget in budgets)]
    assert plan(grid) == [replace(trial, seed=seed) for seed in range(2) for trial in expected]


def test_every_method_gets_the_same_schedule_and_only_the_label_term_its_weight():
    chosen = StudySettings(methods=list(METHODS), label_weight=4.0)
    configs = {name: settings_of(Trial(name, 0, 100.0), chosen) for name in METHODS}
    for field in ("steps", "batch_scenes", "learning_rate", "image_size", "crop_scale", "radiometry"):
        assert len({config.flat()[field] for config in configs.values()}) == 1
    others = {name: config.encoder for name, config in configs.items() if config.encoder != "light"}
    vits = {"supervised_vit": "vit_light", "mosaic_vit": "vit_light", "sct": "sct_light"}
    assert others == {**vits, "band_statistics": "statistics"}
    weights = {name: config.weighted_method().label for name, config in configs.items()}
    variants = ("no_intra", "no_inter", "temporal", "classify", "vit")
    assert {n for n in weights if weights[n] == 4.0} == {"mosaic", *(f"mosaic_{each}" for each in variants)}
    assert (weights["supcon"], weights["iai"]) == (1.0, 0.0)


def test_views_of_two_dates_are_left_out_where_no_place_was_seen_twice():
    for counts, absent in (([0, 1], []), ([0, 0], ["mosaic_temporal"])):
        store = SimpleNamespace(temporal_positives=SimpleNamespace(counts=np.array(counts)))
        assert left_out(store, ["mosaic", "mosaic_temporal"])["key"].tolist() == absent


TRAINED = {name for name, method in METHODS.items() if method.trained}
LABEL = {n for n in TRAINED if METHODS[n].label}
CONTRASTIVE = {n for n in TRAINED if METHODS[n].loss == "contrastive"}
INSTANCE = {n for n in TRAINED if METHODS[n].intra or METHODS[n].inter}
KERNEL = {n for n in LABEL if METHODS[n].loss in ("contrastive", "queue")}
#: Other values of the parameters of a trial, and the methods that read them.
READERS = [
    ({"image_size": 32, "crop_scale": 0.5, "shared_geometry": False, "radiometry": 0.5}, {*METHODS}),
    ({"batch_scenes": 32, "monitor_every": 7, "seed": 1, "encoder": "resnet18"}, {*METHODS}),
    ({"steps": 9, "precision": "bf16-mixed"}, TRAINED),
    ({"learning_rate": 0.01, "weight_decay": 0.01, "warmup_fraction": 0.01}, TRAINED),
    ({"capture": False, "compile_encoder": "no", "gpu_records": 0.1, "log_every": 3}, set()),
    ({"labelled_share": 0.5}, {n for n in LABEL if not METHODS[n].sees_labelled_only}),
    ({"temperature_intra": 0.3}, {n for n in CONTRASTIVE if METHODS[n].intra}),
    ({"temperature_inter": 0.3, "inter_style": "clip"}, {n for n in CONTRASTIVE if METHODS[n].inter}),
    ({"temperature_label": 0.3, "kernel_threshold": 0.3, "unlabelled_negatives": False}, LABEL - {"sadcl"}),
    ({"label_weight": 2.0}, LABEL & INSTANCE),
    ({"kernel": "cosine"}, {n for n in KERNEL if not METHODS[n].kernel}),
    ({"projection_dim": 64}, LABEL | INSTANCE),
    ({"msc_alpha": 0.5, "msc_beta": 0.5}, {"msc", "supcon_msc"}),
    ({"off_diagonal": 0.01}, {"barlow", "decur"}),
    ({"covariance": 2.0}, {"vicreg"}),
    ({"contrast_weight": 0.5}, {"sadcl"}),
    ({"queue_size": 64, "key_momentum": 0.5}, {"supcon_queue"}),
    ({"temperature_spread": 0.25, "rarity_pull": 0.25}, {"macl"}),
]
CHANGES = [(name, value, readers) for values, readers in READERS for name, value in values.items()]


@pytest.fixture(scope="module")
def key():
    """Return the name of the folder of a method's encoder, with changed parameters."""
    store = SimpleNamespace(fingerprint="f", index=pd.DataFrame({"patch_id": ["a", "b"]}))

    def folder(method, **changes):
        config = TrialSettings(method=method).replace(**changes)
        return training_task(store, Trial(method, 0, 0.0), config, np.empty(0, np.int64)).path.parent.name

    return folder


@pytest.fixture(scope="module")
def unchanged(key):
    """Method -> its key."""
    return {method: key(method) for method in METHODS}


@pytest.mark.parametrize(("name", "value", "readers"), CHANGES)
def test_a_parameter_gives_a_new_key_to_the_methods_that_read_it(key, unchanged, name, value, readers):
    assert {method for method in METHODS if key(method, **{name: value}) != unchanged[method]} == readers


def test_every_parameter_of_a_trial_was_changed_above():
    assert set(fields(TrialSettings)) == {"method", "initial", *(name for name, *_ in CHANGES)}


@pytest.mark.parametrize("loss", [kind for kind in LOSSES.values() if "reads" in vars(kind)])
def test_what_losses_declare_to_read_is_true(loss):
    """With the losses they inherit from, they name the fields that stand in their source."""
    ours = [kind for kind in loss.__mro__ if kind.__module__.startswith("mosaic.losses")]
    read = set(re.findall(r"settings\.(\w+)", "".join(map(inspect.getsource, ours))))
    family = [kind for kind in LOSSES.values() if issubclass(loss, kind)]
    assert read == set().union(*(names for kind in family for names in kind.reads.values()))


def test_auto_precision_reaches_neither_key_nor_trial(key, monkeypatch):
    assert key("mosaic") == key("mosaic", precision="32") != key("mosaic", precision="bf16-mixed")
    monkeypatch.setattr(grid_module, "resolve_precision", lambda precision: "bf16-mixed")  # another machine
    assert key("mosaic") == key("mosaic", precision="bf16-mixed")
    assert used_settings(TrialSettings()).precision == "bf16-mixed"


def test_a_changed_row_of_the_table_is_another_encoder(key, monkeypatch):
    def changed(**columns):
        monkeypatch.setitem(METHODS, "decur", replace(METHODS["decur"], **columns))
        return key("decur")

    assert changed() == changed(title="another title") != changed(inter=0.5)


def test_a_loss_of_a_user_may_read_every_setting(key, monkeypatch):
    monkeypatch.setitem(LOSSES, "mine", lambda projections, labels, labelled: 0)
    monkeypatch.setitem(METHODS, "mine", replace(METHODS["supcon"], name="mine", loss="mine"))
    assert key("mine") != key("mine", covariance=2.0)


def test_an_encoder_of_other_data_is_named(tmp_path):
    (tmp_path / "card.json").write_text('{"data": "f"}')
    encoders = pd.DataFrame({"folder": [str(tmp_path)]})
    require_trained_on(SimpleNamespace(fingerprint="f"), encoders)
    with pytest.raises(RunError, match=f"{tmp_path} was trained on other data.*run 02_pretrain again"):
        require_trained_on(SimpleNamespace(fingerprint="g", folder="packed"), encoders)


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


def test_every_parameter_of_a_trial_is_checked(asked):
    assert asked("iai", 20.0, msc_alpha=0.5)[0] == TrialSettings(method="iai", **{"msc_alpha": 0.5})
    for name, value in {"msc_alpha": "x", "seed": 1.5, "precision": "16", "learning_rate": 0.0}.items():
        with pytest.raises(SettingsError, match=f"train: parameter '{name}'"):
            asked("iai", 20.0, **{name: value})
    for name in set(fields(StudySettings)) - {*fields(TrialSettings), "plugins"}:
        with pytest.raises(SettingsError, match=f"train has no parameter '{name}'"):
            asked("iai", 20.0, **{name: 1})
    with pytest.raises(SettingsError, match=r"absent\.py is not there"):  # it may register the method
        asked("mine", 20.0, msc_alpha="x", plugins=["absent.py"])
