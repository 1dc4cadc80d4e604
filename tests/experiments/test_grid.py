from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd

from mosaic.experiments.grid import Trial, checkpoint_folder, left_out, plan, settings_of
from mosaic.methods import METHODS
from mosaic.settings import StudySettings


def settings(**values):
    return StudySettings(**{"label_fractions": [5.0, 100.0], **values})


def grid(**values):
    return settings(**values).grid


def test_methods_that_use_no_labels_have_one_cell_a_seed():
    trials = plan(grid(methods=["random", "iai", "simclr_s1"], seeds=2))
    assert len(trials) == len(set(trials)) == 6
    assert {trial.budget for trial in trials} == {0.0}


def test_both_protocols_share_the_encoder_that_saw_all_labels():
    assert plan(grid(methods=["mosaic"])) == [Trial("mosaic", 0, 5.0), Trial("mosaic", 0, 100.0)]
    assert plan(grid(methods=["mosaic"], label_budgets=["full"])) == [Trial("mosaic", 0, 100.0)]


def test_full_label_pretraining_is_planned_even_where_no_budget_is_100():
    trials = plan(grid(methods=["mosaic"], label_fractions=[5.0]))
    assert [trial.budget for trial in trials] == [5.0, 100.0]


def test_every_method_gets_the_same_schedule_and_only_the_label_term_its_weight():
    chosen = settings(methods=list(METHODS), label_weight=4.0)
    configs = {name: settings_of(Trial(name, 0, 100.0), chosen) for name in METHODS}
    same = ("steps", "batch_scenes", "learning_rate", "image_size", "crop_scale", "radiometry")
    for field in same:
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
