"""Pretraining: from a row of the table of methods to an encoder on disk.

Every method takes the same number of steps, and the weights of the last one are kept: none gets to choose a
better moment by its score on validation labels.
"""

import contextlib
import gc
import hashlib
import os
import zipfile
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mosaic.losses.label_kernels import KERNELS
from mosaic.losses.objectives.base import LOSSES
from mosaic.methods import get_method
from mosaic.models.checkpoint import CARD, read_card, save_encoder
from mosaic.models.encoders import check_architecture
from mosaic.settings import ComputeSettings, TrialSettings, fields
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.data import KnownLabels, ScenePicker, StepBatches, record_table
from mosaic.training.distributed import Processes, join, synchronise
from mosaic.utils.cached import read_if_sound
from mosaic.utils.devices import resolve_precision
from mosaic.utils.errors import BudgetError, CheckpointError, RunError, SettingsError
from mosaic.utils.files import hash_json, lock, sha256_file
from mosaic.utils.interrupts import after_import
from mosaic.utils.plugins import plugin_hashes

LAST = "last.ckpt"
LOG = "log.csv"
_CALIBRATION = 20  # batches from which untrained encoders take their normalisation


def pretrain(
    store: PackedStore, trial: TrialSettings, labelled: Rows, folder: Path, checkpoint_seconds: float = 60.0
) -> Path:
    """Train one encoder; return ``folder``, at once when it holds the encoder already.

    ``labelled`` are training rows: no label of any other reaches the model. ``encoder.safetensors``,
    ``card.json`` and ``log.csv`` go to ``folder``; every ``checkpoint_seconds`` a checkpoint to resume from.

    A killed run resumes from its last checkpoint and, on a CPU, ends with the weights it would have had.
    Damaged files are set aside, and what they held is trained again. While another process trains the same
    encoder, this one waits for it. Several processes, started by ``torchrun`` or ``srun``, take equal shards
    of every batch, with the result of one up to rounding. Their number may change when a run resumes.

    Example:
        >>> store = PackedStore(Path("data/packed"))
        >>> trial = TrialSettings(method="mosaic", seed=1, steps=2000).replace(temperature_label=0.2)
        >>> pretrain(store, trial, store.split_rows("train"), Path("encoders/mosaic"))
        >>> encoder = load_encoder("encoders/mosaic")

    Raises:
        RunError: when the folder holds another run, memory runs out, or the loss is not finite.
        BudgetError: when a labelled row is not a training row, or a method that needs labels gets none.
        SettingsError: for an impossible name or size of a batch.
        CheckpointError: when the weights to start from are damaged or of another architecture.
    """
    labelled, processes = np.unique(np.asarray(labelled, dtype=np.int64)), join()
    _check(store.split_rows("train"), trial, labelled, processes.world)
    initial = read_card(trial.initial)["weights"]["sha256"] if trial.initial else None
    content = decisive(trial.replace(initial=initial, precision=resolve_precision(trial.precision)))
    inputs = hash_json([store.fingerprint, content, labelled.tolist()])  # all that decides the result
    with contextlib.ExitStack() as locks:
        first = processes.agree(lambda: _first_step(folder, inputs, locks))
        if first is not None and (processes.rank == 0 or trial.weighted_method().trained):
            _run(store, trial, labelled, folder, inputs, checkpoint_seconds, processes, first)
        return processes.agree(lambda: folder)  # when the first process has written it


def decisive(trial: TrialSettings) -> dict[str, Any]:
    """Return, as JSON, what of a trial decides its result, but for data and labels."""
    method, shown = get_method(trial.method), ("title", "family", "like")
    found: dict[str, Any] = {
        # a row of the table that changes is another method under the same name
        "method": {name: value for name, value in asdict(method).items() if name not in shown},
        "settings": {name: v for name, v in trial.flat().items() if name not in fields(ComputeSettings)},
    }
    # a loss of a user is another one when its file changes
    if plugins := plugin_hashes(LOSSES[method.loss], KERNELS[method.kernel or trial.loss.kernel]):
        found["plugins"] = plugins
    return found


def _free_memory() -> int:
    """Return the bytes of GPU memory for this process, of those that share what is left; 0 without a GPU."""
    if not torch.cuda.is_available():
        return 0
    gc.collect()  # Lightning's objects hold one another, and with them what an earlier trial had on the GPU
    torch.cuda.empty_cache()
    return torch.cuda.mem_get_info()[0] // int(os.environ.get("MOSAIC_GPU_PROCESSES", "1"))


def finished(folder: Path) -> dict[str, Any] | None:
    """Return the card of a finished encoder; None without one, or where damage makes it be set aside."""
    digest = read_if_sound(folder / LOG, lambda path: hashlib.sha256(path.read_bytes()).hexdigest())

    def read(path: Path) -> dict[str, Any]:
        card = read_card(path.parent)
        if card["log"] != digest:
            raise CheckpointError(f"{LOG} was changed")
        return card

    return read_if_sound(folder / CARD, read)


