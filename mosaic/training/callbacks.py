"""What a run notes while it trains: losses, health of the embedding space, time; and when it saves itself."""

import contextlib
import resource
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.nn import functional

from mosaic.evaluation.embedding_metrics import alignment, effective_rank, embedding_std, uniformity
from mosaic.evaluation.features import encode_rows, fuse
from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import knn_scores
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.data import random_of, view_generator
from mosaic.training.module import TERMS, Pretraining
from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path

HEALTH = ("alignment", "uniformity", "embedding_std", "effective_rank", "knn")
COLUMNS = ("step", "total", *TERMS, "lr", *HEALTH, "seconds")

_PEAK = Path("/proc/self/clear_refs")  # 5 forgets the peak of resident memory; see proc(5)
_PATCHES = 384  # looked at on either side of the kNN score
_PAIRS = 64  # scenes whose two views measure alignment


class Logbook(Callback):
    """Keeps one row a step, looks at the encoder now and then, and saves the run so that it can resume.

    ``knn`` is the macro average precision on up to 384 validation patches with the labelled training patches
    as neighbours; a method that uses no labels is looked at with those of the training split. Looking never
    changes the run: the encoder is read in evaluation mode and no generator is shared.

    Args:
        store: packed data.
        trial: the run.
        train: training rows.
        labelled: those whose labels may be used.
        last: checkpoint to resume from.
        inputs: digest of all that decides the result; kept in the checkpoint.
        checkpoint_seconds: time between two checkpoints.
    """

    def __init__(
        self,
        store: PackedStore,
        trial: TrialSettings,
        train: Rows,
        labelled: Rows,
        last: Path,
        inputs: str,
        checkpoint_seconds: float,
    ) -> None:
        self._store, self._trial = store, trial
        self._last, self._inputs, self._interval = last, inputs, checkpoint_seconds
        self._train = _subset(labelled if len(labelled) else train)
        self._validation = _subset(store.split_rows("validation"))
        self.rows: list[dict[str, float]] = []
        self._earlier = 0.0
        self._started = self._saved = time.monotonic()
        self._looking = 0.0
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        with contextlib.suppress(OSError):  # only Linux can: elsewhere it is the peak since the process began
            _PEAK.write_text("5")

    @property
    def seconds(self) -> float:
        """Time spent so far, over all resumptions."""
        return self._earlier + time.monotonic() - self._started

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        """Look at the untrained encoder, for comparison."""
        if trainer.is_global_zero and not self.rows:
            self.look(pl_module, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Note the step; look and save when it is time.

        The first of several processes does so. The others join in saving, where Lightning waits for them; as
        they cannot know when it is time, they are told after every step.
        """
        step, due = trainer.global_step, False
        if trainer.is_global_zero:
            self._note(step, pl_module)
            due = step < self._trial.steps and time.monotonic() - self._saved >= self._interval
        if trainer.strategy.reduce_boolean_decision(due, all=False):
            trainer.save_checkpoint(self._last)
            self._saved = time.monotonic()

    def _note(self, step: int, module: Pretraining) -> None:
        every = self._trial.monitor_every
        self.rows.append({"step": step, **module.values, "lr": module.learning_rate(step - 1)})
        if every and (step % every == 0 or step == self._trial.steps):
            self.look(module, step)
        self.rows[-1]["seconds"] = self.seconds

    def look(self, module: Pretraining, step: int) -> None:
        """Add the health of the embedding space to the row of ``step``."""
        if not self.rows or self.rows[-1]["step"] != step:
            self.rows.append({"step": step, "seconds": self.seconds})
        if not self._trial.monitor_every:
            return
        began = time.monotonic()
        encoder, views, device = module.encoder, module.views, module.device
        encoder.eval()
        reference = fuse(encode_rows(self._store, encoder, views, self._train, device))
        validation = fuse(encode_rows(self._store, encoder, views, self._validation, device))
        pairs = self._two_views(module)
        module.train()
        labels = self._store.labels
        scores = knn_scores(reference, labels[self._train], validation)
        unit = functional.normalize(torch.from_numpy(validation), dim=1)
        values = (
            alignment(*pairs).item(),
            uniformity(unit).item(),
            embedding_std(unit).item(),
            effective_rank(unit).item(),
            macro_ap(labels[self._validation], scores),
        )
        self.rows[-1].update(zip(HEALTH, values, strict=True))
        self._looking += time.monotonic() - began

    @torch.inference_mode()
    def _two_views(self, module: Pretraining) -> tuple[torch.Tensor, ...]:
        """Return the fused, normalised features of two fixed random views of the same scenes, (N, F) each."""
        records = {
            name: torch.from_numpy(record).to(module.device)
            for name, record in self._store.read(self._validation[:_PAIRS]).items()
        }
        generator = view_generator(module.device, self._trial.seed, "alignment")
        features = [module.encoder(module.views(records, generator)) for _ in range(2)]
        return tuple(functional.normalize(torch.cat(list(f.values()), 1).float(), dim=1) for f in features)

    def timing(self, processes: int = 1) -> dict[str, Any]:
        """Return what the run cost: seconds, steps per second without looking, peak memory in MB, device.

        Memory is that of this process; on a CPU with its libraries and mapped data. Each of several processes
        has a device of its own.
        """
        steps, seconds = self.rows[-1]["step"], self.seconds
        cuda, threads = torch.cuda.is_available(), torch.get_num_threads()
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        device = torch.cuda.get_device_name() if cuda else f"CPU, {threads} thread{'s' * (threads > 1)}"
        return {
            "seconds": round(seconds, 2),
            "steps_per_second": round(steps / max(seconds - self._looking, 1e-9), 3),
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
        """Return what a resumed run needs to go on with the log."""
        return {"rows": self.rows, "seconds": self.seconds, "looking": self._looking}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on with the log of the interrupted run."""
        self.rows = list(state_dict["rows"])
        self._earlier, self._looking = state_dict["seconds"], state_dict["looking"]


def _subset(rows: Rows) -> Rows:
    """Return up to 384 of ``rows``, the same ones whatever the method and seed."""
    if len(rows) <= _PATCHES:
        return rows
    return rows[random_of(0, "monitor").permutation(len(rows))[:_PATCHES]]


class AtomicCheckpoints(TorchCheckpointIO):
    """Writes beside the final name and renames.

    Lightning's own writer stages in $TMPDIR and keeps silent when the folder cannot be written.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            RunError: when the folder cannot be written or is full.
        """
        try:
            with atomic_path(Path(path)) as partial:
                torch.save(checkpoint, partial)
        except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
            raise RunError(
                f"cannot write the checkpoint {path} ({error}): free space or mend its rights"
            ) from error
