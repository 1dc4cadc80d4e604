"""Does it carry over to another archive? The first part of ``05``.

Archives share bands, and classes by the coarse ones that each declares. The images of each are normalised by
its own training statistics, so that a transfer is not about the mean of a sensor.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mosaic.experiments.grid import Choices, draw_budgets, plan, pretrain_trial, settings_of, training_task
from mosaic.experiments.parallel import Task, encoder_task, run_trials
from mosaic.experiments.probe import Probe, probe_trial
from mosaic.experiments.study import Study
from mosaic.settings import StudySettings
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import RunError


@dataclass(frozen=True)
class Side:
    """One run as a side of a transfer.

    Attributes:
        title: of its archive.
        store: its packed data, in the bands that all sides share.
        settings: its pretraining.
        choices: hyperparameters it chose, by method.
    """

    title: str
    store: PackedStore
    settings: StudySettings
    choices: Choices

    def training(self, methods: Sequence[str], store: PackedStore | None = None) -> dict[str, Task]:
        """Return what trains those of the methods that the run has, with every label of a store (its own)."""
        store = store or self.store
        wanted = [name for name in self.settings.grid.methods if name in methods]
        grid = self.settings.grid.model_copy(update={"methods": wanted, "label_budgets": ["full"]})
        train, tasks = store.split_rows("train"), {}
        for trial in plan(grid):
            settings = settings_of(trial, self.settings, self.choices)
            tasks[str(trial)] = training_task(store, trial, settings, train if trial.budget else train[:0])
        return tasks


def transfer_sides(study: Study) -> list[Side]:
    """Return this run and those named in ``companion_runs``, in the bands they share.

    Raises:
        RunError: when a run was not made, or there is no common band of a sensor.
    """
    runs = study.with_companions()
    folders = [Path(one.read("archive")["packed"]) for one in runs]
    bands = shared_bands([PackedStore(folder) for folder in folders])
    titles = [one.read("archive")["title"] for one in runs]
    if len(set(titles)) < len(titles):  # two archives of one layout
        titles = [f"{title}, {one.folder.name}" for title, one in zip(titles, runs, strict=True)]
    return [
        Side(
            title,
            PackedStore(folder, bands),
            one.earlier("02_pretrain").settings,
            one.read("choices"),
        )
        for title, folder, one in zip(titles, folders, runs, strict=True)
    ]


def shared_bands(stores: Sequence[PackedStore]) -> list[str]:
    """Return the bands that all stores have, in their order.

    Raises:
        RunError: when no band of a sensor is shared.
    """
    shared: list[str] = []
    for sensor in stores[0].layout.sensors:
        bands = [band for band in sensor.bands if all(band in store.layout.bands for store in stores)]
        if not bands:
            raise RunError(f"these runs share no band of {sensor.title}: pack the same bands")
        shared += bands
    return shared


def coarse_classes(stores: Sequence[PackedStore]) -> list[str]:
    """Return the coarse classes that all stores declare."""
    first = stores[0].manifest.coarse
    return [name for name in first if all(name in store.manifest.coarse for store in stores)]


def transfer_all(study: Study, sides: Sequence[Side]) -> pd.DataFrame:
    """Train what is missing, and probe every encoder on every archive.

    Returns:
        One row an encoder and target: source, target, method, seed, and path of the scores (N, K) of the
        target's test split over coarse classes. Those of probes on a share of the target's training labels
        are named ``target|<percent>``; ``source|0`` is fitted on all labels of the source instead.
    """
    classes = coarse_classes([side.store for side in sides])
    tasks = {}
    for source in sides:
        training = source.training(study.settings.transfer.transfer_methods)
        encoders = run_trials(study, f"pretraining on {source.title}", pretrain_trial, training)
        elsewhere = Probe(source.store, source.store.split_rows("train"), classes)
        for target, encoder in itertools.product(sides, encoders.to_dict("records")):
            budgets = draw_budgets(target.store, target.settings.grid)
            budget = budgets.get(encoder["seed"], budgets[0])
            key = {
                "target": target.store.fingerprint,
                "source": source.store.fingerprint,
                "classes": classes,
                "fractions": list(budget),
            }
            probes = {f"target|{f:g}": Probe(target.store, rows, classes) for f, rows in budget.items()}
            probes["source|0"] = elsewhere
            test = target.store.split_rows("test")
            row = {"source": source.title, "target": target.title, **encoder}
            name = f"{encoder['trial']}, {source.title} to {target.title}"
            tasks[name] = encoder_task("transfer", row, key, probes, target.store, test)
    return run_trials(study, "transfer", probe_trial, tasks)
