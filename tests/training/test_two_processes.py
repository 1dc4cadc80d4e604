"""Several processes give what one gives. This file is also the program that starts them.

It imports Lightning once, which takes seconds, and forks: two processes by the engine of ``torchrun``, and
four as ``srun`` would start them. Each runs all its cases.
"""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mosaic.__main__ import main
from mosaic.methods import get_method
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.pretrain import pretrain
from mosaic.training.trainer import Logbook
from mosaic.utils.errors import MosaicError

#: One method of every objective, of prototypes and of partners of other dates.
METHODS = ("mosaic_temporal", "msc", "vicreg", "decur", "supcon_queue", "macl", "sadcl", "mimrf", "sct")
SMALL = {"image_size": 16, "steps": 2, "batch_scenes": 12, "projection_dim": 8, "monitor_every": 0}
SMALL |= {"queue_size": 32}
TWENTY = SMALL | {"method": "mosaic", "steps": 20}
RESUMED = TWENTY | {"steps": 6, "seed": 1}
#: As shipped: in float32, and looked at.
SINGLE = TWENTY | {"steps": 3, "learning_rate": 1e-4, "monitor_every": 2, "image_size": 24}


def configured(settings):
    encoder = {"vit": "vit_light", "sct": "sct_light"}.get(get_method(settings["method"]).architecture)
    return TrialSettings(**settings, **({"encoder": encoder} if encoder else {}))


def train(store, settings, folder, stop=None):
    """Pretrain with 20 labels; the first process keeps the gradients of the first and last step.

    Runs without monitoring compute in float64. In float32 the order of sums shows after some steps, also
    between one and two threads of one process: AdamW moves weights of small gradient as far as others.
    ``stop`` is the step after which the run is interrupted; it was saved the step before.
    """
    config, gradients = configured(settings), {}

    def keep(self, trainer, module, optimizer):
        if trainer.is_global_zero and trainer.global_step in (0, config.steps - 1):
            grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
            gradients[trainer.global_step] = grads

    def stopping(self, trainer, *arguments):
        if trainer.global_step == stop:
            raise InterruptedError
        noted(self, trainer, *arguments)

    def widen(self, trainer, module, stage):
        if not config.monitor_every:
            module.double()
            views = module.two_views
            module.two_views = lambda batch: {name: image.double() for name, image in views(batch).items()}

    noted = Logbook.on_train_batch_end
    labelled = store.split_rows("train")[:20] if config.weighted_method().uses_labels else []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Logbook, "on_before_optimizer_step", keep)
        patch.setattr(Logbook, "on_train_batch_end", stopping)
        patch.setattr(Logbook, "setup", widen)
        try:
            pretrain(store, config, labelled, folder, checkpoint_seconds=60 if stop is None else 0)
        except InterruptedError:
            return folder
    if gradients:
        torch.save(gradients, folder / "gradients.pt")
    return folder


def work(packed, out):
    """Run every case in this process."""
    torch.set_num_threads(1)
    store, rank = PackedStore(packed), int(os.environ.get("RANK") or os.environ["SLURM_PROCID"])
    train(store, TWENTY, out / "twenty")
    if os.environ.get("WORLD_SIZE") != "2":  # the four come first
        train(store, RESUMED, out.parent / "two" / "four_then_two", stop=5)
        return
    train(store, SINGLE, out / "single")
    for method in METHODS:
        train(store, SMALL | {"method": method}, out / method)
    train(store, SMALL | {"method": "random"}, out / "random")
    train(store, RESUMED, out / "two_then_one", stop=5)
    train(store, RESUMED, out / "one_then_two")
    assert (out / "four_then_two" / "last.ckpt").exists()
    train(store, RESUMED, out / "four_then_two")
    parameters = [word for name in ("image_size=16", "steps=2", "batch_scenes=4") for word in ("-p", name)]
    command = ["train", str(packed), "--to", str(out / "command"), "--method", "iai", *parameters]
    told = {"command": main(command), "again": main(command)}
    told["uneven"] = error_of(store, SMALL | {"method": "iai", "batch_scenes": 9}, out / "uneven")
    told["other"] = error_of(store, SMALL | {"method": "iai"}, out / "random")  # which the first finds out
    (out / f"told-{rank}.json").write_text(json.dumps(told))


def error_of(store, settings, folder):
    try:
        train(store, settings, folder)
    except MosaicError as error:
        return str(error)


def start_as_srun(world, *arguments):
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"SLURM_JOB_ID": "17", "SLURM_JOB_NAME": "test", "SLURM_NTASKS": world, "SLURM_NNODES": 1}
    shared |= {"SLURM_STEP_NUM_TASKS": world, "SLURM_NTASKS_PER_NODE": world, "SLURM_NODEID": 0}
    shared |= {"MASTER_ADDR": "localhost", "MASTER_PORT": port}

    def begin(rank):
        own = shared | {"SLURM_PROCID": rank, "SLURM_LOCALID": rank}
        os.environ.update({name: str(value) for name, value in own.items()})
        work(*arguments)

    context = multiprocessing.get_context("fork")
    children = [context.Process(target=begin, args=(rank,), daemon=True) for rank in range(world)]
    for child in children:
        child.start()
    for child in children:
        child.join()
        if child.exitcode:
            sys.exit(child.exitcode)


