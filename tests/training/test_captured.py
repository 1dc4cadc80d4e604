"""The code path that records CUDA graphs, with the recording itself replaced by a call of what it records."""

import weakref

import numpy as np
import pandas as pd
import pytest
import torch

from mosaic.methods import METHODS
from mosaic.models.checkpoint import read_card
from mosaic.training import captured, module
from mosaic.training import pretrain as pretrain_module
from mosaic.training.captured import CapturedAdamW, captures, compiles
from mosaic.training.pretrain import pretrain
from mosaic.utils.errors import RunError

SMALL = {"image_size": 16, "steps": 6, "batch_scenes": 18, "queue_size": 32, "projection_dim": 8}


@pytest.fixture
def capturing(monkeypatch):
    """Take the path of a GPU on a CPU, with records on the device."""
    if torch.cuda.is_available():
        pytest.skip("compares bits, which a GPU does not promise")

    def enable():
        monkeypatch.setattr(module, "captures", lambda *_: True)
        monkeypatch.setattr(captured, "aside", lambda work: work())
        monkeypatch.setattr(captured, "record", lambda work: work)
        monkeypatch.setattr(pretrain_module, "_free_memory", lambda: 2**40)

    return enable


@pytest.mark.parametrize("method", [name for name, row in METHODS.items() if row.trained])
def test_every_method_learns_and_does_the_same_through_the_path_that_captures(
    store, config, tmp_path, capturing, method
):
    store.index.loc[store.split_rows("train")[12:], "split"] = "unused"  # so that steps see the same scenes
    changes = SMALL | {"batch_scenes": 12, "learning_rate": 5e-3, "monitor_every": 0}
    trial = config(method, **changes)
    labelled = store.split_rows("train")
    plain = pretrain(store, trial, labelled, tmp_path / "plain")
    total = pd.read_csv(plain / "log.csv")["total"].dropna()
    assert len(total) == 6
    assert total[-2:].mean() < 0.94 * total[:2].mean()
    capturing()
    fixed = pretrain(store, trial.replace(log_every=4), labelled, tmp_path / "fixed")
    assert read_card(fixed)["weights"] == read_card(plain)["weights"]  # names a digest of them
    logs = [pd.read_csv(folder / "log.csv").drop(columns="seconds") for folder in (plain, fixed)]
    pd.testing.assert_frame_equal(*logs)


def test_inputs_stay_in_place(store, config, tmp_path, capturing, monkeypatch):
    capturing()
    seen, gradients = [], module.Pretraining._gradients

    def keep(self, tensors):
        seen.append({name: tensor.data_ptr() for name, tensor in tensors.items()})
        gradients(self, tensors)

    monkeypatch.setattr(module.Pretraining, "_gradients", keep)
    pretrain(store, config("iai", **SMALL), [], tmp_path)
    assert len(seen) == 6 and all(one == seen[0] for one in seen)
    assert "index" in seen[0]


def test_memory_of_earlier_trials_counts_as_free(monkeypatch):
    """What is unused, and what is held only by objects that hold one another, as Lightning's do."""
    held, free = torch.nn.Identity(), [30]
    held.itself, reference = held, weakref.ref(held)
    del held
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: free.append(30 if reference() else 100))
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free[-1], 140))
    assert pretrain_module._free_memory() == 100
    monkeypatch.setenv("MOSAIC_GPU_PROCESSES", "4")
    assert pretrain_module._free_memory() == 25


@pytest.fixture
def take_steps(monkeypatch):
    """Take five steps of an optimiser that records by ``record``, and return what it did in which order."""

    def take(record):
        optimizer, calls = CapturedAdamW([torch.nn.Parameter(torch.ones(1))], fused=True), []
        monkeypatch.setattr(captured, "aside", lambda work: work())
        monkeypatch.setattr(captured, "record", lambda work: record(calls))
        optimizer.capture = True
        for _ in range(5):
            optimizer.step(lambda: calls.append("step"))
        return calls

    return take


def test_graph_is_recorded_once_after_eager_steps_and_replayed(take_steps):
    calls = take_steps(lambda calls: calls.append("record") or (lambda: calls.append("replay")))
    assert calls == ["step"] * 3 + ["record", "replay", "replay"]


