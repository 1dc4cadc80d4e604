"""All methods beside each other, on every archive that ran. What ``06`` shows first."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from mosaic.analysis.claims_table import ArchiveClaims, readable_ablation
from mosaic.analysis.results import common_evaluation_title, common_evaluations, common_rows
from mosaic.analysis.scoring import resampled
from mosaic.evaluation.bootstrap import percentile_interval
from mosaic.evaluation.names import input_title
from mosaic.evaluation.ranking import Ranking, rank_methods
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.predictions import main_input, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import METHODS, get_method
from mosaic.models.checkpoint import load_encoder
from mosaic.settings import CompareSettings, PretrainSettings
from mosaic.store.reader import PackedStore

#: Methods that those of fewer seeds stand beside.
REFERENCES = ("random", "supervised_late", "iai", "supcon", "mosaic")
_SENSORS = ("s1", "s2", "fused")


@dataclass(frozen=True)
class FinishedRun:
    """What the earlier notebooks of one run left.

    Attributes:
        title: of its archive.
        store: its packed data.
        settings: of its pretraining.
        choices: changes to them that were tuned, by method.
        trials: its encoders, one row each.
        results: tidy results, see :mod:`mosaic.analysis.results`.
        predictions: table of ``predict.predict_all``.
        published: what :meth:`mosaic.datasets.reference.Reference.beside` returned.
    """

    title: str
    store: PackedStore
    settings: PretrainSettings
    choices: dict[str, dict[str, Any]]
    trials: pd.DataFrame
    results: pd.DataFrame
    predictions: pd.DataFrame
    published: dict[str, Any]

    @property
    def fractions(self) -> list[float]:
        """Label fractions that were judged, ascending."""
        return sorted(float(f) for f in self.results["fraction"].unique())

    @property
    def evaluation(self) -> str:
        """The evaluation by which methods are compared, in words."""
        return common_evaluation_title(self.results)

    def seeds(self, method: str) -> int:
        """Return how many seeds a method was trained with."""
        return int((self.trials.query("method == @method")["seed"]).nunique())


def finished_runs(study: Study[CompareSettings]) -> list[FinishedRun]:
    """Return this run and those named in ``beside``.

    Raises:
        RunError: when a notebook of one of them was not run.
    """
    found = []
    for one in study.with_companions():
        archive = one.read("archive")
        found.append(
            FinishedRun(
                archive["title"],
                one.store(),
                one.earlier("02_pretrain").settings,
                one.read("choices"),
                one.read("encoders"),
                one.read("results"),
                one.read("predictions"),
                archive["published"],
            )
        )
    return found


# --------------------------------------------------------------------------------------- scores


def compared_rows(one: FinishedRun) -> pd.DataFrame:
    """Return the rows that compare all methods: one evaluation, every input of both or single sensors.

    Of methods that learn from labels those of the budgeted protocol; means over seeds, with intervals.
    """
    rows = one.results
    chosen = rows["evaluation"].isin(common_evaluations(rows)) & rows["input"].isin(_SENSORS)
    chosen &= (rows["label_protocol"] != "full") & (rows["stratum"] == "all") & (rows["seed"] == -1)
    return rows[chosen & rows["metric"].isin(["ap_macro", "ap_micro"])].assign(archive=one.title)


def score_table(one: FinishedRun) -> pd.DataFrame:
    """Return macro and micro average precision of the methods with all seeds, with intervals.

    Returns:
        One row a method and input: method, input, seeds, then ``macro, f %`` and ``micro, f %`` as (value,
        low, high) for each fraction f.
    """
    rows = compared_rows(one)
    order = {name: place for place, name in enumerate(METHODS)}
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for row in rows[rows["n_seeds"] == rows["n_seeds"].max()].to_dict("records"):
        place = order[row["method"]], _SENSORS.index(row["input"])
        own = found.setdefault(
            place,
            {
                "method": get_method(row["method"]).title,
                "input": input_title(row["input"]),
                "seeds": int(row["n_seeds"]),
            },
        )
        name = row["metric"].removeprefix("ap_")
        own[f"{name}, {row['fraction']:g} %"] = (row["value"], row["low"], row["high"])
    scores = [f"{average}, {f:g} %" for average in ("macro", "micro") for f in one.fractions]
    return pd.DataFrame(
        [found[place] for place in sorted(found)], columns=["method", "input", "seeds", *scores]
    )


def few_seeds_table(study: Study[CompareSettings], one: FinishedRun) -> pd.DataFrame:
    """Return the methods with fewer seeds than the run beside :data:`REFERENCES`, on the same seeds.

    Returns:
        As :func:`on_common_seeds`, macro and micro; empty where every method has all seeds.
    """
    few = [name for name in METHODS if 0 < one.seeds(name) < one.settings.seeds]
    return on_common_seeds(study, one, [*REFERENCES, *few] if few else [], ("macro", "micro"))


def vit_table(study: Study[CompareSettings], one: FinishedRun) -> pd.DataFrame:
    """Return the methods on a vision transformer beside each other, as :func:`on_common_seeds`."""
    return on_common_seeds(study, one, [name for name, method in METHODS.items() if method.architecture])


def on_common_seeds(
    study: Study[CompareSettings],
    one: FinishedRun,
    methods: Collection[str],
    averages: Sequence[str] = ("macro",),
) -> pd.DataFrame:
    """Return average precision of methods on the seeds that all of them have.

    A seed draws the labels of a budget as well as the weights, so a mean over three seeds and a value of one
    do not compare.

    Returns:
        One row a method that ran: method (its key), seeds, and ``f %`` as (value, low, high) for each label
        fraction f; of several averages ``macro, f %`` and so on.
    """
    rows = pd.concat([common_rows(one.predictions, f) for f in one.fractions])
    rows = rows[rows["method"].isin(list(methods))]
    seeds = set(rows["seed"]).intersection(*(own["seed"] for _, own in rows.groupby("method")))
    rows = rows[rows["seed"].isin(seeds)]
    names = [name for name in METHODS if name in set(rows["method"])]
    parts = [(average, f) for average in averages for f in one.fractions]
    wanted = [
        (rows.query("method == @name and fraction == @f"), average) for name in names for average, f in parts
    ]
    key = {
        "data": one.store.fingerprint,
        "predictions": prediction_keys(rows),
        "averages": list(averages),
        "resamples": study.settings.bootstrap_resamples,
    }

    def compute() -> pd.DataFrame:
        calls = [(one.store, own, study.settings.bootstrap_resamples, average) for own, average in wanted]
        found = parallel_map(resampled, calls, "common seeds", study.settings.jobs)
        spans = [(value, *percentile_interval(value, drawn)) for value, drawn in found]
        return pd.DataFrame(spans, columns=["value", "low", "high"])

    spans = iter(study.cached("common_seeds", key, compute).itertuples(index=False, name=None))
    columns = [(f"{average}, " if len(averages) > 1 else "") + f"{f:g} %" for average, f in parts]
    found = [{"method": name, "seeds": len(seeds), **{c: next(spans) for c in columns}} for name in names]
    return pd.DataFrame(found, columns=["method", "seeds", *columns])


def published_table(one: FinishedRun) -> pd.DataFrame:
    """Return published scores on the same test split, then ours with all labels; empty where none compare."""
    table = pd.DataFrame(one.published["rows"])
    if table.empty:
        return table
    rows = common_rows(one.results.query("stratum == 'all'"), 100.0)
    ours = rows.groupby(["method", "metric"])["value"].mean().unstack()  # over seeds
    for name in (name for name in METHODS if name in ours.index):
        about = {"model": f"{get_method(name).title} (this run)", "input": input_title(main_input(name))}
        table = pd.concat([table, pd.DataFrame([{**about, **ours.loc[name]}])[list(table.columns)]])
    return table.rename(
        columns={
            "ap_macro": "macro AP",
            "ap_micro": "micro AP",
            "f1_macro": "macro F1",
            "f1_micro": "micro F1",
        }
    )


# --------------------------------------------------------------------------------------- ranking


def method_ranking(study: Study[CompareSettings], runs: Sequence[FinishedRun]) -> tuple[list[str], Ranking]:
    """Rank the methods that every run trained with all its seeds, over archives and label fractions.

    Returns:
        The methods as they were ranked, and the ranking.
    """
    methods = [
        name
        for name in METHODS
        if all(
            one.seeds(name) == one.settings.seeds
            and all((common_rows(one.predictions, f)["method"] == name).any() for f in one.fractions)
            for one in runs
        )
    ]
    calls = [
        (
            one.store,
            common_rows(one.predictions, f).query("method == @name"),
            study.settings.bootstrap_resamples,
        )
        for one in runs
        for f in one.fractions
        for name in methods
    ]
    key = {
        "data": [one.store.fingerprint for one in runs],
        "predictions": [prediction_keys(members) for _, members, _ in calls],
        "resamples": study.settings.bootstrap_resamples,
    }

    def compute() -> pd.DataFrame:
        found = parallel_map(resampled, calls, "ranking", study.settings.jobs)
        return pd.DataFrame(found, columns=["value", "drawn"])

    table = study.cached("ranking", key, compute)
    problems = [table[start : start + len(methods)] for start in range(0, len(table), len(methods))]
    drawn = [np.stack(problem["drawn"].to_list()) for problem in problems]
    return methods, rank_methods([problem["value"].to_numpy() for problem in problems], drawn)


def rank_table(methods: Sequence[str], found: Ranking) -> pd.DataFrame:
    """Return the ranking, one row a method: method (its key), rank, low, high."""
    return pd.DataFrame(
        {
            "method": [methods[i] for i in found.order],
            "rank": found.rank,
            "low": found.low,
            "high": found.high,
        }
    )


# --------------------------------------------------------------------------------------- ablations


def kernel_table(study: Study[CompareSettings], one: FinishedRun) -> pd.DataFrame:
    """Return what each label kernel reaches alone: multi-label SupCon with it, a column a label fraction.

    SupCon itself is a row as well, with the kernel it was tuned to; a second row with that one is left out.
    """
    own = one.choices.get("supcon", {}).get("kernel", one.settings.kernel)
    kernels = {"supcon": own} | {
        name: method.kernel
        for name, method in METHODS.items()
        if name.startswith("supcon_") and method.kernel and method.kernel != own
    }
    table = on_common_seeds(study, one, kernels)
    return table.assign(method=table["method"].map(kernels)).rename(columns={"method": "kernel"})


def term_table(study: Study[CompareSettings], one: FinishedRun) -> pd.DataFrame:
    """Return what each term of MoSAiC adds, at the least and at all labels, as readers see it."""
    nothing = pd.DataFrame(columns=["method", "seed", "path"])
    resamples = study.settings.bootstrap_resamples
    archive = ArchiveClaims(one.title, one.store, one.predictions, nothing, np.empty(0, np.int64), resamples)
    return readable_ablation(study.cached("ablation", archive.key(), archive.ablation))


def trust_table(one: FinishedRun, method: str = "mimrf") -> pd.DataFrame:
    """Return how far each class trusts each sensor, as MIMRF learned it with all labels.

    Returns:
        One row a class, sensor and seed: class, sensor, seed, trust in [0, 1]. Empty when it did not run.
    """
    rows = []
    trained = one.trials.query("method == @method and budget == 100")
    for trial in trained.to_dict("records"):
        encoder = load_encoder(trial["folder"])
        trust = getattr(encoder.classifier, "trust", None)
        if trust is None:
            continue
        for sensor, values in zip(encoder.encoder.feature_dims, trust.detach().numpy(), strict=True):
            rows += [
                {"class": name, "sensor": sensor, "seed": trial["seed"], "trust": float(value)}
                for name, value in zip(one.store.class_names, values, strict=True)
            ]
    return pd.DataFrame(rows, columns=["class", "sensor", "seed", "trust"])
