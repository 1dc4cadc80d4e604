"""Several processes give what one gives. This file is also the program that starts them.

It imports Lightning once, which takes seconds, and forks by the engine of ``torchrun``: two processes, and
four that find the variables of ``srun``. Each runs all its cases.
"""

import json
import os
import subprocess
import sys
from functools import cache
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

SMALL = {"image_size": 16, "steps": 2, "batch_scenes": 12, "projection_dim": 8, "monitor_every": 0}
SMALL |= {"queue_size": 32}
SIX = SMALL | {"method": "mosaic", "steps": 6, "batch_scenes": 16}  # of an epoch and a batch
#: One method of every objective, of prototypes and of temporal positives.
METHODS = ("mosaic_temporal", "msc", "vicreg", "decur", "supcon_queue", "macl", "sadcl", "mimrf", "sct")
CASES = {"six": SIX, **{name: SMALL | {"method": name} for name in (*METHODS, "random")}}


def train(store, settings, folder, stop=None):
    """Pretrain with 20 labels; the first process keeps the gradients of the first and last step.

    They compute in float64. In float32 the order of sums shows after some steps, also between one and two
    threads of one process: AdamW moves weights of small gradient as far as others. ``stop`` is the step after
    which the run is interrupted; it was saved the step before.
    """
    fusion = get_method(settings["method"]).architecture == "sct"
    config = TrialSettings(**settings, encoder="sct_light" if fusion else "light")
    gradients = {}

    def keep(self, trainer, module, optimizer):
        if trainer.is_global_zero and trainer.global_step in (0, config.steps - 1):
            grads = {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}
            gradients[trainer.global_step] = grads

    def stopping(self, trainer, *arguments):
        if trainer.global_step == stop:
            raise InterruptedError
        noted(self, trainer, *arguments)

    def widen(self, trainer, module, stage):
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
    """Run the cases of this process: one of two, or of four."""
    torch.set_num_threads(1)
    store, world = PackedStore(packed), os.environ["WORLD_SIZE"]
    if world == "4":
        del os.environ["TORCHELASTIC_RUN_ID"], os.environ["LOCAL_WORLD_SIZE"]
        rank, ours = os.environ["RANK"], {"JOB_ID": "17", "JOB_NAME": "test", "NNODES": "1", "NODEID": "0"}
        ours |= dict.fromkeys(("NTASKS", "STEP_NUM_TASKS", "NTASKS_PER_NODE"), world)
        ours |= dict.fromkeys(("PROCID", "LOCALID"), rank)
        os.environ.update({f"SLURM_{name}": value for name, value in ours.items()})
        train(store, SIX, out / "six")
        return
    for name, settings in CASES.items():
        train(store, settings, out / name)
    train(store, SIX, out / "two_then_one", stop=5)
    train(store, SIX, out / "one_then_two")
    parameters = [word for name in ("image_size=16", "steps=2", "batch_scenes=4") for word in ("-p", name)]
    command = ["train", str(packed), "--to", str(out / "command"), "--method", "iai", *parameters]
    told = {"command": main(command), "again": main(command)}
    told["uneven"] = error_of(store, SMALL | {"method": "iai", "batch_scenes": 9}, out / "uneven")
    told["other"] = error_of(store, SMALL | {"method": "iai"}, out / "random")  # which the first finds out
    (out / f"told-{os.environ['RANK']}.json").write_text(json.dumps(told))


def error_of(store, settings, folder):
    try:
        train(store, settings, folder)
    except MosaicError as error:
        return str(error)


@pytest.fixture(scope="module")
def launched(packed, tmp_path_factory):
    """Folder with the folders ``two`` and ``four`` of the cases that so many processes ran."""
    out = tmp_path_factory.mktemp("distributed")
    train(PackedStore(packed), SIX, out / "two" / "one_then_two", stop=5)
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
    """Train a case in this process, once: ``one(name) -> folder``."""
    return cache(lambda name: train(PackedStore(packed), CASES[name], tmp_path_factory.mktemp("one")))


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


@pytest.mark.parametrize("case", ["four/six", *(f"two/{name}" for name in CASES)])
def test_several_processes_have_log_weights_and_gradients_of_one(case, one, launched):
    folder, expected = launched / case, one(case.partition("/")[2])
    assert_same(folder, expected)
    trained = not case.endswith("random")
    if trained:
        assert_same_gradients(folder, expected)
    processes = {"two": 2, "four": 4}[case.partition("/")[0]] if trained else 1
    assert timing(folder)["processes"] == processes
    assert timing(folder)["device"].startswith(f"{processes} × " if trained else "CPU")


def test_run_resumes_with_another_number_of_processes(one, two, packed):
    assert (two / "two_then_one" / "last.ckpt").exists() and not (two / "one_then_two" / "last.ckpt").exists()
    train(PackedStore(packed), SIX, two / "two_then_one")
    assert_same(two / "two_then_one", one("six"))
    assert_same(two / "one_then_two", one("six"))


def test_every_process_hears_of_a_mistake_and_runs_the_command(two):
    for rank in (0, 1):
        told = json.loads((two / f"told-{rank}.json").read_text())
        assert "9 scenes cannot be shared equally by 2 processes: choose a multiple of 2" in told["uneven"]
        assert "holds an encoder of other settings" in told["other"]
        assert (told["command"], told["again"]) == (0, 0)
    assert not (two / "uneven").exists()
    assert timing(two / "command")["processes"] == 2


if __name__ == "__main__":
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    import mosaic.training.trainer  # noqa: F401  # before the forks

    data, folder = map(Path, sys.argv[1:])
    where = {"rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0", "run_id": "test", "max_restarts": 0}
    for name, processes in {"two": 2, "four": 4}.items():
        config = LaunchConfig(1, 1, nproc_per_node=processes, start_method="fork", **where)
        elastic_launch(config, work)(data, folder / name)