def start_as_torchrun(world, *arguments):
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    where = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "test", "max_restarts": 0}
    elastic_launch(LaunchConfig(1, 1, nproc_per_node=world, start_method="fork", **where), work)(*arguments)


@pytest.fixture(scope="module")
def launched(packed, tmp_path_factory):
    """Folder with the folders ``two`` and ``four`` of the cases that so many processes ran."""
    out = tmp_path_factory.mktemp("distributed")
    train(PackedStore(packed), RESUMED, out / "two" / "one_then_two", stop=5)
    command = [sys.executable, __file__, str(packed), str(out)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return out


@pytest.fixture(scope="module")
def two(launched):
    return launched / "two"


@pytest.fixture(scope="module")
def one(packed, tmp_path_factory):
    """Train in this process, each case once: ``one(settings) -> folder``."""
    folders = {}

    def make(settings):
        key = json.dumps(settings)
        if key not in folders:
            folders[key] = train(PackedStore(packed), settings, tmp_path_factory.mktemp("one"))
        return folders[key]

    return make


def assert_same(folder, expected):
    logs = [pd.read_csv(path / "log.csv").drop(columns="seconds") for path in (folder, expected)]
    pd.testing.assert_frame_equal(*logs, rtol=1e-5, atol=1e-5)
    found, wanted = (load_file(path / "encoder.safetensors") for path in (folder, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


def assert_same_gradients(folder, expected):
    """Compare to 1e-5 of the largest of each parameter."""
    found, wanted = (torch.load(path / "gradients.pt") for path in (folder, expected))
    assert found.keys() == wanted.keys()
    for step, gradients in wanted.items():
        assert found[step].keys() == gradients.keys()
        noise = 1e-9 * max(gradient.abs().max() for gradient in gradients.values())
        for name, gradient in gradients.items():
            difference = (found[step][name] - gradient).abs().max()
            assert difference <= 1e-5 * gradient.abs().max() + noise, (step, name)


def timing(folder):
    return json.loads((folder / "card.json").read_text())["timing"]


@pytest.mark.parametrize("world, processes", [("two", 2), ("four", 4)])
def test_twenty_steps_of_mosaic_are_those_of_one_process(world, processes, one, launched):
    folder = launched / world / "twenty"
    assert_same(folder, one(TWENTY))
    assert_same_gradients(folder, one(TWENTY))
    assert timing(folder)["processes"] == processes
    assert timing(folder)["device"].startswith(f"{processes} × ")


def test_float32_is_the_same_up_to_rounding(one, two):
    logs = [pd.read_csv(path / "log.csv").drop(columns="seconds") for path in (two / "single", one(SINGLE))]
    pd.testing.assert_frame_equal(*logs, rtol=1e-5, atol=1e-5)
    found, expected = (torch.load(path / "gradients.pt")[0] for path in (two / "single", one(SINGLE)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=3e-5)


@pytest.mark.parametrize("method", METHODS)
def test_every_objective_has_the_loss_and_gradient_of_one_process(method, one, two):
    expected = one(SMALL | {"method": method})
    assert_same(two / method, expected)
    assert_same_gradients(two / method, expected)


def test_untrained_features_are_those_of_one_process(one, two):
    assert_same(two / "random", one(SMALL | {"method": "random"}))
    assert timing(two / "random")["processes"] == 1


def test_run_resumes_with_another_number_of_processes(one, two, packed):
    assert (two / "two_then_one" / "last.ckpt").exists() and not (two / "one_then_two" / "last.ckpt").exists()
    train(PackedStore(packed), RESUMED, two / "two_then_one")
    for name in ("two_then_one", "one_then_two", "four_then_two"):
        assert_same(two / name, one(RESUMED))


def test_every_process_hears_of_a_mistake_and_runs_the_command(two):
    for rank in (0, 1):
        told = json.loads((two / f"told-{rank}.json").read_text())
        assert "9 scenes cannot be shared equally by 2 processes: choose a multiple of 2" in told["uneven"]
        assert "holds an encoder of other settings" in told["other"]
        assert (told["command"], told["again"]) == (0, 0)
    assert not (two / "uneven").exists()
    assert timing(two / "command")["processes"] == 2


if __name__ == "__main__":
    import mosaic.training.trainer  # noqa: F401  # before the forks

    folders = [Path(word) for word in sys.argv[1:]]
    start_as_srun(4, folders[0], folders[1] / "four")
    start_as_torchrun(2, folders[0], folders[1] / "two")
