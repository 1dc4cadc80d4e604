from types import SimpleNamespace

import pandas as pd
import pytest

from mosaic.__main__ import main
from mosaic.experiments import grid as grid_module
from mosaic.experiments import plan as plan_module
from mosaic.experiments import transfer
from mosaic.experiments.study import Study
from mosaic.methods import get_method
from mosaic.settings import StudySettings, TrialSettings

CHOSEN = {
    "methods": ["random", "iai", "mosaic", "supervised_late", "band_statistics"],
    "label_fractions": [25.0, 100.0],
}
CHOSEN |= {"seeds": 2, "one_seed": ["iai"], "steps": 7, "image_size": 24, "batch_scenes": 16}


def cost(trial):
    """A step of the label contrast takes 2 s, any other 1 s."""
    seconds = 1.0 + (get_method(trial.method).label > 0)
    return {"step": seconds, "memory": 500.0, "parameters": 10, "width": 100}


@pytest.mark.parametrize("fractions", [[25.0, 100.0], [25.0]])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_trials_and_steps_are_those_that_a_run_trains(seeds, fractions, store, tmp_path, monkeypatch):
    monkeypatch.setenv("MOSAIC_ROOT", str(tmp_path))
    store.index, began = store.index.assign(country=["Finland", "Austria"] * (len(store) // 2)), {}
    monkeypatch.setattr(transfer, "PackedStore", lambda *subset: store)

    def run_trials(study, stage, function, tasks):
        for task in tasks.values() if function is grid_module.pretrain_trial else ():
            trial = task.arguments[1]  # the domain shift reuses those of the grid
            began.setdefault(stage, {})[task.path] = get_method(trial.method).trained * trial.steps
        return pd.DataFrame([{**task.row, "path": ""} for task in tasks.values()])

    monkeypatch.setattr(grid_module, "run_trials", run_trials)
    monkeypatch.setattr(transfer, "run_trials", run_trials)
    asked = {"held_out": 2, "held_out_seeds": seeds, "transfer_methods": ["random", "mosaic"]}
    asked |= {"label_fractions": fractions, "label_budgets": ["shared"]}
    settings = StudySettings(**CHOSEN | asked)
    study = Study("02_pretrain", settings, tmp_path)
    (tmp_path / "label_budgets-seed7.json").touch()  # of an earlier run in this folder, of more seeds
    grid_module.pretrain_all(study, store)
    assert len(list(tmp_path.glob("label_budgets-*"))) == 2
    transfer.domain_shift_all(study, transfer.Side("", store, settings, {}))
    table = plan_module.stages(settings, 100, cost).set_index("stage")
    for stage, planned in (("", "pretraining"), (" without a country", "without a domain")):
        trained, known = began[f"pretraining{stage}"], 1 + bool(stage)  # both countries are one store here
        expected = [known * len(trained), known * sum(trained.values())]
        assert table.loc[planned, ["trials", "steps"]].tolist() == expected


def test_hours_follow_from_a_measured_step(monkeypatch):
    monkeypatch.setattr(plan_module, "gpus", lambda: ["0"])
    settings = StudySettings(**CHOSEN, finetune_steps=8, finetune_batch=4, tuning_steps=3, finetune_seeds=2)
    table = plan_module.stages(settings, 0, cost).set_index("stage")
    # seeds x budgets x steps x seconds: iai, mosaic, supervised_late
    assert table.at["pretraining", "hours"] == pytest.approx((1 * 1 * 7 + 2 * 2 * 7 * 2 + 2 * 2 * 7) / 3600)
    assert table.at["choosing hyperparameters", "trials"] == 9
    assert table.at["choosing hyperparameters", "hours"] == pytest.approx(3 * 3 * (1 + 2 + 1) / 3600)
    # random and iai at both fractions; mosaic with 25 % there, with 100 % at both; a quarter of a batch
    assert table.at["evaluation", "steps"] == 8 * (2 * 2 + 2 + 2 * (1 + 2))
    first = plan_module.stages(settings.replace(finetune_seeds=1), 0, cost).set_index("stage")
    assert first.at["evaluation", "steps"] == 8 * (2 + 2 + (1 + 2))
    encoded = plan_module.stages(settings, 960, cost).set_index("stage")["hours"] - table["hours"]
    assert encoded["pretraining"] == 0
    assert encoded["evaluation"] * 3600 == pytest.approx(960 / 16 / 6 * (2 + 1 + 4 * 2 + 4 + 2))
    monkeypatch.setattr(plan_module, "gpus", lambda: ["0", "1"])
    assert plan_module.stages(settings, 0, cost)["hours"].sum() == pytest.approx(table["hours"].sum() / 2)
    monkeypatch.setattr(plan_module, "gpus", list)
    monkeypatch.setattr(plan_module, "available_cores", lambda: 4)
    assert plan_module.stages(settings, 0, cost)["hours"].sum() == pytest.approx(table["hours"].sum() / 4)


def test_a_step_is_measured_in_time_of_its_own_core_on_a_busy_machine(monkeypatch):
    """Of 40 seconds this process had 10; the last two steps took 2 seconds each on the clock."""

    def pretrain(store, trial, labelled, folder):
        seconds, clock["elapsed"], clock["computed"] = [0, 10, 11, 13, 15, 17], 40.0, 10.0
        pd.DataFrame({"seconds": seconds}).to_csv(folder / "log.csv")

    clock = {"elapsed": 0.0, "computed": 0.0}
    times = {"perf_counter": lambda: clock["elapsed"], "process_time": lambda: clock["computed"]}
    card = {"timing": {"peak_memory_mb": 1}, "parameters": {"encoder": 1}, "feature_dims": {"s1": 8}}
    monkeypatch.setattr(plan_module, "time", SimpleNamespace(**times))
    monkeypatch.setattr(plan_module, "pretrain", pretrain)
    monkeypatch.setattr(plan_module, "read_card", lambda folder: card)
    monkeypatch.setattr(plan_module.torch.cuda, "is_available", lambda: False)
    assert plan_module.measure.__wrapped__("light", "mosaic", 16, 32)["step"] == 2 * 10 / 40 * 32 / 16


def test_encoders_that_a_run_compiles_are_measured_so(monkeypatch):
    measured = {False: {"step": 2.0, "parameters": 25_000_000}, True: {"step": 1.0}}
    monkeypatch.setattr(plan_module, "measure", lambda *step: measured[len(step) == 5 and step[4]])
    short = TrialSettings(encoder="resnet50", steps=10)
    for gpu, expected in ((True, 1.0), (False, 2.0)):
        monkeypatch.setattr(plan_module.torch.cuda, "is_available", lambda gpu=gpu: gpu)
        assert plan_module.cost_of(short)["step"] == 2.0
        assert plan_module.cost_of(short.replace(compile_encoder="yes"))["step"] == expected


def test_a_plan_is_measured_and_printed(monkeypatch, capsys):
    changes = ["-p", "image_size=16", "-p", "methods=[iai,band_statistics]"]
    assert main(["plan", "--profile", "smoke", *changes]) == 0
    told = capsys.readouterr().out
    assert "pretraining       2      6" in told and "4 trials" not in told
    one = plan_module.measure("light", "mosaic", 16, 16)
    assert f"timed here just now on random records, at most {one['step']:.2g} s" in told
    assert one["step"] > 0 and one["parameters"] > 1e4 and one["width"] > 10
