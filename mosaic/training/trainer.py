"""Lightning's trainer and callbacks: how a run is logged, saved, resumed and ended."""

import contextlib
import logging
import resource
import signal
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.strategies import DDPStrategy
from torch import Tensor
from torch.nn import functional

from mosaic.evaluation.coherence import alignment, effective_rank, embedding_std, uniformity
from mosaic.evaluation.features import encode_rows, fuse
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import knn_scores
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.data import StepBatches, random_of, view_generator
from mosaic.training.distributed import Processes, resolve_precision
from mosaic.training.module import TERMS, Pretraining
from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path

HEALTH = ("alignment", "uniformity", "embedding_std", "effective_rank", "knn")
COLUMNS = ("step", "total", *TERMS, "lr", *HEALTH, "seconds")

_CLEAR_PEAK = Path("/proc/self/clear_refs")  # writing 5 resets the peak of resident memory; see proc(5)
_PATCHES = 384  # evaluated on either side of the kNN score
_PAIRS = 64  # scenes whose two views measure alignment


class Logbook(Callback):
    """Log every step, and every ``monitor_every`` steps the health of the embedding space.

    The rows are part of the checkpoint: a file written as it goes, as by Lightning's CSVLogger, would hold
    steps twice after a kill between two checkpoints. ``knn`` is the macro average precision on up to 384
    validation patches with the labelled training patches as neighbours; without labels, with those of the
    training split. Evaluating never changes the run: no generator is shared. ``inputs``, the hash of all that
    decides the result, is kept in the checkpoint.
    """

    def __init__(
        self, store: PackedStore, trial: TrialSettings, train: Rows, labelled: Rows, inputs: str
    ) -> None:
        self._store, self._trial, self._inputs = store, trial, inputs
        self._train = _monitored(labelled if len(labelled) else train)
        self._validation = _monitored(store.split_rows("validation"))
        self.rows: list[dict[str, float]] = []
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
        """Log the step."""
        self.log_step(pl_module, trainer.global_step, trainer.is_global_zero)

    def log_step(self, module: Pretraining, step: int, evaluate: bool = True) -> None:
        """Add the row of a step, 0 is before training; its losses when they are read.

        Every process reads them, and stops at the same step when they are not finite; the first evaluates.
        """
        self._module = module
        self.rows.append({"step": step} | ({"lr": module.learning_rate(step - 1)} if step else {}))
        every, last = self._trial.monitor_every, step == self._trial.steps
        due = every and (step % every == 0 or last)
        if due or last or module.losses_due:
            self._read_losses()
        if due and evaluate:
            self.rows[-1] |= self.evaluate(module)
        self.rows[-1]["seconds"] = self.seconds

    def _read_losses(self) -> None:
        losses = self._module.read_losses()
        for row, values in zip(self.rows[len(self.rows) - len(losses) :], losses, strict=True):
            row.update(values)

    def evaluate(self, module: Pretraining) -> dict[str, float]:
        """Return the health of the embedding space, by the names in ``HEALTH``."""
        began = time.monotonic()
        encoder, views, labels = module.encoder.eval(), module.views, self._store.labels
        with module.uncompiled():
            train, validation = (
                fuse(encode_rows(self._store, encoder, views, rows, module.device))
                for rows in (self._train, self._validation)
            )
            pairs = self._two_views(module)
        module.train()
        scores = knn_scores(train, labels[self._train], validation)
        unit = functional.normalize(torch.from_numpy(validation), dim=1)
        values = {
            "alignment": alignment(*pairs).item(),
            "uniformity": uniformity(unit).item(),
            "embedding_std": embedding_std(unit).item(),
            "effective_rank": effective_rank(unit).item(),
            "knn": macro_ap(labels[self._validation], scores),
        }
        self._evaluating += time.monotonic() - began
        return values

    @torch.inference_mode()
    def _two_views(self, module: Pretraining) -> tuple[Tensor, ...]:
        """Return the fused, normalised features of two fixed random views of the same scenes, (N, F) each."""
        records = {
            name: torch.from_numpy(record).to(module.device)
            for name, record in self._store.read(self._validation[:_PAIRS]).items()
        }
        generator = view_generator(self._trial.seed, "alignment")
        features = [module.encoder(module.views(records, generator)) for _ in range(2)]
        return tuple(functional.normalize(torch.cat(list(f.values()), 1).float(), dim=1) for f in features)

    def timing(self, processes: int = 1) -> dict[str, Any]:
        """Return what the run cost: seconds, steps per second without evaluation, peak memory in MB, device.

        Memory is that of this process, on a CPU with its libraries and mapped data.
        """
        steps, seconds = self.rows[-1]["step"], self.seconds
        cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        device = torch.cuda.get_device_name() if cuda else f"CPU, {threads} thread{'s' * (threads > 1)}"
        return {
            "seconds": round(seconds, 2),
            "steps_per_second": round(steps / max(seconds - self._evaluating, 1e-9), 3),
            "peak_memory_mb": round(torch.cuda.max_memory_allocated() / 2**20 if cuda else resident),
            "device": f"{processes} × {device}" if processes > 1 else device,
            "processes": processes,
        }

    def write(self, path: Path) -> None:
        """Write the log as CSV with the columns of ``COLUMNS``; what a step does not have is empty."""
        with atomic_path(path) as partial:
            pd.DataFrame(self.rows, columns=list(COLUMNS)).to_csv(partial, index=False, float_format="%.7g")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        """Mark the checkpoint with what it belongs to."""
        checkpoint["inputs"] = self._inputs

    def state_dict(self) -> dict[str, Any]:
        """Return what a resumed run needs to continue the log; nothing is saved after a loss not finite."""
        self._read_losses()
        return {"rows": self.rows, "seconds": self.seconds, "evaluating": self._evaluating}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the log of the interrupted run."""
        self.rows = list(state_dict["rows"])
        self._earlier, self._evaluating = state_dict["seconds"], state_dict["evaluating"]


class TimedCheckpoint(Callback):
    """Save the run every so often; Lightning's own saves by time only where it takes the steps."""

    def __init__(self, path: Path, seconds: float) -> None:
        self._path, self._seconds, self._saved = path, seconds, time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Save when it is time; all processes at the same step."""
        due = time.monotonic() - self._saved >= self._seconds and trainer.global_step < trainer.max_steps
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            trainer.save_checkpoint(self._path)
            self._saved = time.monotonic()


def _monitored(rows: Rows) -> Rows:
    """Return up to 384 of ``rows``, the same ones whatever the method and seed."""
    return rows if len(rows) <= _PATCHES else rows[random_of(0, "monitor").permutation(len(rows))[:_PATCHES]]


class AtomicCheckpoints(TorchCheckpointIO):
    """Write a checkpoint under a temporary name in its folder, and rename it.

    Lightning's own writer stages in $TMPDIR, and does not report a folder that cannot be written.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint; ``RunError`` when the folder cannot be written or is full."""
        try:
            with atomic_path(Path(path)) as partial:
                torch.save(checkpoint, partial)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise RunError(
                f"cannot write the checkpoint {path} ({error}): free space, or change its permissions"
            ) from error


