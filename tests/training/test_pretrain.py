import json
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from mosaic.methods import METHODS, get_method
from mosaic.models.checkpoint import load_encoder
from mosaic.settings import TrialSettings
from mosaic.training import callbacks as logbook_module
from mosaic.training.callbacks import COLUMNS, HEALTH, Logbook
from mosaic.training.data import KnownLabels
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import pretrain
from mosaic.utils.errors import BudgetError, CheckpointError, RunError, SettingsError


def weights_of(folder):
    return json.loads((folder / "card.json").read_text())["weights"]["sha256"]


def rows_for(store, name, count=None):
    rows = store.split_rows("train")[:count]
    return rows if get_method(name).uses_labels else rows[:0]


@pytest.mark.parametrize("name", [name for name in METHODS if get_method(name).trained])
def test_loss_goes_down_for_every_method(store, config, tmp_path, name):
    small = {"image_size": 16, "steps": 14, "batch_scenes": 12, "learning_rate": 3e-3, "monitor_every": 0}
    pretrain(store, config(name, **small), rows_for(store, name), tmp_path)
    total = pd.read_csv(tmp_path / "log.csv")["total"].dropna()
    assert len(total) == 14
    assert total[-4:].mean() < 0.97 * total[:4].mean()


def test_log_has_a_row_a_step_and_a_look_now_and_then(store, config, tmp_path):
    run = config("mosaic", warmup_fraction=0.5)
    pretrain(store, run, rows_for(store, "mosaic"), tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    assert tuple(log.columns) == COLUMNS
    assert log["step"].tolist() == [0, 1, 2, 3, 4, 5, 6]
    for column in HEALTH:
        assert log["step"][log[column].notna()].tolist() == [0, 3, 6]
    steps = log[1:]
    np.testing.assert_allclose(steps["total"], steps["intra"] + steps["inter"] + steps["label"], rtol=1e-5)
    assert steps["classify"].isna().all()
    assert steps["lr"].to_numpy() == pytest.approx(1e-3 * np.array([1 / 3, 2 / 3, 1, 1, 0.75, 0.25]))
    assert log["seconds"].is_monotonic_increasing
    assert log["knn"].dropna().between(0, 1).all()


def test_random_features_are_saved_untrained(store, config, tmp_path):
    pretrain(store, config("random"), rows_for(store, "random"), tmp_path)
    log = pd.read_csv(tmp_path / "log.csv")
    assert log["step"].tolist() == [0]
    assert log["total"].isna().all() and log["knn"].notna().all()


def test_random_weights_stay_as_drawn_and_normalisation_sees_the_images(store, config, tmp_path):
    run = config("random")
    drawn = Pretraining(run, store, KnownLabels(store, np.empty(0, np.int64))).encoder
    saved = load_encoder(pretrain(store, run, [], tmp_path)).encoder
    for (name, before), after in zip(drawn.state_dict().items(), saved.state_dict().values(), strict=True):
        assert torch.equal(before, after) == ("running" not in name and "tracked" not in name), name


def test_card_says_what_was_trained_on_what(store, config, tmp_path):
    pretrain(store, config("supervised_late"), rows_for(store, "supervised_late", 20), tmp_path)
    card = json.loads((tmp_path / "card.json").read_text())
    assert card["method"] == "supervised_late"
    assert tuple(card["class_names"]) == store.class_names
    assert card["patches"] == {"train": 90, "labelled": 20}
    assert card["feature_dims"].keys() == {"s1", "s2"}
    assert card["layout"]["statistics"] == store.layout.statistics
    assert TrialSettings(**card["settings"]) == config("supervised_late")
    assert card["timing"].keys() == {"seconds", "steps_per_second", "peak_memory_mb", "device", "processes"}
    assert card["timing"]["processes"] == 1
    assert not list(tmp_path.glob("*.ckpt"))


def test_finished_run_is_returned_at_once_and_other_settings_are_refused(
    store, config, tmp_path, monkeypatch
):
    pretrain(store, config("random"), [], tmp_path)
    monkeypatch.setattr(Pretraining, "__init__", lambda *_: pytest.fail("trained again"))
    assert pretrain(store, config("random"), [], tmp_path) == tmp_path
    with pytest.raises(RunError, match="other settings"):
        pretrain(store, config("random", seed=1), [], tmp_path)
    (tmp_path / "encoder.safetensors").write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match="damaged"):
        pretrain(store, config("random"), [], tmp_path)


