"""Does it carry over to another archive? The first part of ``05``.

Archives share bands, and classes by the coarse ones that each declares. The images of each are normalised by
its own training statistics, so that a transfer is not about the mean of a sensor.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.evaluation.bootstrap import resampled_ap
from mosaic.evaluation.features import Features, encode_splits
from mosaic.evaluation.probes import linear_probe
from mosaic.experiments.grid import Choices, Trial, draw_budgets, full_label_call, train_missing
from mosaic.experiments.jobs import run_trials
from mosaic.experiments.predictions import main_input
from mosaic.experiments.study import Study, cache_path
from mosaic.methods import get_method
from mosaic.models.published_weights import PUBLISHED
from mosaic.settings import GridSettings, StudySettings
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path

Labels = NDArray[np.uint8]


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


def sides(study: Study) -> list[Side]:
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


def coarse_labels(store: PackedStore, names: Sequence[str]) -> Labels:
    """Return label vectors (N, K) over coarse classes: 1 where a patch carries a class of theirs."""
    groups = [[store.class_names.index(c) for c in store.manifest.coarse[name]] for name in names]
    return np.stack([store.labels[:, members].any(1) for members in groups], axis=1).astype(np.uint8)


def coarse_table(found: Sequence[Side]) -> pd.DataFrame:
    """Return which classes of each archive a coarse class stands for, and how many test patches carry it."""
    names = coarse_classes([side.store for side in found])
    table = pd.DataFrame({"shared class": names})
    for side in found:
        test = coarse_labels(side.store, names)[side.store.split_rows("test")].sum(0)
        table[side.title] = ["; ".join(side.store.manifest.coarse[name]) for name in names]
        table[f"test patches, {side.title}"] = test
    return table


def transfer_all(study: Study, found: Sequence[Side]) -> pd.DataFrame:
    """Train what is missing, and probe every encoder on every archive.

    Returns:
        One row a source, target, method, label fraction and probe (``target``: fitted on that share of the
        target's training labels; ``source``: on all of the source's, none of the target's): with value (macro
        average precision over coarse classes on the target's test split), low, high, n_seeds and n_scenes.
    """
    names = coarse_classes([side.store for side in found])
    calls: dict[str, tuple[Any, ...]] = {}
    kept: dict[str, dict[str, Any]] = {}
    for source in found:
        trials = full_label_trials(source.settings.grid, study.settings.transfer.transfer_methods)
        trained = {
            str(trial): full_label_call(source.store, trial, source.settings, source.choices)
            for trial in trials
        }
        there = train_missing(study, trained, f"pretraining on {source.title}")
        for target in found:
            budgets = draw_budgets(target.store, target.settings.grid)
            for trial in [trial for trial in trials if str(trial) in there]:
                folder = trained[str(trial)][-1]
                chosen = budgets.get(trial.seed, budgets[0])
                key = {
                    "encoder": folder.name,
                    "target": target.store.fingerprint,
                    "source": source.store.fingerprint,
                    "names": names,
                    "fractions": list(chosen),
                }
                path = cache_path("transfer", key, ".npz")
                name = f"{trial}, {source.title} to {target.title}"
                calls[name] = (folder, trial.method, source.store, target.store, names, chosen, path)
                about = {"source": source.title, "target": target.title, "method": trial.method}
                kept[name] = {**about, "seed": trial.seed, "path": path}
    table = pd.DataFrame([kept[name] for name in run_trials(study, carry_over, calls, "transfer", "probe")])
    stores = {side.title: side.store for side in found}
    rows = []
    for group, members in table.groupby(["source", "target", "method"], sort=False):
        about = dict(zip(("source", "target", "method"), map(str, tuple(group)), strict=True))
        store = stores[about["target"]]
        test = store.split_rows("test")
        labels, scenes = coarse_labels(store, names)[test], store.scenes[test]
        arrays = [dict(np.load(path)) for path in members.sort_values("seed")["path"]]
        for name in arrays[0]:
            probe, fraction = name.split("|")
            resamples = study.settings.bootstrap_resamples
            ap = resampled_ap(labels, [one[name] for one in arrays], scenes, resamples=resamples)
            rows.append({**about, "probe": probe, "fraction": float(fraction), **asdict(ap.interval())})
    return pd.DataFrame(rows)


def full_label_trials(settings: GridSettings, methods: Sequence[str]) -> list[Trial]:
    """List encoders of full labels: those methods of a run that take both sensors and enter a transfer."""
    wanted = [name for name in settings.methods if name in methods]
    return [
        Trial(name, seed, 100.0 if get_method(name).uses_labels else 0.0)
        for seed in range(settings.seeds)
        for name in wanted
        if seed == 0 or name not in settings.one_seed
    ]


def carry_over(
    checkpoint: Path,
    method: str,
    source: PackedStore,
    target: PackedStore,
    names: Sequence[str],
    budgets: Mapping[float, NDArray[np.int64]],
    path: Path,
) -> Path:
    """Probe one encoder on the coarse classes of an archive; runs in its own process.

    Args:
        checkpoint: folder of the encoder.
        method: its row of the table.
        source: what it was trained on.
        target: where it is judged.
        names: coarse classes.
        budgets: label fraction -> training rows of the target whose labels a probe may use.
        path: the ``.npz`` to write: ``target|fraction`` and ``source|0`` -> (N, K) on its test split.
    """
    labels, rows = coarse_labels(target, names), splits_of(target)
    inputs = encoded(target, checkpoint, method, rows)
    found: dict[str, Any] = {}
    for fraction, chosen in budgets.items():
        place = np.searchsorted(rows["train"], chosen)
        probe = linear_probe(
            inputs["train"][place],
            labels[chosen],
            inputs["validation"],
            labels[rows["validation"]],
            {"test": inputs["test"]},
        )
        found[f"target|{fraction:g}"] = probe.scores["test"]
    own, home = coarse_labels(source, names), splits_of(source)
    known = encoded(source, checkpoint, method, {split: home[split] for split in ("train", "validation")})
    probe = linear_probe(
        known["train"],
        own[home["train"]],
        known["validation"],
        own[home["validation"]],
        {"test": inputs["test"]},
    )
    found["source|0"] = probe.scores["test"]
    with atomic_path(path) as partial:
        np.savez_compressed(partial, **found)
    return path


def splits_of(store: PackedStore) -> dict[str, NDArray[np.int64]]:
    """Return split -> its rows."""
    return {split: store.split_rows(split) for split in ("train", "validation", "test")}


def encoded(
    store: PackedStore, checkpoint: Path, method: str, rows: Mapping[str, NDArray[np.int64]]
) -> Features:
    """Return split -> features (N, F) of a method's main input, normalised by the store's own statistics.

    Published weights keep the normalisation that they were published with, if they were.
    """
    store_statistics = get_method(method).weights not in PUBLISHED
    inputs = encode_splits(store, checkpoint, rows, store_statistics)
    return {split: offered[main_input(method)] for split, offered in inputs.items()}


def shown_transfer(table: pd.DataFrame) -> pd.DataFrame:
    """Return the transfers as readers see them: a row a method and source, a column a target and probe."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for one in table.to_dict("records"):
        words = "no label of it" if one["probe"] == "source" else f"{one['fraction']:g} % of its labels"
        row = rows.setdefault(
            (one["method"], one["source"]),
            {"method": get_method(one["method"]).title, "pretrained on": one["source"]},
        )
        row[f"{one['target']}: {words}"] = (one["value"], one["low"], one["high"])
    return pd.DataFrame(list(rows.values()))


def away_from_home(table: pd.DataFrame) -> pd.Series:
    """Return method -> how an encoder of another archive differs from one of the archive itself.

    Macro average precision of probes on all of the target's labels, mean over pairs of archives; methods that
    the target's own run lacks are left out.
    """
    if table.empty:
        return pd.Series(dtype=float)
    probed = table[table["probe"] == "target"]
    probed = probed[probed["fraction"] == probed["fraction"].max()]
    home = probed[probed["source"] == probed["target"]].set_index(["target", "method"])["value"]
    away = probed[probed["source"] != probed["target"]]
    away = away.join(home.rename("home"), on=["target", "method"]).dropna(subset=["home"])
    return (away["value"] - away["home"]).groupby(away["method"].to_numpy(), sort=False).mean()
