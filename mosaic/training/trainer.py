"""Lightning's trainer and callbacks: how a run is logged, saved, resumed and ended."""

import contextlib
import logging
import resource
import signal
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.nn.functional import normalize

from mosaic.evaluation.coherence import alignment, effective_rank, embedding_std, uniformity
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import knn_votes
from mosaic.settings import TrialSettings
from mosaic.store.prefetch import read_tensors
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.data import StepBatches, groups_of, random_of, view_generator
from mosaic.training.distributed import Processes
from mosaic.training.module import TERMS, Pretraining
from mosaic.utils.devices import autocast, resolve_precision
from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path
from mosaic.utils.progress import bar
from mosaic.utils.words import count

HEALTH = ("alignment", "uniformity", "embedding_std", "effective_rank", "knn")
COLUMNS = ("step", "total", *TERMS, "lr", *HEALTH, "seconds")

for library in ("lightning.pytorch", "lightning.fabric"):
    logging.getLogger(library).setLevel(logging.ERROR)  # banners and hints; errors still pass

_CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets the peak of resident memory; see proc(5)
_PATCHES = 384  # evaluated on either side of the kNN score
_PAIRS = 64  # scenes whose two views measure alignment
_BATCH = 256  # patches encoded at once


class Logbook(Callback):
    """Log every step, every ``monitor_every`` steps the health of the embedding space, and save the run.

    The rows are part of the checkpoint: a file written as it goes, as by Lightning's CSVLogger, would hold
    steps twice after a kill between two checkpoints. ``knn`` is the macro average precision on up to 384
    validation patches with as many of the rows ``near`` as neighbours. Evaluating never changes the run: no
    generator is shared. ``inputs``, the hash of all that decides the result, is kept in the checkpoint, which
    goes to ``path`` every ``seconds``; Lightning's own saves by time only where it takes the steps.
    """

    def __init__(
        self, store: PackedStore, trial: TrialSettings, near: Rows, inputs: str, path: Path, seconds: float
    ) -> None:
        self._store, self._trial, self._inputs = store, trial, inputs
        self.path, self._every, self._saved = path, seconds, time.monotonic()
        self._monitored = _some(near), _some(store.split_rows("validation"))
        self._on_device: dict[str, Any] = {}
        self._pending: tuple[dict[str, float], list[Tensor], Callable[[], None]] | None = None
        self.rows: list[dict[str, float]] = []
        self.bar: Any = None  # of progress, while steps are taken
        self._earlier = self._evaluating = 0.0
        self._started = time.monotonic()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):  # Linux alone; elsewhere it is the peak since the process began
            _CLEAR_PEAK.write_text("5")

    @property
    def seconds(self) -> float:
        """Time spent so far, over all resumptions."""
        return self._earlier + time.monotonic() - self._started

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Evaluate the untrained encoder, for comparison."""
        if trainer.is_global_zero and not self.rows:
            self.log_step(pl_module, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Log the step, and save the run when it is time; all processes at the same step."""
        self.log_step(pl_module, trainer.global_step, trainer.is_global_zero)
        due = time.monotonic() - self._saved >= self._every and trainer.global_step < self._trial.steps
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            trainer.save_checkpoint(self.path)
            self._saved = time.monotonic()

    def log_step(self, module: Pretraining, step: int, evaluate: bool = True) -> None:
        """Add the row of a step, 0 before training; all processes read losses and stop at the same step."""
        self._module = module
        self.rows.append({"step": step} | ({"lr": module.learning_rate(step - 1)} if step else {}))
        every, last = self._trial.monitor_every, step == self._trial.steps
        due = every and (step % every == 0 or last)
        if due and evaluate:
            self._finish_evaluation()
            self._start_evaluation()
        if due or last or module.losses_due:
            module.read_losses(self.rows)
        self.rows[-1]["seconds"] = self.seconds
        if step and self.bar is not None:
            if "total" in self.rows[-1]:
                self.bar.set_postfix_str(f"loss {self.rows[-1]['total']:.3f}", refresh=False)
            self.bar.update()

    @torch.inference_mode()
    def _start_evaluation(self) -> None:
        """Start an evaluation on the device; the host does its part when a GPU has the next steps to take."""
        began, module = time.monotonic(), self._module
        device, views, encoder = module.device, module.views, module.encoder.eval()
        cuda = device.type == "cuda"
        inputs = self._on_device or self._inputs_on(device)
        self._on_device = inputs if cuda else {}  # a GPU keeps them

        def encode(images: dict[str, Tensor]) -> Tensor:
            with module.uncompiled(), autocast(device, self._trial.precision):
                return encoder.fused(encoder(images)).float()

        train, validation = (
            torch.cat([encode(views.evaluation(_part(part, i, _BATCH))) for i in range(0, len(rows), _BATCH)])
            for part, rows in zip(inputs["records"], self._monitored, strict=True)
        )
        paired = _part(inputs["records"][1], 0, _PAIRS)
        pairs = encode(views.apply((paired, paired), inputs["views"]))
        module.train()
        results = [knn_votes(train, inputs["labels"], validation), validation, pairs]
        results = [result.to("cpu", non_blocking=True) for result in results]
        wait = torch.cuda.current_stream().record_event().synchronize if cuda else lambda: None
        self._pending = self.rows[-1], results, wait
        self._evaluating += time.monotonic() - began

    def _inputs_on(self, device: torch.device) -> dict[str, Any]:
        """Return the records and labels of the monitored patches, and two fixed random views of some."""
        groups, views = groups_of(self._module.method, self._store.layout), self._module.views
        read = [read_tensors(self._store, rows) for rows in self._monitored]
        records = [{name: values[name].to(device) for name in groups} for values in read]
        generator, pairs = view_generator(self._trial.seed, "alignment"), len(self._monitored[1][:_PAIRS])
        drawn = views.draw(views.shown(groups), pairs, generator, views=2)
        labels = torch.from_numpy(self._store.labels[self._monitored[0]]).to(device, torch.float32)
        return {"records": records, "views": {n: t.to(device) for n, t in drawn.items()}, "labels": labels}

    def _finish_evaluation(self) -> None:
        """Add the health of the embedding space, by the names in ``HEALTH``, to the row it is of."""
        if self._pending is None:
            return
        began = time.monotonic()
        row, (scores, validation, pairs), wait = self._pending
        wait()
        unit = normalize(validation, dim=1)
        row |= {
            "alignment": alignment(*normalize(pairs, dim=1).chunk(2)).item(),
            "uniformity": uniformity(unit).item(),
            "embedding_std": embedding_std(unit).item(),
            "effective_rank": effective_rank(unit).item(),
            "knn": macro_ap(self._store.labels[self._monitored[1]], scores.numpy()),
        }
        self._pending = None
        self._evaluating += time.monotonic() - began

    def timing(self, processes: int = 1) -> dict[str, Any]:
        """Return what the run cost: seconds, steps per second without evaluation, peak memory, device."""
        cuda, seconds = torch.cuda.is_available(), self.seconds
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 2**10  # with libraries and mapped data
        device = torch.cuda.get_device_name() if cuda else f"CPU, {count(torch.get_num_threads(), 'thread')}"
        return {
            "seconds": round(seconds, 2),
            "steps_per_second": round(self.rows[-1]["step"] / max(seconds - self._evaluating, 1e-9), 3),
            "peak_memory_mb": round((torch.cuda.max_memory_allocated() if cuda else memory) / 2**20),
            "device": f"{processes} × {device}" if processes > 1 else device,
            "processes": processes,
        }

    def write(self, path: Path) -> dict[str, float]:
        """Write the log as CSV with the columns of ``COLUMNS``; return what its last row holds but NaN."""
        self._finish_evaluation()
        with atomic_path(path) as partial:
            pd.DataFrame(self.rows, columns=list(COLUMNS)).to_csv(partial, index=False, float_format="%.7g")
        return {name: value for name, value in self.rows[-1].items() if not np.isnan(value)}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint with what it belongs to."""
        checkpoint["inputs"] = self._inputs

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to continue the log; nothing is saved after a loss not finite."""
        self._module.read_losses(self.rows)
        self._finish_evaluation()
        return {"rows": self.rows, "seconds": self.seconds, "evaluating": self._evaluating}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the log of the interrupted run."""
        self.rows = list(state_dict["rows"])
        self._earlier, self._evaluating = state_dict["seconds"], state_dict["evaluating"]


def _some(rows: Rows) -> Rows:
    """Return up to 384 of ``rows``, the same ones whatever the method and seed."""
    return rows if len(rows) <= _PATCHES else rows[random_of(0, "monitor").permutation(len(rows))[:_PATCHES]]


def _part(records: Mapping[str, Tensor], start: int, count: int) -> dict[str, Tensor]:
    return {name: record[start : start + count] for name, record in records.items()}


class AtomicCheckpoints(TorchCheckpointIO):
    """Write a checkpoint under a temporary name in its folder, which Lightning's own writer does not."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; RunError when the folder cannot be written or is full."""
        try:
            with atomic_path(Path(path)) as partial:
                torch.save(checkpoint, partial)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise RunError(
                f"cannot write the checkpoint {path} ({error}): free space, or change its permissions"
            ) from error


