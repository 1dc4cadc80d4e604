"""Does it carry over to a country or season that training never saw? The second part of ``05``."""

from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.experiments.grid import pretrain_trial
from mosaic.experiments.parallel import encoder_task, run_trials
from mosaic.experiments.probe import Probe, probe_trial
from mosaic.experiments.study import Study
from mosaic.experiments.transfer import Side
from mosaic.store.reader import PackedStore

_LEAST_SCENES = 2  # of a domain's test patches, for an interval


def domain_column(store: PackedStore) -> str:
    """Return the column of the index by which places can be divided; an empty string if there is none."""
    return next((name for name in ("country", "season") if name in store.index), "")


def domains(store: PackedStore, most: int) -> tuple[str, list[str]]:
    """Return the column that divides an archive, and its largest domains in the test split.

    A domain must have test patches of two scenes, and leave training and validation patches of others.

    Args:
        store: packed data.
        most: domains wanted; 0 for none.
    """
    column = domain_column(store)
    if not column or not most:
        return column, []
    test = store.index.iloc[store.split_rows("test")]
    sizes = test.groupby(column).agg(patches=("scene", "size"), scenes=("scene", "nunique"))
    sizes = sizes[sizes["scenes"] >= _LEAST_SCENES].sort_values("patches", ascending=False, kind="stable")
    others = [set(store.index.iloc[store.split_rows(split)][column]) for split in ("train", "validation")]
    return column, [str(name) for name in sizes.index if all(names - {name} for names in others)][:most]


def domain_shift_all(study: Study, side: Side) -> pd.DataFrame:
    """Train with and without each of the largest domains, and probe the encoders there.

    Returns:
        One row an encoder and domain: domain, training (``seen`` or ``unseen``), method, seed, and path of
        the ``scores`` (N, C) of the domain's test patches. Empty where there is no domain to hold out.
    """
    store, methods = side.store, study.settings.transfer.transfer_methods
    column, held_out = domains(store, study.settings.transfer.held_out)
    if not held_out:
        return pd.DataFrame()
    subsets = {name: PackedStore(store.folder, store.bands, (column, name)) for name in held_out}
    without = {
        f"{trial}, without {name}": replace(task, row={**task.row, "domain": name})
        for name, subset in subsets.items()
        for trial, task in side.training(methods, subset).items()
    }
    seen = run_trials(study, "pretraining", pretrain_trial, side.training(methods)).assign(training="seen")
    unseen = run_trials(study, f"pretraining without a {column}", pretrain_trial, without)
    everywhere = pd.DataFrame({"domain": held_out}).merge(seen, how="cross")
    tasks = {}
    for encoder in pd.concat([everywhere, unseen.assign(training="unseen")]).to_dict("records"):
        domain = encoder["domain"]
        known = store if encoder["training"] == "seen" else subsets[domain]
        key = {"data": known.fingerprint, "domain": [column, domain]}
        probes = {"scores": Probe(known, known.split_rows("train"))}
        name = f"{encoder['trial']}, {encoder['training']} {domain}"
        rows = domain_rows(store, domain)
        tasks[name] = encoder_task("domain_shift", encoder, key, probes, known, rows)
    return run_trials(study, "domain shift", probe_trial, tasks)


def domain_rows(store: PackedStore, domain: str) -> NDArray[np.int64]:
    """Return the test rows of a domain."""
    test, column = store.split_rows("test"), domain_column(store)
    return test[store.index[column].to_numpy()[test] == domain]
