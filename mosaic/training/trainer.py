"""Lightning's trainer, set up for a run: precision, clipping, checkpoints, and one or several processes."""

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

from mosaic.training.callbacks import AtomicCheckpoints, Logbook, TimedCheckpoint
from mosaic.training.data import StepBatches
from mosaic.training.distributed import Processes, resolve_precision
from mosaic.training.module import Pretraining
from mosaic.utils.errors import RunError


def fit(
    module: Pretraining,
    logbook: Logbook,
    batches: StepBatches,
    checkpoint: Path,
    checkpoint_seconds: float,
    processes: Processes,
) -> None:
    """Take the steps of ``batches``; a run that does not start at step 0 resumes from ``checkpoint``.

    In several processes ``module`` has synchronised batch normalisation, and ``batches`` are shards.

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
            resume = checkpoint if batches.steps.start else None
            trainer.fit(module, train_dataloaders=batches, ckpt_path=resume)
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
