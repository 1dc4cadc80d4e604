"""Lightning's engine, set up for a run: precision, clipping, checkpoints, and one or several processes."""

import contextlib
import logging
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer
from lightning.pytorch.strategies import DDPStrategy

from mosaic.settings import TrialSettings
from mosaic.training.callbacks import AtomicCheckpoints, Logbook
from mosaic.training.data import StepBatches
from mosaic.training.distributed import Processes
from mosaic.training.module import Pretraining
from mosaic.utils.errors import RunError


def fit(
    module: Pretraining,
    logbook: Logbook,
    batches: StepBatches,
    trial: TrialSettings,
    precision: str,
    resume: Path | None,
    processes: Processes,
) -> None:
    """Take the steps of ``batches``, in one process or several.

    Args:
        module: what is trained; in several processes, with synchronised batch normalisation.
        logbook: notes and saves.
        batches: this process's part of them.
        trial: the run.
        precision: ``"32"`` or ``"bf16-mixed"``.
        resume: checkpoint to go on from.
        processes: which process this is.

    Raises:
        RunError: when GPU memory runs out.
        KeyboardInterrupt: on Ctrl-C.
    """
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with _quiet():
            trainer = Trainer(
                accelerator="cuda" if torch.cuda.is_available() else "cpu",
                devices=processes.each,
                num_nodes=processes.world // processes.each,
                # buffers need no broadcast: what they hold was made of gathered values
                strategy=DDPStrategy(broadcast_buffers=False) if processes.world > 1 else "auto",
                precision=precision,  # type: ignore[arg-type]  # a Literal of Lightning's
                max_steps=trial.steps,
                max_epochs=-1,
                gradient_clip_val=1.0,
                callbacks=[logbook],
                plugins=[AtomicCheckpoints(), processes.environment or LightningEnvironment()],
                logger=False,
                enable_checkpointing=False,
                enable_progress_bar=False,
                enable_model_summary=False,
                use_distributed_sampler=False,
            )
            trainer.fit(module, train_dataloaders=batches, ckpt_path=resume)
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"out of GPU memory with {trial.batch_scenes} scenes of {trial.views.image_size} px in "
            f"{precision}: lower batch_scenes (fewer negatives) or image_size, or use "
            "precision 'bf16-mixed'"
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
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning\.")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
