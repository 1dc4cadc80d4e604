"""What a run will take, before it starts: trials, steps, hours by stage, memory and disk."""

import functools
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mosaic.experiments.grid import Trial, plan, settings_of
from mosaic.experiments.parallel import gpus
from mosaic.experiments.predict import evaluated_fractions
from mosaic.experiments.tuning import SEED, candidates
from mosaic.methods import get_method
from mosaic.models.checkpoint import read_card
from mosaic.settings import StudySettings, TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.memory import USUAL
from mosaic.training.pretrain import LOG, pretrain
from mosaic.utils.forked import available_cores
from mosaic.utils.words import count

_FORWARDS = 6  # of an image, that a step costs a scene: two views, forward and backward
_MOMENTS = {"mean": 0.0, "std": 1000.0}
_SCENES = 16  # of a measured step on a CPU, whose time grows with them


class RandomStore(PackedStore):
    """Random records in place of packed data: the time of a step does not depend on what they show."""

    def __init__(self, patches: int) -> None:
        random, sizes = np.random.default_rng(0), dict.fromkeys(USUAL.bands, 120)
        self.layout = replace(USUAL, band_sizes=sizes, statistics=dict.fromkeys(sizes, _MOMENTS))
        self.folder, self.fingerprint, self.leave_out = Path("random"), "random", None
        self.class_names = tuple(map(str, range(19)))
        self.labels = (random.random((patches + 32, 19)) < 0.2).astype(np.uint8)
        self.index = pd.DataFrame({"split": ["train"] * patches + ["validation"] * 32})
        self._records = {g.name: random.integers(-2000, 2000, g.shape, np.int16) for g in self.layout.groups}

    def read(self, rows: Any, out: Any = None) -> Any:
        """Return the same random record for each row."""
        if out is None:
            return {name: np.repeat(record[None], len(rows), 0) for name, record in self._records.items()}
        for name, record in self._records.items():
            out[name][:] = record
        return out


@functools.cache
def measure(encoder: str, method: str, size: int, scenes: int) -> dict[str, float]:
    """Return what training costs here: seconds a step, peak MB, MB of weights, and width of the features."""
    cuda = torch.cuda.is_available()
    few = scenes if cuda else min(scenes, _SCENES)
    trial = TrialSettings(method=method, encoder=encoder, steps=200 if cuda else 5, monitor_every=0)
    trial = trial.replace(image_size=size, batch_scenes=few, compile_encoder="no")
    store = RandomStore(4 * few)
    with tempfile.TemporaryDirectory() as folder:
        pretrain(store, trial, store.split_rows("train"), Path(folder))
        times = pd.read_csv(Path(folder) / LOG)["seconds"].to_numpy()
        card = read_card(folder)
    warm = len(times) // 2
    return {
        "step": (times[-1] - times[warm]) / (len(times) - 1 - warm) * scenes / few,
        "memory": card["timing"]["peak_memory_mb"],
        "weights": card["parameters"]["encoder"] * 4e-6,
        "width": sum(card["feature_dims"].values()),
    }


def cost_of(trial: TrialSettings) -> Mapping[str, float]:
    """Return the cost of a trial; methods of one encoder and number of streams count alike."""
    streams = get_method(trial.method).streams
    alike = "sct" if "sct" in trial.encoder else "simclr_s2" if len(streams) == 1 else "mosaic"
    return measure(trial.encoder, alike, trial.views.image_size, trial.batch_scenes)


def stages(
    settings: StudySettings, patches: int, cost: Callable[[TrialSettings], Mapping[str, float]] = cost_of
) -> pd.DataFrame:
    """Return what each stage of a run on ``patches`` pairs takes from nothing.

    Hours are those of one GPU, or of all cores. Not among them: scores, tables and figures, minutes to an
    hour, and what companion runs add.

    Returns:
        One row a stage: stage, trials, steps of optimisers, hours, disk (GB of weights and features).
    """
    grid, evaluation = settings.grid, settings.evaluation
    chosen = settings.transfer.transfer_methods
    full = [t for t in plan(grid.model_copy(update={"label_budgets": ["full"]})) if t.method in chosen]
    fitted = [
        evaluation.finetune_steps
        * len({f for _, f in evaluated_fractions(trial.budget, grid.label_fractions)})
        * ("finetune" in evaluation.evaluations and not get_method(trial.method).only_classifies)
        for trial in plan(grid)
    ]
    configs = [settings_of(trial, settings) for trial in plan(grid)]
    held_out = [settings_of(trial, settings) for trial in full] * settings.transfer.held_out
    tried = [settings_of(Trial(n, SEED, 100.0), settings, {n: changes}) for n, changes in candidates(grid)]

    def steps_of(trials: Sequence[TrialSettings], steps: int) -> list[int]:
        return [steps * get_method(trial.method).trained for trial in trials]

    work = (  # name, settings, steps of each, their batch over that of pretraining, patches encoded by each
        ("choosing hyperparameters", tried, steps_of(tried, grid.tuning_steps), 1.0, 0.75 * patches),
        ("pretraining", configs, steps_of(configs, settings.trial.steps), 1.0, 0),
        ("evaluation", configs, fitted, evaluation.finetune_batch / settings.trial.batch_scenes, patches),
        ("without a domain", held_out, steps_of(held_out, settings.trial.steps), 1.0, patches),
    )
    rows = []
    for stage, trials, steps, batch, encoded in work:
        costs = [cost(trial) for trial in trials]
        encoding = encoded / settings.trial.batch_scenes / _FORWARDS
        hours = sum(c["step"] * (batch * n + encoding) for c, n in zip(costs, steps, strict=True)) / 3600
        disk = sum(c["weights"] * (stage != "evaluation") + c["width"] * encoded * 4e-6 for c in costs) / 1e3
        rows.append((stage, len(trials), sum(steps), hours / max(1, len(gpus())), disk))
    return pd.DataFrame(rows, columns=["stage", "trials", "steps", "hours", "disk"])


def describe(settings: StudySettings, patches: int) -> str:
    """Return the table of stages and their sum, as text."""
    table = stages(settings, patches)
    total = table[["trials", "steps", "hours", "disk"]].sum()
    memory = max(cost_of(settings_of(trial, settings))["memory"] for trial in plan(settings.grid))
    packed = patches * RandomStore(1).layout.record_bytes / 1e9
    return (
        f"{table.round(2).to_string(index=False)}\n"
        f"{total['trials']:,.0f} trials, {total['steps']:,.0f} steps, {total['hours']:.1f} hours on "
        f"{count(len(gpus()), 'GPU') if gpus() else count(available_cores(), 'core')}, "
        f"{memory / 1e3:.1f} GB of memory for one trial, {total['disk'] + packed:.1f} GB of disk for packed "
        "data, weights and features; scores and figures come on top"
    )
