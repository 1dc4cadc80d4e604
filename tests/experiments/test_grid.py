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
from mosaic.settings import StudySettings, TrialSettings, fields
from mosaic.store.label_budgets import label_budgets
from mosaic.utils.errors import BudgetError, RunError, SettingsError


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
    trials = plan(settings(methods=["mosaic"], seeds=1, **changes).grid)
    assert trials == [Trial("mosaic", 0, budget) for budget in budgets]


def test_every_method_gets_the_same_schedule_and_only_the_label_term_its_weight():
    chosen = settings(methods=list(METHODS), label_weight=4.0)
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


TRAINED = [name for name, method in METHODS.items() if method.trained]
#: Parameter of a trial -> another value, and the methods that read it.
LABEL = {n for n in TRAINED if METHODS[n].label}
CONTRASTIVE = {n for n in TRAINED if METHODS[n].loss == "contrastive"}
INSTANCE = {n for n in TRAINED if METHODS[n].intra or METHODS[n].inter}
KERNEL = {n for n in LABEL if METHODS[n].loss in ("contrastive", "queue")}
CHANGES = {
    **{name: (value, set(METHODS)) for name, value in {"image_size": 32, "crop_scale": 0.5}.items()},
    **{name: (value, set(METHODS)) for name, value in {"batch_scenes": 32, "monitor_every": 7}.items()},
    **{name: (value, set(METHODS)) for name, value in {"shared_geometry": False, "radiometry": 0.5}.items()},
    **{name: (value, set(METHODS)) for name, value in {"seed": 1, "encoder": "resnet18"}.items()},
    **{name: (value, set(TRAINED)) for name, value in {"steps": 9, "precision": "bf16-mixed"}.items()},
    **{name: (0.01, set(TRAINED)) for name in ("learning_rate", "weight_decay", "warmup_fraction")},
    **{name: (value, set()) for name, value in {"capture": False, "compile_encoder": "no"}.items()},
    **{name: (value, set()) for name, value in {"gpu_records": 0.1, "log_every": 3}.items()},
    "labelled_share": (0.5, {n for n in LABEL if not METHODS[n].sees_labelled_only}),
    "temperature_intra": (0.3, {n for n in CONTRASTIVE if METHODS[n].intra}),
    "temperature_inter": (0.3, {n for n in CONTRASTIVE if METHODS[n].inter}),
    "inter_style": ("clip", {n for n in CONTRASTIVE if METHODS[n].inter}),
    **{name: (0.3, LABEL - {"sadcl"}) for name in ("temperature_label", "kernel_threshold")},
    "unlabelled_negatives": (False, LABEL - {"sadcl"}),
    "label_weight": (2.0, LABEL & INSTANCE),
    "kernel": ("cosine", {n for n in KERNEL if not METHODS[n].kernel}),
    "projection_dim": (64, LABEL | INSTANCE),
    **{name: (0.5, {"msc", "supcon_msc"}) for name in ("msc_alpha", "msc_beta")},
    "off_diagonal": (0.01, {"barlow", "decur"}),
    "covariance": (2.0, {"vicreg"}),
    "contrast_weight": (0.5, {"sadcl"}),
    **{name: (value, {"supcon_queue"}) for name, value in {"queue_size": 64, "key_momentum": 0.5}.items()},
    **{name: (0.25, {"macl"}) for name in ("temperature_spread", "rarity_pull")},
}


@pytest.fixture
def key(tmp_path, monkeypatch):
    """Return the name of the folder of a method's encoder, with changed parameters."""
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    store = SimpleNamespace(fingerprint="f", index=pd.DataFrame({"patch_id": ["a", "b"]}))

    def folder(method, **changes):
        config = TrialSettings(method=method).replace(**changes)
        return training_task(store, Trial(method, 0, 0.0), config, np.empty(0, np.int64)).path.parent.name

    return folder


@pytest.mark.parametrize("name", CHANGES)
def test_a_parameter_gives_a_new_key_to_the_methods_that_read_it(key, name):
    value, readers = CHANGES[name]
    assert {method for method in METHODS if key(method) != key(method, **{name: value})} == readers


def test_every_parameter_of_a_trial_was_changed_above():
    assert set(fields(TrialSettings)) == {"method", "initial", *CHANGES}


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