def fit(
    module: Pretraining,
    logbook: Logbook,
    batches: StepBatches,
    checkpoint: Path,
    checkpoint_seconds: float,
    processes: Processes,
) -> None:
    """Take the steps of ``batches``; a run that does not start at step 0 resumes from ``checkpoint``.

    Raises:
        RunError: when GPU memory runs out.
        KeyboardInterrupt: on Ctrl-C.
    """
    trial = module.trial
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with _quiet():
            trainer = Trainer(
                accelerator="cuda" if torch.cuda.is_available() else "cpu",
                devices=processes.per_node,
                num_nodes=processes.world // processes.per_node,
                # buffers need no broadcast: they are computed from gathered values
                strategy=DDPStrategy(broadcast_buffers=False) if processes.world > 1 else "auto",
                max_steps=trial.steps,
                max_epochs=-1,
                callbacks=[logbook, TimedCheckpoint(checkpoint, checkpoint_seconds)],
                plugins=[AtomicCheckpoints(), processes.environment or LightningEnvironment()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            trainer.fit(module, batches, ckpt_path=checkpoint if batches.steps.start else None)
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


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Lightning's banners and hints about data loaders and loggers; errors still pass."""
    with contextlib.ExitStack() as stack:
        for logger in (logging.getLogger("lightning.pytorch"), logging.getLogger("lightning.fabric")):
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        stack.enter_context(warnings.catch_warnings())
        warnings.filterwarnings("ignore", module=r"lightning\.")
        yield
