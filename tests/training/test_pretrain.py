import signal
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from mosaic.evaluation.coherence import uniformity
from mosaic.evaluation.features import extract_features, fuse
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import knn_scores
from mosaic.methods import METHODS
from mosaic.models.checkpoint import load_encoder, read_card
from mosaic.settings import TrialSettings
from mosaic.training import trainer
from mosaic.training.data import KnownLabels
from mosaic.training.module import Pretraining
from mosaic.training.pretrain import pretrain
from mosaic.training.trainer import COLUMNS, HEALTH, Logbook
from mosaic.utils.errors import BudgetError, RunError, SettingsError


def weights_of(folder):
    return read_card(folder)["weights"]["sha256"]


def log_of(folder):
    return pd.read_csv(folder / "log.csv")


@pytest.fixture
def train(store, config, tmp_path):
    """Pretrain with the first labels: ``train(method, folder="run", labelled=None, **changes) -> folder``."""

    def run(method, folder="run", labelled=None, checkpoint_seconds=60.0, **changes):
        rows = store.split_rows("train")[:labelled]
        return pretrain(
            store,
            config(method, **{"image_size": 16, **changes}),
            rows,
            tmp_path / folder,
            checkpoint_seconds,
        )

    return run


@pytest.fixture
def interrupt_at(monkeypatch):
    """Raise an error after a step: ``interrupt_at(step, error)``; later calls only list the steps taken."""
    original, taken = Logbook.on_train_batch_end, []

    def patch(step=None, error=None):
        def stop(self, trainer, *arguments):
            if trainer.global_step == step:
                raise error
            taken.append(trainer.global_step)
            original(self, trainer, *arguments)

        taken.clear()
        monkeypatch.setattr(Logbook, "on_train_batch_end", stop)
        return taken

    return patch


def test_log_has_a_row_a_step_and_monitors_now_and_then(train):
    log = log_of(train("mosaic", warmup_fraction=0.5))
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


def test_the_last_evaluation_is_of_the_encoder_that_is_saved(store, train):
    folder = train("iai")
    rows = store.split_rows("train"), store.split_rows("validation")
    neighbours, validation = (fuse(extract_features(store, folder, chosen)) for chosen in rows)
    scores = knn_scores(neighbours, store.labels[rows[0]], validation)
    unit = torch.nn.functional.normalize(torch.from_numpy(validation), dim=1)
    last = log_of(folder).iloc[-1]
    assert last["knn"] == pytest.approx(macro_ap(store.labels[rows[1]], scores), rel=1e-4)
    assert last["uniformity"] == pytest.approx(uniformity(unit).item(), rel=1e-4)


def test_random_weights_stay_as_drawn_and_normalisation_sees_the_images(store, config, train):
    drawn = Pretraining(config("random"), store, KnownLabels(store, np.empty(0, np.int64))).encoder
    folder = train("random")
    saved = load_encoder(folder).encoder
    for (name, before), after in zip(drawn.state_dict().items(), saved.state_dict().values(), strict=True):
        assert torch.equal(before, after) == ("running" not in name and "tracked" not in name), name
    log = log_of(folder)
    assert log["step"].tolist() == [0]
    assert log["total"].isna().all() and log["knn"].notna().all()


def test_another_encoder_is_shown_the_views_of_the_run(store, config):
    trial = config("random", crop_scale=0.2, radiometry=0.5, shared_geometry=False)
    module = Pretraining(trial, store, KnownLabels(store, np.empty(0, np.int64)))
    module.replace_encoder(module.encoder, store.layout)
    views = module.views
    assert (views.crop_scale, views.radiometry, views.shared_geometry) == (0.2, 0.5, False)


def test_card_says_what_was_trained_on_what(store, config, train):
    card = read_card(train("supervised_late", labelled=20))
    assert tuple(card["class_names"]) == store.class_names
    assert card["patches"] == {"train": 90, "labelled": 20}
    assert card["layout"]["statistics"] == store.layout.statistics
    assert TrialSettings(**card["settings"]) == config("supervised_late", image_size=16)
    assert card["timing"].keys() == {"seconds", "steps_per_second", "peak_memory_mb", "device", "processes"}


def test_finished_run_is_returned_at_once_and_other_settings_are_refused(train, monkeypatch):
    folder = train("random")
    monkeypatch.setattr(Pretraining, "__init__", lambda *_: pytest.fail("trained again"))
    assert train("random") == folder
    with pytest.raises(RunError, match="other settings"):
        train("random", seed=1)
    monkeypatch.setitem(METHODS, "random", replace(METHODS["random"], streams=("s1",)))
    with pytest.raises(RunError, match="other settings"):  # another method under the same name
        train("random")


def test_an_encoder_of_damaged_weights_is_trained_again(train, capfd):
    """tests/faults damages its other files."""
    sound = weights_of(folder := train("random"))
    weights = folder / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    assert weights_of(train("random")) == sound
    assert (folder / "card.json.damaged").exists()
    (line,) = capfd.readouterr().err.splitlines()
    assert str(weights) in line and "made again" in line


