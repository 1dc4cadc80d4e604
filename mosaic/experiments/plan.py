"""What a run will take, before it starts: trials, steps, hours by stage, memory and disk."""

import functools
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mosaic.experiments.grid import Trial, plan, settings_of
from mosaic.experiments.parallel import gpus
from mosaic.experiments.predict import evaluated_fractions, fine_tunes
from mosaic.experiments.tuning import SEED, candidates
from mosaic.methods import get_method
from mosaic.models.checkpoint import read_card
from mosaic.models.encoders import STATISTICS
from mosaic.settings import StudySettings, TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.training.captured import compiles
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
        out = out or {name: np.empty((len(rows), *r.shape), r.dtype) for name, r in self._records.items()}
        for name, record in self._records.items():
            out[name][:] = record
        return out


@functools.cache
def measure(encoder: str, method: str, size: int, scenes: int, compiled: bool = False) -> dict[str, float]:
    """Return what training costs here: seconds a step, peak MB, parameters, and width of the features.

    On a CPU these are seconds of one core, as trials use them, whatever else the machine is busy with.
    """
    cuda = torch.cuda.is_available()
    few = scenes if cuda else min(scenes, _SCENES)
    trial = TrialSettings(method=method, encoder=encoder, steps=200 if cuda else 5, monitor_every=0)
    trial = trial.replace(image_size=size, batch_scenes=few, compile_encoder="yes" if compiled else "no")
    store = RandomStore(4 * few)
    threads, began = torch.get_num_threads(), np.array([time.process_time(), time.perf_counter()])
    with tempfile.TemporaryDirectory() as folder:
        torch.set_num_threads(1)
        try:
            pretrain(store, trial, store.split_rows("train"), Path(folder))
        finally:
            torch.set_num_threads(threads)
        computed, elapsed = np.array([time.process_time(), time.perf_counter()]) - began
        times = pd.read_csv(Path(folder) / LOG)["seconds"].to_numpy()
        card = read_card(folder)
    warm = len(times) // 2
    step = (times[-1] - times[warm]) / (len(times) - 1 - warm) * scenes / few
    return {
        "step": step if cuda else step * computed / elapsed,
        "memory": card["timing"]["peak_memory_mb"],
        "parameters": card["parameters"]["encoder"],
        "width": sum(card["feature_dims"].values()),
    }


def cost_of(trial: TrialSettings) -> Mapping[str, float]:
    """Return the cost of a trial; methods of one encoder and number of streams count alike.

    Band statistics, which nothing trains, count as the light encoder does.
    """
    streams = get_method(trial.method).streams
    alike = "sct" if "sct" in trial.encoder else "simclr_s2" if len(streams) == 1 else "mosaic"
    encoder = "light" if trial.encoder == STATISTICS else trial.encoder
    step = encoder, alike, trial.views.image_size, trial.batch_scenes
    cost, on_gpu = measure(*step), torch.cuda.is_available()  # where compiling pays
    compiled = on_gpu and compiles(trial, int(cost["parameters"]), torch.device("cuda"), 1)
    return measure(*step, True) if compiled else cost


def stages(
    settings: StudySettings, patches: int, cost: Callable[[TrialSettings], Mapping[str, float]] = cost_of
) -> pd.DataFrame:
    """Return stage, trials, steps, hours and disk (GB of weights and features) of a run on ``patches`` pairs.

    Everything is made anew. Hours are those of one GPU, or of all cores; scores, tables and figures, minutes
    to an hour, and what companion runs add are not among them.
    """
    grid, evaluation, batch = settings.grid, settings.evaluation, settings.trial.batch_scenes
    steps, seeds = settings.trial.steps, min(grid.seeds, settings.transfer.held_out_seeds)
    every_label = plan(grid.model_copy(update={"label_budgets": ["full"], "seeds": seeds}))
    held_out = [t for t in every_label if t.method in settings.transfer.transfer_methods]
    held_out *= settings.transfer.held_out
    trained = list(dict.fromkeys([*plan(grid), *held_out]))  # the same with the domain
    tried = [settings_of(Trial(n, SEED, 100.0), settings, {n: changes}) for n, changes in candidates(grid)]
    parts = [("choosing hyperparameters", trial, grid.tuning_steps, 1.0, 0.75 * patches) for trial in tried]
    parts += [("pretraining", settings_of(t, settings), steps, 1.0, 0) for t in trained]
    for t in plan(grid):
        times = len({f for _, f in evaluated_fractions(t.budget, grid.label_fractions)})
        fitted = evaluation.finetune_steps * times * fine_tunes(evaluation, asdict(t))
        parts.append(
            ("evaluation", settings_of(t, settings), fitted, evaluation.finetune_batch / batch, patches)
        )
    parts += [("without a domain", settings_of(t, settings), steps, 1.0, patches) for t in held_out]
    table = pd.DataFrame(parts, columns=["stage", "trial", "steps", "share", "encoded"])
    costs, fits = pd.DataFrame([cost(trial) for trial in table["trial"]]), table["stage"] == "evaluation"
    table["steps"] *= np.array([get_method(trial.method).trained for trial in table["trial"]]) | fits
    encoding = table["encoded"] / batch / _FORWARDS
    devices = len(gpus()) or available_cores()
    table["hours"] = costs["step"] * (table["share"] * table["steps"] + encoding) / 3600 / devices
    table["disk"] = costs["parameters"] * ~fits * 4e-9 + costs["width"] * table["encoded"] * 4e-9
    table["trials"] = 1
    return table.groupby("stage", sort=False)[["trials", "steps", "hours", "disk"]].sum().reset_index()


def describe(settings: StudySettings, patches: int) -> str:
    """Return the table of stages and their sum, as text."""
    table = stages(settings, patches)
    total, devices = table[["trials", "steps", "hours", "disk"]].sum(), count(available_cores(), "core")
    costs = [cost_of(settings_of(trial, settings)) for trial in plan(settings.grid)]
    memory, slowest = (max(cost[name] for cost in costs) for name in ("memory", "step"))
    disk = total["disk"] + patches * RandomStore(1).layout.record_bytes / 1e9
    return (
        f"{table.round(2).to_string(index=False)}\n"
        f"{total['trials']:,.0f} trials, {total['steps']:,.0f} steps, {total['hours']:.1f} hours on "
        f"{count(len(gpus()), 'GPU') if gpus() else devices}, {memory / 1e3:.1f} GB of memory a trial, "
        f"{disk:.1f} GB of disk; scores and figures come on top.\n"
        f"From training steps timed here just now on random records, at most {slowest:.2g} s "
        f"{'each' if gpus() else 'of a core each'}; what earlier runs have finished is not taken off"
    )
