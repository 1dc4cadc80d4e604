"""Pretraining: from a row of the table of methods to an encoder on disk.

Every method takes the same number of steps of the same size, and the weights of the last step are kept:
nobody gets to choose a better moment by looking at validation labels.
"""

import contextlib
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from mosaic.methods import Method, get_method
from mosaic.models.checkpoint import CARD, read_card, save_encoder
from mosaic.models.encoders import check_architecture
from mosaic.models.sync_batch_norm import synchronise
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.data import KnownLabels, ScenePicker, StepBatches
from mosaic.training.distributed import Processes, join
from mosaic.utils.errors import BudgetError, RunError, SettingsError, suggest
from mosaic.utils.files import lock
from mosaic.utils.hashing import hash_json

LAST = "last.ckpt"
LOG = "log.csv"
_PRECISIONS = ("auto", "32", "bf16-mixed")  # none that scales its loss: gradients are clipped as they are
_SETTLING = 20  # batches from which untrained encoders take their normalisation


@dataclass(frozen=True)
class PretrainConfig:
    """One run. Defaults are those of the ``demo`` profile.

    Attributes:
        method: a key of the table of methods.
        encoder: a key of ``ENCODERS``.
        image_size: side of a view, pixels.
        steps: optimiser steps.
        batch_scenes: scenes in a batch, two views of each sensor for each.
        learning_rate: AdamW, peak; reached by a linear warm-up and left by a cosine to 0.
        weight_decay: of weights; biases and normalisation have none.
        warmup_fraction: share of the steps.
        temperature_intra: unitless, as the other two.
        temperature_inter: of the term between sensors.
        temperature_label: of the label term.
        kernel: label kernel, unless the method names its own.
        kernel_threshold: kernel weights below it become 0.
        projection_dim: width of a projection head's output.
        weight_intra: replaces the method's weight of that term, as the other three; None keeps it.
        weight_inter: of the term between sensors.
        weight_label: of the label term.
        weight_classify: of the classification term.
        shared_geometry: one crop for both sensors of a view.
        crop_scale: least share of a patch's area in a crop.
        radiometry: factor on the strength of all radiometric augmentation; 0 for none.
        inter_style: ``"simclr"`` or ``"clip"``: negatives of both sensors, or of the other sensor only.
        unlabelled_negatives: unlabelled scenes are negatives of the label term.
        labelled_share: least share of labelled scenes in a batch of a method with a label term.
        precision: ``"32"``, ``"bf16-mixed"`` or ``"auto"``: bf16 on a GPU that computes in it.
        seed: of initialisation, data order and views.
        monitor_every: steps between two looks at collapse and kNN score; 0 for never.
        initial: folder of a checkpoint to start from.
        msc_alpha: this and the following are settings of single objectives, see
            :class:`mosaic.losses.objectives.base.ObjectiveSettings`; None keeps the published value.
        off_diagonal: of Barlow Twins and DeCUR.
        covariance: of VICReg.
        queue_size: of the queue of keys.
        key_momentum: of the queue's key encoder.
        temperature_spread: of MACL.
        rarity_pull: of MACL.
        contrast_weight: of SADCL.
    """

    method: str
    encoder: str = "light"
    image_size: int = 48
    steps: int = 150
    batch_scenes: int = 64
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    warmup_fraction: float = 0.1
    temperature_intra: float = 0.5
    temperature_inter: float = 0.5
    temperature_label: float = 0.1
    kernel: str = "jaccard"
    kernel_threshold: float = 0.0
    projection_dim: int = 128
    weight_intra: float | None = None
    weight_inter: float | None = None
    weight_label: float | None = None
    weight_classify: float | None = None
    shared_geometry: bool = True
    crop_scale: float = 0.4
    radiometry: float = 1.0
    inter_style: Literal["simclr", "clip"] = "simclr"
    unlabelled_negatives: bool = True
    labelled_share: float = 0.25
    precision: str = "auto"
    seed: int = 0
    monitor_every: int = 50
    initial: str | None = None
    msc_alpha: float | None = None
    off_diagonal: float | None = None
    covariance: float | None = None
    queue_size: int | None = None
    key_momentum: float | None = None
    temperature_spread: float | None = None
    rarity_pull: float | None = None
    contrast_weight: float | None = None

    def weighted_method(self) -> Method:
        """Return the method with the weights of this run."""
        weights = {name: getattr(self, f"weight_{name}") for name in ("intra", "inter", "label", "classify")}
        return replace(get_method(self.method), **{k: v for k, v in weights.items() if v is not None})

    def resolved_precision(self) -> str:
        """Return ``"32"`` or ``"bf16-mixed"``, which only a GPU takes unasked: few CPUs gain."""
        if self.precision != "auto":
            return self.precision
        able = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 8
        return "bf16-mixed" if able else "32"


def pretrain(
    store: PackedStore,
    config: PretrainConfig,
    labelled_rows: Rows,
    folder: Path,
    checkpoint_seconds: float = 60.0,
) -> Path:
    """Train one encoder, or return it at once when ``folder`` already holds it.

    A killed run resumes from its last checkpoint and, on a CPU, ends with the weights it would have had.
    Where another process is training the same, this one waits and returns what it made.

    Called in every process that ``torchrun`` or ``srun`` started, each takes its part of every batch, and the
    result is that of one process up to rounding. The number of processes may change when a run resumes.

    Args:
        store: packed data.
        config: the run.
        labelled_rows: training rows whose labels may be used; no other label reaches the model.
        folder: where ``encoder.safetensors``, ``card.json`` and ``log.csv`` go.
        checkpoint_seconds: time between two checkpoints to resume from.

    Returns:
        ``folder``.

    Raises:
        RunError: when the folder holds another run, memory runs out, or the loss is not finite.
        BudgetError: when a labelled row is not a training row, or a method that needs labels gets none.
        SettingsError: for a batch larger than the training split or that the processes cannot share equally,
            or an impossible name.
        CheckpointError: when the weights to start from are damaged or of another architecture.
    """
    labelled = np.unique(np.asarray(labelled_rows, dtype=np.int64))
    train = store.split_rows("train")
    processes = join()
    _check(store, config, train, labelled, processes.world)
    inputs = _inputs(store, config, labelled)
    with contextlib.ExitStack() as held:
        first = processes.agree(lambda: _begin(folder, inputs, held))
        if first is not None and (processes.first or config.weighted_method().trained):
            _run(store, config, train, labelled, folder, inputs, checkpoint_seconds, processes, first)
        processes.wait()
    return folder