@pytest.mark.parametrize(
    "name, changes", [("mosaic", {"kernel": "msc"}), ("mosaic_temporal", {"shared_geometry": False})]
)
def test_killed_run_resumes_bit_for_bit(train, tmp_path, interrupt_at, name, changes):
    whole, parts = train(name, "whole", 20, **changes), tmp_path / "parts"
    interrupt_at(5, OSError("killed"))
    with pytest.raises(OSError, match="killed"):
        train(name, "parts", 20, checkpoint_seconds=0, **changes)
    assert sorted(path.name for path in parts.iterdir()) == [".lock", "last.ckpt"]
    with pytest.raises(RunError, match="unfinished run of other settings"):
        train(name, "parts", 20, learning_rate=2e-3, **changes)

    (parts / ".last.1.partial.ckpt").write_bytes(b"half")
    steps = interrupt_at()
    train(name, "parts", 20, **changes)
    assert steps == [5, 6]
    assert not list(parts.glob(".*.partial.*"))
    assert weights_of(whole) == weights_of(parts)
    logs = [log_of(folder).drop(columns="seconds") for folder in (whole, parts)]
    pd.testing.assert_frame_equal(*logs)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(144)], ids=["Ctrl-C", "queued again"])
def test_an_interrupt_passes_and_leaves_the_signal_alone(train, interrupt_at, error):
    handler = signal.getsignal(signal.SIGINT)
    interrupt_at(2, error)
    with pytest.raises(type(error)) as caught:
        train("simclr_s1")
    assert isinstance(error, KeyboardInterrupt) or caught.value.code == 144
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.parametrize("name", ["mosaic_temporal", "supervised_s1"])
def test_no_other_label_reaches_the_model(store, train, name):
    options = {"labelled": 20, "kernel": "idf_jaccard", "monitor_every": 0, "steps": 3}
    before, known = train(name, "before", **options), store.split_rows("train")[:20]

    def relabel(rows):
        store.labels[rows] = 1 - store.labels[rows]
        sets = [list(np.array(store.class_names)[row == 1]) for row in store.labels]
        store.index["labels"] = pd.Series(sets)
        vars(store).pop("temporal_positives", None)

    others = np.setdiff1d(np.arange(len(store)), known)
    relabel(others[others % 3 > 0])  # of the two dates of a place often one alone
    assert weights_of(before) == weights_of(train(name, "after", **options))
    relabel(known)
    assert weights_of(before) != weights_of(train(name, "control", **options))


def test_the_seed_decides_the_result_and_monitoring_does_not(train):
    runs = {"first": (0, 0), "monitored": (0, 2), "other": (1, 0)}
    folders = [train("iai", n, seed=seed, monitor_every=every, steps=3) for n, (seed, every) in runs.items()]
    first, monitored, other = map(weights_of, folders)
    assert first == monitored != other


def test_no_memory_says_what_to_lower(train, monkeypatch):
    def no_memory(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Pretraining, "training_step", no_memory)
    with pytest.raises(RunError, match="16 scenes of 16 px in 32: lower batch_scenes"):
        train("iai")


def test_checkpoint_that_cannot_be_written_stops_the_run(train, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainer.torch, "save", full)
    with pytest.raises(RunError, match=r"no space|cannot write"):
        train("simclr_s1", checkpoint_seconds=0)


def test_impossible_requests_are_refused_before_any_work(store, config, train, tmp_path):
    with pytest.raises(BudgetError, match="label budget is empty"):
        train("mosaic", labelled=0)
    with pytest.raises(BudgetError, match="1 labelled rows are not training rows"):
        pretrain(store, config("mosaic"), store.split_rows("test")[:1], tmp_path)
    with pytest.raises(SettingsError, match="use a smaller batch"):
        train("iai", batch_scenes=91)
    assert not list(tmp_path.iterdir())


def test_what_too_few_validation_patches_cannot_tell_is_left_open(store, train):
    validation = store.split_rows("validation")
    store.index.loc[validation[1:], "split"] = "unused"
    store.labels[validation[0]] = 0
    folder = train("iai")
    assert log_of(folder)[["knn", "uniformity"]].isna().all().all()
    assert read_card(folder)["final"].keys().isdisjoint(("knn", "uniformity"))


def test_mixed_precision_trains(train):
    # 64 pixels: oneDNN leaves garbage in the bf16 gradient of a 3 x 3 convolution of one pixel
    small = {"steps": 2, "batch_scenes": 2, "image_size": 64, "monitor_every": 0}
    assert np.isfinite(log_of(train("simclr_s1", precision="bf16-mixed", **small))["total"][1:]).all()


def test_gradients_are_clipped_to_the_norm_of_all_of_them(store, config):
    module = Pretraining(config("simclr_s1"), store, KnownLabels(store, store.split_rows("train")))
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.grad = torch.full_like(parameter, 3.0)
    module.on_before_optimizer_step(None)
    every = torch.cat([parameter.grad.flatten() for parameter in trained])
    torch.testing.assert_close(every, torch.full_like(every, 1 / len(every) ** 0.5), rtol=1e-4, atol=0)


def test_training_is_silent_and_leaves_no_folders(train, tmp_path, monkeypatch, capfd, recwarn):
    monkeypatch.chdir(tmp_path)
    train("mosaic")
    assert capfd.readouterr() == ("", "")
    assert [str(warning.message) for warning in recwarn] == []
    kept = {".lock", "card.json", "encoder.safetensors", "log.csv"}
    assert {path.name for path in tmp_path.rglob("*")} == {"run"} | kept