def interrupt_at(monkeypatch, step, error):
    original = Logbook.on_train_batch_end

    def stop(self, trainer, *arguments):
        if trainer.global_step == step:
            raise error
        original(self, trainer, *arguments)

    monkeypatch.setattr(Logbook, "on_train_batch_end", stop)
    return original


@pytest.mark.parametrize(
    "name, changes", [("mosaic", {"kernel": "msc"}), ("mosaic_temporal", {"shared_geometry": False})]
)
def test_killed_run_resumes_bit_for_bit(store, config, tmp_path, monkeypatch, name, changes):
    labelled = rows_for(store, name, 20)
    run = config(name, **changes)
    whole = pretrain(store, run, labelled, tmp_path / "whole")
    original = interrupt_at(monkeypatch, 5, OSError("killed"))
    with pytest.raises(OSError, match="killed"):
        pretrain(store, run, labelled, tmp_path / "parts", checkpoint_seconds=0)
    assert sorted(p.name for p in (tmp_path / "parts").iterdir() if p.name != ".lock") == ["last.ckpt"]
    with pytest.raises(RunError, match="unfinished run of other settings"):
        pretrain(store, run.replace(learning_rate=2e-3), labelled, tmp_path / "parts")

    (tmp_path / "parts" / ".last.1.partial.ckpt").write_bytes(b"half")
    steps = []
    monkeypatch.setattr(
        Logbook,
        "on_train_batch_end",
        lambda self, t, *a: steps.append(t.global_step) or original(self, t, *a),
    )
    parts = pretrain(store, run, labelled, tmp_path / "parts")
    assert steps == [5, 6]
    assert not list(parts.glob(".*.partial.*"))
    assert weights_of(whole) == weights_of(parts)
    logs = [pd.read_csv(folder / "log.csv").drop(columns="seconds") for folder in (whole, parts)]
    pd.testing.assert_frame_equal(*logs)