def _read_last(path: Path) -> dict[str, Any]:
    """Return a checkpoint, as data only, whose records have the checksums they were written with."""
    with zipfile.ZipFile(path) as file:
        if record := file.testzip():
            raise zipfile.BadZipFile(f"{record} was changed")
    checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return {"inputs": checkpoint["inputs"], "step": int(checkpoint["global_step"])}


def _first_step(folder: Path, inputs: str, locks: contextlib.ExitStack) -> int | None:
    """Lock the folder and return the step to start from; None when it holds the finished encoder."""
    card = finished(folder)
    if card is None:
        locks.enter_context(lock(folder, wait=True))
        for partial in folder.glob(".*.partial.*"):  # of a run that was killed while it saved
            partial.unlink()
        card = finished(folder)  # another process may have finished it meanwhile
    last = card or read_if_sound(folder / LAST, _read_last) or {"inputs": inputs, "step": 0}
    if last["inputs"] != inputs:
        kind = "encoder" if card else "unfinished run"
        raise RunError(f"{folder} holds an {kind} of other settings or data: choose another, or delete it")
    return None if card else last["step"]


def _check(train: Rows, trial: TrialSettings, labelled: Rows, processes: int) -> None:
    method, batch = trial.weighted_method(), trial.batch_scenes
    if (stray := np.setdiff1d(labelled, train)).size:
        raise BudgetError(
            f"{stray.size} labelled rows are not training rows, e.g. {stray[0]}: draw them anew"
        )
    check_architecture(method, trial.encoder)
    if method.uses_labels and not labelled.size:
        raise BudgetError(f"method {trial.method!r} learns from labels, but the label budget is empty")
    if not method.sees_labelled_only and batch > len(train):
        few = f"only {len(train)} training patches: use a smaller batch"
        raise SettingsError(f"a batch of {batch} scenes, but {few}")
    if method.trained and batch % processes:
        raise SettingsError(
            f"a batch of {batch} scenes cannot be shared equally by {processes} processes: choose a multiple "
            f"of {processes}, or another number of processes"
        )


def _run(
    store: PackedStore,
    trial: TrialSettings,
    labelled: Rows,
    folder: Path,
    inputs: str,
    checkpoint_seconds: float,
    processes: Processes,
    first: int,
) -> None:
    # Lightning takes seconds to import, and what only reads encoders imports this module as well
    with after_import():
        from mosaic.training.module import Pretraining
        from mosaic.training.trainer import Logbook, fit

    train, known = store.split_rows("train"), KnownLabels(store, labelled)
    picker, device = ScenePicker(trial, train, known), "cuda" if torch.cuda.is_available() else "cpu"
    table = record_table(store, picker, trial, device, _free_memory())
    module = Pretraining(trial, store, known, table)
    method, neighbours = module.method, labelled if len(labelled) else train
    logbook = Logbook(store, trial, neighbours, inputs, folder / LAST, checkpoint_seconds)
    steps = range(first, trial.steps) if method.trained else range(_CALIBRATION)
    shard = (processes.rank, processes.world) if method.trained else (0, 1)
    batches = StepBatches(store, picker, known, module.views, steps, device, shard, table)
    if method.trained:
        if processes.world > 1:
            synchronise(module, device)
        fit(module, logbook, batches, processes)
        if processes.rank > 0:
            return
    else:
        if method.weights:
            from mosaic.models.published_weights import load_published  # torchgeo, for few methods

            module.replace_encoder(*load_published(method.weights, store.layout, trial.views.image_size))
        else:
            module.to(device).calibrate_batch_norm(batches)
        logbook.log_step(module.to(device), 0)
    final = logbook.write(folder / LOG)
    card = {
        "method": trial.method,
        "title": method.title,
        "class_names": list(store.class_names),
        "layout": asdict(store.layout) | {"statistics": module.views.layout.statistics},
        "settings": trial.model_dump(),
        "inputs": inputs,
        "data": store.fingerprint,
        "patches": {"train": len(train), "labelled": len(labelled)},
        "parameters": {
            "encoder": sum(p.numel() for p in module.encoder.parameters()),
            "trained": sum(p.numel() for p in module.parameters() if p.requires_grad),
        },
        "final": final,
        "log": sha256_file(folder / LOG),
        "timing": logbook.timing(processes.world if method.trained else 1),
        "versions": {name: version(name) for name in ("torch", "lightning", "timm")},
    }
    save_encoder(folder, module.encoder.cpu(), card, module.objective.classifier)
    (folder / LAST).unlink(missing_ok=True)