@pytest.mark.parametrize("every", [3, 50])
def test_a_loss_that_is_not_finite_stops_the_run_before_a_checkpoint(
    store, config, tmp_path, every, monkeypatch
):
    forward = module.Pretraining.forward

    def spoil(self, *arguments):
        self.count = getattr(self, "count", 0) + 1
        return {name: term / (self.count != 2) for name, term in forward(self, *arguments).items()}

    monkeypatch.setattr(module.Pretraining, "forward", spoil)
    trial = config("iai", monitor_every=0, log_every=every, **SMALL)
    with pytest.raises(
        RunError, match=rf"at step 2, rows \[\d+, .*\(of steps 1 to {min(every, 6)}, read together"
    ):
        pretrain(store, trial, [], tmp_path / "rarely")
    with pytest.raises(RunError, match=r"\(of steps 2 to 2, read together"):
        pretrain(store, trial, [], tmp_path / "saving", checkpoint_seconds=0)
    saved = torch.load(tmp_path / "saving" / "last.ckpt", weights_only=True)
    assert saved["global_step"] == 1
    assert all(torch.isfinite(value).all() for value in saved["state_dict"].values())


def test_large_encoders_are_compiled_for_long_runs_on_one_gpu(config, monkeypatch):
    monkeypatch.setattr(captured, "find_spec", lambda name: name)
    large, small, gpu = 25_000_000, 30, torch.device("cuda")
    long = config("iai", steps=5000, batch_scenes=512, image_size=120)
    assert compiles(long, large, gpu, 1) and compiles(long.replace(compile_encoder="yes"), small, gpu, 1)
    assert not compiles(long, small, gpu, 1) and not compiles(long.replace(steps=500), large, gpu, 1)
    assert not compiles(long, large, torch.device("cpu"), 1) and not compiles(long, large, gpu, 2)
    assert not compiles(long.replace(compile_encoder="no"), large, gpu, 1)


def test_of_several_processes_the_first_says_why_none_captures(capsys):
    gpu = torch.device("cuda")
    assert not any(captures(True, gpu, 2, rank) for rank in (0, 1)) and captures(True, gpu, 1, 0)
    assert not captures(False, gpu, 1, 0) and not captures(True, torch.device("cpu"), 1, 0)
    assert capsys.readouterr().err.count("a CUDA graph holds one process") == 1


def test_a_compiled_encoder_is_evaluated_as_it_is(store, config, tmp_path, monkeypatch):
    compiled, original = [], torch.compile
    monkeypatch.setattr(
        torch, "compile", lambda f, **options: compiled.append(options) or original(f, backend="eager")
    )
    trial = config("iai", compile_encoder="yes", image_size=16, steps=2, batch_scenes=8, monitor_every=1)
    log = pd.read_csv(pretrain(store, trial, [], tmp_path / "yes") / "log.csv")
    plain = pd.read_csv(pretrain(store, trial.replace(compile_encoder="no"), [], tmp_path / "no") / "log.csv")
    assert compiled == [{"dynamic": False}] * 2
    assert np.isfinite(log["knn"]).all()
    pd.testing.assert_frame_equal(log.drop(columns="seconds"), plain.drop(columns="seconds"), rtol=1e-4)


def test_an_encoder_that_does_not_compile_is_trained_all_the_same(store, config, tmp_path, monkeypatch):
    def refuse(graph, inputs):
        raise FileNotFoundError("no compiler")

    original = torch.compile
    trial = config("simclr_s1", image_size=16, steps=1, batch_scenes=8, monitor_every=0)
    plain = read_card(pretrain(store, trial, [], tmp_path / "plain"))["weights"]
    monkeypatch.setattr(torch._dynamo.config, "suppress_errors", False)
    monkeypatch.setattr(torch, "compile", lambda f, **options: original(f, backend=refuse))
    monkeypatch.setattr(module, "compiles", lambda *_: True)
    assert read_card(pretrain(store, trial, [], tmp_path / "auto"))["weights"] == plain


def test_steps_that_cannot_be_recorded_move_the_weights_and_the_log_says_why(monkeypatch, capsys):
    def refuse(work):
        raise RuntimeError("not permitted\nwhen stream is capturing")

    monkeypatch.setattr(captured, "aside", lambda work: work())
    monkeypatch.setattr(captured, "record", refuse)
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    for weight, capture in zip(weights, (False, True), strict=True):
        (optimizer := CapturedAdamW([weight], lr=0.1, fused=True)).capture = capture
        for _ in range(5):
            weight.grad = torch.ones(1)
            optimizer.step(lambda: None)
    assert torch.equal(*weights) and weights[0] < 0.7
    assert capsys.readouterr().err.count("no CUDA graph (not permitted)") == 1