def test_after_kill_minus_nine_training_goes_on_from_its_last_checkpoint(
    store, config, tmp_path, monkeypatch
):
    run, folder = config("simclr_s1"), tmp_path / "killed"
    code = f"""
import time
from pathlib import Path
import torch
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.callbacks import Logbook
from mosaic.training.pretrain import pretrain
noted = Logbook.on_train_batch_end
def note(self, trainer, *arguments):
    if trainer.global_step == 5:
        print("five", flush=True)
        time.sleep(60)
    noted(self, trainer, *arguments)
Logbook.on_train_batch_end = note
torch.set_num_threads(1)
store, folder = PackedStore(Path({str(store.folder)!r})), Path({str(folder)!r})
pretrain(store, TrialSettings(**{run.model_dump()!r}), [], folder, checkpoint_seconds=0)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "five\n"
        process.kill()
    assert sorted(path.name for path in folder.iterdir()) == [".lock", "last.ckpt"]
    assert torch.load(folder / "last.ckpt", weights_only=False)["global_step"] == 4
    steps, noted = [], Logbook.on_train_batch_end
    monkeypatch.setattr(
        Logbook, "on_train_batch_end", lambda self, t, *a: steps.append(t.global_step) or noted(self, t, *a)
    )
    resumed = pretrain(store, run, [], folder)
    assert steps == [5, 6]
    assert weights_of(resumed) == weights_of(pretrain(store, run, [], tmp_path / "whole"))


def test_ctrl_c_is_an_interrupt_that_leaves_the_signal_alone(store, config, tmp_path, monkeypatch):
    handler = signal.getsignal(signal.SIGINT)
    interrupt_at(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        pretrain(store, config("simclr_s1"), [], tmp_path)
    assert signal.getsignal(signal.SIGINT) is handler


def test_the_exit_of_a_job_that_is_queued_again_is_no_interrupt(store, config, tmp_path, monkeypatch):
    interrupt_at(monkeypatch, 2, SystemExit(144))
    with pytest.raises(SystemExit, match="144"):
        pretrain(store, config("simclr_s1"), [], tmp_path)


@pytest.mark.parametrize("name", ["mosaic", "supervised_s1"])
def test_no_other_label_reaches_the_model(store, config, tmp_path, name):
    labelled = rows_for(store, name, 20)
    run = config(name, kernel="idf_jaccard", monitor_every=0)
    before = pretrain(store, run, labelled, tmp_path / "before")

    others = np.setdiff1d(np.arange(len(store)), labelled)
    changed = store.labels.copy()
    changed[others] = 1 - changed[others]
    vars(store)["labels"] = changed
    after = pretrain(store, run, labelled, tmp_path / "after")
    assert weights_of(before) == weights_of(after)

    changed[labelled] = 1 - changed[labelled]
    control = pretrain(store, run, labelled, tmp_path / "control")
    assert weights_of(before) != weights_of(control)


def test_looking_does_not_change_the_run(store, config, tmp_path):
    folders = [
        pretrain(store, config("iai", monitor_every=every), [], tmp_path / str(every)) for every in (0, 2)
    ]
    assert weights_of(folders[0]) == weights_of(folders[1])


def test_seed_decides_the_result(store, config, tmp_path):
    runs = {seed: pretrain(store, config("inter", seed=seed), [], tmp_path / str(seed)) for seed in (0, 1)}
    assert weights_of(runs[0]) != weights_of(runs[1])


def test_loss_that_is_not_finite_names_the_step_and_its_rows(store, config, tmp_path):
    with pytest.raises(RunError, match=r"at step \d, rows \[\d+, .*lower the learning rate"):
        pretrain(
            store, config("supervised_s1", learning_rate=1e38), rows_for(store, "supervised_s1"), tmp_path
        )
    assert not (tmp_path / "card.json").exists()


def test_no_memory_says_what_to_lower(store, config, tmp_path, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Pretraining, "training_step", no_memory)
    with pytest.raises(RunError, match="16 scenes of 24 px in 32: lower batch_scenes"):
        pretrain(store, config("iai"), [], tmp_path)


def test_checkpoint_that_cannot_be_written_stops_the_run(store, config, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logbook_module.torch, "save", full)
    with pytest.raises(RunError, match=r"no space|cannot write"):
        pretrain(store, config("simclr_s1"), [], tmp_path, checkpoint_seconds=0)


def test_impossible_requests_are_refused_before_any_work(store, config, tmp_path):
    with pytest.raises(BudgetError, match="label budget is empty"):
        pretrain(store, config("mosaic"), [], tmp_path)
    with pytest.raises(BudgetError, match="1 labelled rows are not training rows"):
        pretrain(store, config("mosaic"), store.split_rows("test")[:1], tmp_path)
    with pytest.raises(SettingsError, match="use a smaller batch"):
        pretrain(store, config("iai", batch_scenes=91), [], tmp_path)
    assert not list(tmp_path.iterdir())


def test_mixed_precision_trains(store, config, tmp_path):
    # 64 pixels: oneDNN leaves garbage in the bf16 gradient of a 3 x 3 convolution of one pixel
    run = config("simclr_s1", precision="bf16-mixed", steps=2, batch_scenes=2, image_size=64, monitor_every=0)
    pretrain(store, run, [], tmp_path)
    assert np.isfinite(pd.read_csv(tmp_path / "log.csv")["total"][1:]).all()


def test_gradients_are_clipped_to_the_norm_of_all_of_them(store, config):
    module = Pretraining(config("simclr_s1"), store, KnownLabels(store, store.split_rows("train")))
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 3.0)
    module.on_before_optimizer_step(None)
    every = torch.cat([parameter.grad.flatten() for parameter in trained])
    torch.testing.assert_close(every, torch.full_like(every, 1 / len(every) ** 0.5), rtol=1e-4, atol=0)


def test_training_is_silent_and_leaves_no_folders(
    store, config, tmp_path, monkeypatch, capfd, recwarn, caplog
):
    monkeypatch.chdir(tmp_path)
    pretrain(store, config("mosaic"), rows_for(store, "mosaic"), tmp_path / "run")
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
