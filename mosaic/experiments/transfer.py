"""Does it carry over to another archive, or to a country or season that training never saw? Runs ``05``.

Archives share bands, and classes by the coarse ones that each declares.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from mosaic.experiments import grid
from mosaic.experiments.parallel import Task, encoder_task, run_trials
from mosaic.experiments.probe import Probe, probe_trial
from mosaic.experiments.study import Study
from mosaic.settings import StudySettings
from mosaic.store.reader import PackedStore, Rows
from mosaic.utils.errors import RunError

_LEAST_SCENES = 2  # of a domain's test patches, for an interval


@dataclass(frozen=True)
class Side:
    """One run as a side of a transfer."""

    title: str  # of its archive
    store: PackedStore  # in the bands that all sides share
    settings: StudySettings  # of its pretraining
    choices: grid.Choices

    def training(
        self, methods: Sequence[str], store: PackedStore | None = None, most_seeds: int | None = None
    ) -> dict[str, Task]:
        """Return what trains those of the methods that the run has, with every label of a store (its own)."""
        store, own = store or self.store, self.settings.grid
        changes = {"label_budgets": ["full"], "seeds": min(own.seeds, most_seeds or own.seeds)}
        changes["methods"] = [name for name in own.methods if name in methods]  # perhaps none
        train, tasks = store.split_rows("train"), {}
        for trial in grid.plan(own.model_copy(update=changes)):
            settings = grid.settings_of(trial, self.settings, self.choices)
            rows = train if trial.budget else train[:0]
            tasks[str(trial)] = grid.training_task(store, trial, settings, rows)
        return tasks


def transfer_sides(study: Study) -> list[Side]:
    """Return this run and those named in ``companion_runs``, in the bands they share."""
    runs = study.with_companions()
    archives = [run.read("archive") for run in runs]
    bands = shared_bands([PackedStore(Path(archive["packed"])) for archive in archives])
    stores = [PackedStore(Path(archive["packed"]), bands) for archive in archives]
    return [
        Side(archive["title"], store, run.earlier("02_pretrain").settings, run.read("choices"))
        for archive, store, run in zip(archives, stores, runs, strict=True)
    ]


def shared_bands(stores: Sequence[PackedStore]) -> list[str]:
    """Return the bands that all stores have, in the order of the first; ``RunError`` for none of a sensor."""
    shared: list[str] = []
    for sensor in stores[0].layout.sensors:
        bands = [band for band in sensor.bands if all(band in store.layout.bands for store in stores)]
        if not bands:
            raise RunError(f"these runs share no band of {sensor.title}: pack the same bands")
        shared += bands
    return shared


def coarse_classes(stores: Sequence[PackedStore]) -> list[str]:
    """Return the coarse classes that all stores declare."""
    first, *others = [store.manifest.coarse for store in stores]
    return [name for name in first if all(name in other for other in others)]


def transfer_all(study: Study, sides: Sequence[Side]) -> pd.DataFrame:
    """Train what is missing, and probe every encoder on every archive: a row each.

    Its ``path`` has the scores (N, K) of the target's test split over coarse classes, of probes on a share of
    the target's training labels (``target|<percent>``) and on all labels of the source (``source|0``).
    """
    classes = coarse_classes([side.store for side in sides])
    members = {s.title: [(name, s.store.manifest.coarse[name]) for name in classes] for s in sides}
    tasks = {}
    for source in sides:
        training = source.training(study.settings.transfer.transfer_methods)
        encoders = run_trials(study, f"pretraining on {source.title}", grid.pretrain_trial, training)
        elsewhere = Probe(source.store, source.store.split_rows("train"), classes)
        for target, encoder in itertools.product(sides, encoders.to_dict("records")):
            budgets = grid.draw_budgets(target.store, target.settings.grid)
            budget = budgets.get(encoder["seed"], budgets[0])
            key = {"target": target.store.fingerprint, "source": source.store.fingerprint}
            key |= {"classes": [members[source.title], members[target.title]]}
            key["labels"] = grid.budget_key(budget)
            probes = {f"target|{f:g}": Probe(target.store, rows, classes) for f, rows in budget.items()}
            probes["source|0"] = elsewhere
            row = {"source": source.title, "target": target.title, **encoder}
            name = f"{encoder['trial']}, {source.title} to {target.title}"
            test = target.store.split_rows("test")
            tasks[name] = encoder_task("transfer", row, key, probes, target.store, test)
    return run_trials(study, "transfer", probe_trial, tasks)


def domain_column(store: PackedStore) -> str:
    """Return the column of the index by which places can be divided; an empty string if there is none."""
    return next((name for name in ("country", "season") if name in store.index), "")


def domain_rows(store: PackedStore, domain: str) -> Rows:
    """Return the test rows of a domain."""
    test = store.split_rows("test")
    return test[store.index[domain_column(store)].to_numpy()[test] == domain]


def largest_domains(store: PackedStore, most: int) -> list[str]:
    """Return up to ``most`` domains, those with the most test patches first.

    A domain must have test patches of two scenes and training patches, without which nothing changes, and
    leave training and validation patches of others.
    """
    column = domain_column(store)
    if not column or not most:
        return []
    test = store.index.iloc[store.split_rows("test")]
    sizes = test.groupby(column).agg(patches=("scene", "size"), scenes=("scene", "nunique"))
    sizes = sizes[sizes["scenes"] >= _LEAST_SCENES].sort_values("patches", ascending=False, kind="stable")
    others = [set(store.index.iloc[store.split_rows(split)][column]) for split in ("train", "validation")]
    seen = [name for name in sizes.index if name in others[0]]
    return [str(name) for name in seen if all(names - {name} for names in others)][:most]


def domain_shift_all(study: Study, side: Side) -> pd.DataFrame:
    """Train with and without each of the largest domains, and probe the encoders there: a row each.

    Among its columns are domain, training (``seen`` or ``unseen``), and path of the ``scores`` (N, C) of the
    domain's test patches. Empty where there is no domain to hold out.
    """
    store, settings, column = side.store, study.settings.transfer, domain_column(side.store)
    methods, most = settings.transfer_methods, settings.held_out_seeds
    if not (held_out := largest_domains(store, settings.held_out)):
        return pd.DataFrame()
    subsets = {name: PackedStore(store.folder, store.bands, (column, name)) for name in held_out}
    without = {
        f"{trial}, without {name}": replace(task, row={**task.row, "domain": name})
        for name, subset in subsets.items()
        for trial, task in side.training(methods, subset, most).items()
    }
    trained = side.training(methods, most_seeds=most)
    seen = run_trials(study, "pretraining", grid.pretrain_trial, trained).assign(training="seen")
    unseen = run_trials(study, f"pretraining without a {column}", grid.pretrain_trial, without)
    everywhere = pd.DataFrame({"domain": held_out}).merge(seen, how="cross")
    tasks = {}
    for encoder in pd.concat([everywhere, unseen.assign(training="unseen")]).to_dict("records"):
        domain = encoder["domain"]
        known = store if encoder["training"] == "seen" else subsets[domain]
        key = {"data": known.fingerprint, "domain": [column, domain]}
        probes = {"scores": Probe(known, known.split_rows("train"))}
        name = f"{encoder['trial']}, {encoder['training']} {domain}"
        tasks[name] = encoder_task("domain_shift", encoder, key, probes, known, domain_rows(store, domain))
    return run_trials(study, "domain shift", probe_trial, tasks)