def fit(module: Pretraining, logbook: Logbook, batches: StepBatches, processes: Processes) -> None:
    """Take the steps of ``batches``; those after step 0 go on from the logbook's checkpoint.

    Raises RunError when GPU memory runs out, KeyboardInterrupt on Ctrl-C.
    """
    trial = module.trial
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings(action="ignore"):  # hints about data loaders and loggers
            trainer = Trainer(
                accelerator="cuda" if torch.cuda.is_available() else "cpu",
                devices=processes.per_node,
                num_nodes=processes.world // processes.per_node,
                # buffers need no broadcast: they are computed from gathered values
                strategy=DDPStrategy(broadcast_buffers=False) if processes.world > 1 else "auto",
                max_steps=trial.steps,
                max_epochs=-1,
                callbacks=[logbook],
                plugins=[AtomicCheckpoints(), processes.environment or LightningEnvironment()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            resumed, what = logbook.path if batches.steps.start else None, f"training {trial.method}"
            shown = processes.rank == 0
            with bar(what, trial.steps, initial=batches.steps.start, shown=shown) as logbook.bar:
                trainer.fit(module, batches, ckpt_path=resumed, weights_only=True)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of GPU memory with {trial.batch_scenes} scenes of {trial.views.image_size} px in "
            f"{resolve_precision(trial.precision)}: lower batch_scenes (fewer negatives) or image_size, "
            "or use precision 'bf16-mixed'"
        ) from error
    except SystemExit as stop:
        if stop.code != 1:  # a cluster stops or requeues this job
            raise
        # Lightning turns Ctrl-C into this exit and leaves the signal ignored
        signal.signal(signal.SIGINT, interrupt)
        raise KeyboardInterrupt from stop
