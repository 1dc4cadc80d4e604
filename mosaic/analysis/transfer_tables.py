"""Tables of transfers: to another archive, and to a country or season that training never saw."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mosaic.analysis.tables import pivot_intervals, titled
from mosaic.evaluation.bootstrap import resampled_ap
from mosaic.experiments.probe import coarse_labels
from mosaic.experiments.transfer import Side, coarse_classes, domain_rows
from mosaic.store.reader import PackedStore

_SHIFT = ["domain", "method", "training", "value", "low", "high", "n_seeds", "n_scenes", "n"]


def coarse_table(sides: Sequence[Side]) -> pd.DataFrame:
    """Return which classes of each archive a coarse class stands for, and how many test patches carry it."""
    names = coarse_classes([side.store for side in sides])
    table = pd.DataFrame({"shared class": names})
    for side in sides:
        test = coarse_labels(side.store, names)[side.store.split_rows("test")].sum(0)
        table[side.title] = ["; ".join(side.store.manifest.coarse[name]) for name in names]
        table[f"test patches, {side.title}"] = test
    return table


def transfer_table(trials: pd.DataFrame, sides: Sequence[Side], resamples: int) -> pd.DataFrame:
    """Return the macro average precision of each transfer over coarse classes of the target's test split.

    Returns:
        One row a source, target, method, label fraction and probe (``target``: fitted on that share of the
        target's training labels; ``source``: on all of the source's, none of the target's): with value, low,
        high, n_seeds and n_scenes.
    """
    names = coarse_classes([side.store for side in sides])
    stores = {side.title: side.store for side in sides}
    rows = []
    for group, members in trials.groupby(["source", "target", "method"], sort=False):
        facts = dict(zip(("source", "target", "method"), map(str, tuple(group)), strict=True))
        store = stores[facts["target"]]
        test = store.split_rows("test")
        labels, scenes = coarse_labels(store, names)[test], store.scenes[test]
        seeds = [dict(np.load(path)) for path in members.sort_values("seed")["path"]]
        for name in seeds[0]:
            probe, fraction = name.split("|")
            ap = resampled_ap(labels, [scores[name] for scores in seeds], scenes, resamples=resamples)
            rows.append({**facts, "probe": probe, "fraction": float(fraction), **asdict(ap.interval())})
    return pd.DataFrame(rows)


def readable_transfer(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method and source, and a column a target and probe."""
    labels = np.where(
        table["probe"] == "source", "no label of it", table["fraction"].map("{:g} % of its labels".format)
    )
    rows = table.assign(column=table["target"] + ": " + labels).rename(columns={"source": "pretrained on"})
    return titled(pivot_intervals(rows, ["method", "pretrained on"], "column", rows["column"].unique()))


def transfer_loss(table: pd.DataFrame) -> pd.Series:
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


def domain_shift_table(trials: pd.DataFrame, store: PackedStore, resamples: int) -> pd.DataFrame:
    """Return macro average precision in each domain, seen in training or not, and the paired difference.

    Returns:
        One row a domain, method and training (``seen``, ``unseen``, or ``change``, unseen less seen): value,
        low, high, n_seeds, n_scenes, n (test patches).
    """
    table: list[dict[str, Any]] = []
    for (domain, method), members in trials.groupby(["domain", "method"], sort=False) if len(trials) else []:
        rows = domain_rows(store, str(domain))
        labels, scenes = store.labels[rows], store.scenes[rows]
        trainings = members.groupby("seed")["training"].nunique()
        members = members[members["seed"].isin(trainings[trainings == 2].index)]  # of other seeds one failed
        if members.empty:
            continue
        ap = {}
        for training, seeds in members.groupby("training"):
            scores = [np.load(path)["scores"] for path in seeds.sort_values("seed")["path"]]
            ap[training] = resampled_ap(labels, scores, scenes, resamples=resamples)
        ap["change"] = ap["unseen"] - ap["seen"]
        for training, each in ap.items():
            facts = {"domain": domain, "method": method, "training": training, "n": len(rows)}
            table.append({**facts, **asdict(each.interval())})
    return pd.DataFrame(table, columns=_SHIFT)


def readable_domain_shift(table: pd.DataFrame) -> pd.DataFrame:
    """Return a row a domain and method, and a column a training."""
    titles = {"seen": "seen in training", "unseen": "never seen", "change": "change"}
    counts = {"n": "patches", "n_scenes": "scenes", "n_seeds": "seeds"}
    wide = pivot_intervals(table, ["domain", "method", *counts], "training", list(titles))
    return titled(wide[["domain", "method", *titles, *counts]].rename(columns=titles | counts))


def mean_change(table: pd.DataFrame) -> pd.Series:
    """Return method -> change of macro average precision in domains never seen, mean over them."""
    return table[table["training"] == "change"].groupby("method", sort=False)["value"].mean()