def _begin(folder: Path, inputs: str, held: contextlib.ExitStack) -> int | None:
    """Lock the folder and return the step to start from; None when it holds the finished encoder."""
    if (folder / CARD).exists():
        if read_card(folder)["inputs"] != inputs:
            raise RunError(f"{folder} holds an encoder of other settings or data: choose another folder")
        return None
    held.enter_context(lock(folder, wait=True))
    for left in folder.glob(".*.partial.*"):  # of a run that was killed while it saved
        left.unlink()
    # another process may have finished it meanwhile
    return None if (folder / CARD).exists() else _resumed_step(folder / LAST, inputs)


def _check(store: PackedStore, config: PretrainConfig, train: Rows, labelled: Rows, processes: int) -> None:
    method = config.weighted_method()
    stray = np.setdiff1d(labelled, train)
    if stray.size:
        raise BudgetError(
            f"{stray.size} labelled rows are not training rows, e.g. {stray[0]}: draw the budget anew"
        )
    check_architecture(method, config.encoder)
    if config.precision not in _PRECISIONS:
        raise SettingsError(f"no precision {config.precision!r}{suggest(config.precision, _PRECISIONS)}")
    if method.uses_labels and not labelled.size:
        raise BudgetError(f"method {config.method!r} learns from labels, but the label budget is empty")
    if not method.sees_labelled_only and config.batch_scenes > len(train):
        raise SettingsError(
            f"a batch of {config.batch_scenes} scenes, but only {len(train)} training patches: "
            "use a smaller batch"
        )
    if method.trained and config.batch_scenes % processes:
        raise SettingsError(
            f"a batch of {config.batch_scenes} scenes cannot be shared equally by {processes} processes: "
            f"choose a multiple of {processes}, or another number of processes"
        )


def _inputs(store: PackedStore, config: PretrainConfig, labelled: Rows) -> str:
    """Return the digest of all that decides the result."""
    initial = read_card(config.initial)["weights"]["sha256"] if config.initial else None
    settings = {**asdict(config), "initial": initial, "precision": config.resolved_precision()}
    settings = {name: value for name, value in settings.items() if value is not None}
    return hash_json([store.fingerprint, settings, labelled.tolist()])


def _run(
    store: PackedStore,
    config: PretrainConfig,
    train: Rows,
    labelled: Rows,
    folder: Path,
    inputs: str,
    checkpoint_seconds: float,
    processes: Processes,
    first: int,
) -> None:
    # Lightning takes seconds to import, and most who read a configuration do not train
    from mosaic.training.callbacks import Logbook
    from mosaic.training.module import Pretraining
    from mosaic.training.trainer import fit

    known = KnownLabels(store, labelled)
    module = Pretraining(config, store, known)
    if module.method.weights:
        from mosaic.models.published_weights import load_published

        module.adopt(*load_published(module.method.weights, store.layout, config.image_size))
    logbook = Logbook(store, config, train, labelled, folder / LAST, inputs, checkpoint_seconds)
    share, seed = config.labelled_share, config.seed
    chances = known.rarity() if module.method.rare_first else None
    picker = ScenePicker(module.method, train, labelled, config.batch_scenes, share, seed, chances)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if module.method.trained:
        part = processes.rank, processes.world
        batches = StepBatches(store, picker, known, module.method, first, config.steps, device, part)
        if processes.world > 1:
            synchronise(module, device)
        fit(module, logbook, batches, config, folder / LAST if first else None, processes)
        if not processes.first:
            return
    else:
        module.to(device)
        if not module.method.weights:
            module.settle(StepBatches(store, picker, known, module.method, 0, _SETTLING, device))
        logbook.look(module, 0)
    logbook.write(folder / LOG)
    card = {
        "method": config.method,
        "title": module.method.title,
        "class_names": list(store.class_names),
        "layout": store.layout.to_json() | {"statistics": module.views.layout.statistics},
        "config": asdict(config),
        "inputs": inputs,
        "data": store.fingerprint,
        "patches": {"train": len(train), "labelled": len(labelled)},
        "parameters": {
            "encoder": sum(p.numel() for p in module.encoder.parameters()),
            "trained": sum(p.numel() for p in module.parameters() if p.requires_grad),
        },
        "final": logbook.rows[-1],
        "timing": logbook.timing(processes.world if module.method.trained else 1),
        "versions": {name: version(name) for name in ("torch", "lightning", "timm")},
    }
    save_encoder(folder, module.encoder.cpu(), card, module.objective.classifier)
    (folder / LAST).unlink(missing_ok=True)


def _resumed_step(path: Path, inputs: str) -> int:
    """Return how many steps the checkpoint at ``path`` has done; 0 when there is none."""
    if not path.exists():
        return 0
    content = torch.load(path, map_location="cpu", weights_only=True)
    if content["inputs"] != inputs:
        raise RunError(
            f"{path.parent} holds an unfinished run of other settings or data: "
            "choose another folder, or delete it"
        )
    return int(content["global_step"])
