"""All methods on every archive that ran: scores, ranks, costs and ablations. What ``06`` shows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.analysis.results import common_evaluation_title, common_evaluations, common_rows
from mosaic.analysis.scoring import method_ap, paired_difference
from mosaic.analysis.tables import in_order, input_order, input_title, pivot_intervals, readable, titled
from mosaic.evaluation.ranking import Groups, rank_methods
from mosaic.evaluation.uncertainty import Estimate
from mosaic.experiments.parallel import parallel_map
from mosaic.experiments.predictions import main_input, prediction_keys
from mosaic.experiments.study import Study
from mosaic.methods import ABLATIONS, METHODS, SAME_UNTUNED, get_method
from mosaic.models.checkpoint import load_encoder
from mosaic.settings import StudySettings
from mosaic.store.reader import PackedStore
from mosaic.utils.files import read_json
from mosaic.utils.words import count

#: Methods that those of fewer seeds are shown with.
REFERENCES = ("random", "supervised_late", "iai", "supcon", "mosaic")


@dataclass(frozen=True)
class FinishedRun:
    """What one run left: the title of its archive, packed data, settings of its pretraining, and tables."""

    title: str
    store: PackedStore
    settings: StudySettings
    choices: Mapping[str, Mapping[str, Any]]
    trials: pd.DataFrame
    results: pd.DataFrame
    predictions: pd.DataFrame
    published: Mapping[str, Any]

    @property
    def fractions(self) -> list[float]:
        """Label fractions that were evaluated, %, ascending."""
        return sorted(float(f) for f in self.results["fraction"].unique())

    @property
    def evaluation(self) -> str:
        """Title of the evaluation by which methods are compared."""
        return common_evaluation_title(self.results)

    def seeds(self, method: str) -> int:
        """Return how many seeds a method was trained with."""
        return int(self.trials.loc[self.trials["method"] == method, "seed"].nunique())


def finished_runs(study: Study) -> list[FinishedRun]:
    """Return this run and its companions; ``RunError`` when a notebook of one of them was not run."""
    return [
        FinishedRun(
            run.read("archive")["title"],
            run.store(),
            run.earlier("02_pretrain").settings,
            run.read("choices"),
            run.read("encoders"),
            run.read("results"),
            run.read("predictions"),
            run.read("archive")["published"],
        )
        for run in study.with_companions()
    ]


def compared_rows(finished: FinishedRun) -> pd.DataFrame:
    """Return the rows, means over seeds, that compare all methods: one evaluation, one label budget."""
    rows = finished.results.query("stratum == 'all' and seed == -1 and label_budget != 'full'")
    chosen = rows["evaluation"].isin(common_evaluations(finished.results))
    chosen &= ~rows["input"].str.contains("without") & rows["metric"].isin(["ap_macro", "ap_micro"])
    return rows[chosen].assign(archive=finished.title)


def score_table(finished: FinishedRun) -> pd.DataFrame:
    """Return macro and micro average precision of the methods with all seeds: a row a method and input."""
    rows = compared_rows(finished)
    rows = rows[rows["n_seeds"] == rows["n_seeds"].max()]
    rows = rows.assign(
        order=rows["input"].map(input_order),
        seeds=rows["n_seeds"].astype(int),
        score=rows["metric"].str.removeprefix("ap_") + rows["fraction"].map(", {:g} %".format),
    )
    names = _score_names(("macro", "micro"), finished.fractions)
    table = pivot_intervals(in_order(rows, "order"), ["method", "input", "seeds"], "score", names)
    return titled(table.assign(input=table["input"].map(input_title)))


def _score_names(averages: Sequence[str], fractions: Sequence[float]) -> list[str]:
    """Return the columns of scores in their order, such as ``macro, 5 %``."""
    return [f"{average}, {f:g} %" for average in averages for f in fractions]


def few_seeds_table(study: Study, finished: FinishedRun) -> pd.DataFrame:
    """Return methods with fewer seeds than the run, and :data:`REFERENCES`, as :func:`on_common_seeds`."""
    few = [name for name in METHODS if 0 < finished.seeds(name) < finished.settings.grid.seeds]
    return on_common_seeds(study, finished, [*REFERENCES, *few] if few else [], ("macro", "micro"))


def vit_table(study: Study, finished: FinishedRun) -> pd.DataFrame:
    """Return the methods on a vision transformer, as :func:`on_common_seeds`."""
    return on_common_seeds(study, finished, [name for name, method in METHODS.items() if method.architecture])


def on_common_seeds(
    study: Study, finished: FinishedRun, methods: Collection[str], averages: Sequence[str] = ("macro",)
) -> pd.DataFrame:
    """Return average precision of methods on the seeds that all have, a column ``f %`` a label fraction f.

    A seed draws the labels of a budget as well as the weights, so a mean over three seeds and a value of one
    do not compare. Columns of several averages are ``macro, f %`` and so on.
    """
    rows = pd.concat([common_rows(finished.predictions, f) for f in finished.fractions])
    rows = rows[rows["method"].isin(list(methods))]
    seeds = set(rows["seed"]).intersection(*rows.groupby("method")["seed"].agg(set))
    rows = rows[rows["seed"].isin(seeds)]
    groups = [(a, *group) for a in averages for group in in_order(rows).groupby(["method", "fraction"])]
    table = _test_ap(study, [(finished.store, members, average) for average, _, members in groups])
    table = table.assign(
        method=[str(method) for _, (method, _), _ in groups],
        score=[f"{average}, {fraction:g} %" for average, (_, fraction), _ in groups],
        seeds=len(seeds),
    )
    names = _score_names(averages, finished.fractions)
    table = pivot_intervals(in_order(table), ["method", "seeds"], "score", names)
    return table if len(averages) > 1 else table.rename(columns=lambda name: name.rpartition(", ")[2])


def _test_ap(study: Study, calls: Sequence[tuple[PackedStore, pd.DataFrame, str]]) -> pd.DataFrame:
    """Return average precision on the test split, a row a call, with the arrays of its :class:`Estimate`."""
    inputs = [[store.fingerprint, prediction_keys(rows), average] for store, rows, average in calls]

    def compute() -> pd.DataFrame:
        scores = parallel_map(method_ap, calls, "scores", study.settings.jobs)
        rows = [{**vars(score.interval()), **vars(score)} for score in scores]
        return pd.DataFrame(rows, columns=["value", "low", "high", "values", "without"])

    return study.cached("test_ap", {"inputs": inputs}, compute)


def published_table(finished: FinishedRun) -> pd.DataFrame:
    """Return published scores on the same test split, then ours with all labels; empty where none compare."""
    titles = {"ap_macro": "macro AP", "ap_micro": "micro AP", "f1_macro": "macro F1", "f1_micro": "micro F1"}
    table = pd.DataFrame(finished.published["rows"])
    rows = common_rows(finished.results.query("stratum == 'all'"), 100.0) if len(table) else table
    if len(rows):
        means = rows.pivot_table(index="method", columns="metric", values="value").reset_index()  # over seeds
        scores = titled(in_order(means.assign(input=means["method"].map(main_input).map(input_title))))
        scores = scores.assign(model=scores["method"] + " (this run)")
        table = pd.concat([table, scores[list(table)]], ignore_index=True)
    return table.rename(columns=titles)


def method_ranking(study: Study, runs: Sequence[FinishedRun]) -> tuple[pd.DataFrame, Groups]:
    """Rank the methods that every run trained with all its seeds, over archives and label fractions."""
    problems = [(run, common_rows(run.predictions, f)) for run in runs for f in run.fractions]
    methods = [
        name
        for name in METHODS
        if all(run.seeds(name) == run.settings.grid.seeds and name in set(r["method"]) for run, r in problems)
    ]
    calls = [(run.store, rows[rows["method"] == name], "macro") for run, rows in problems for name in methods]
    table = _test_ap(study, calls)
    estimates = iter(map(Estimate, table["values"].map(np.array), table["without"].map(np.array)))
    archives = []
    for run in runs:
        scores = [[next(estimates) for _ in methods] for _ in run.fractions]
        archives.append([Estimate.mean(of_method) for of_method in zip(*scores, strict=True)])
    return rank_methods(methods, archives)


def not_told_apart(ranks: pd.DataFrame) -> int | None:
    """Return how many other methods do not differ significantly from the first; None when that is unknown."""
    worst_rank_of_first = ranks["high"].iloc[0]
    return None if np.isnan(worst_rank_of_first) else int(worst_rank_of_first) - 1


def ranking_answer(ranks: pd.DataFrame, problems: int) -> str:
    """Return in a sentence who ranks first over a number of problems, where MoSAiC is, and what is known."""
    titles = titled(ranks)["method"].tolist()
    if len(titles) == 1:
        return f"{titles[0]} is the only method with all seeds, so there is nothing to rank."
    first = titles[: int((ranks["rank"] == ranks["rank"].min()).sum())]
    verb = "ranks first" if len(first) == 1 else "share the first rank"
    text = f"{' and '.join(first)} {verb} of {count(len(titles), 'method')} over {count(problems, 'problem')}"
    if "MoSAiC" not in first:
        place = f"number {titles.index('MoSAiC') + 1}" if "MoSAiC" in titles else "not among them"
        text += f", MoSAiC is {place}"
    alike = not_told_apart(ranks)
    if alike is None:
        return f"{text}; one seed, or too few scenes, do not tell which differences hold."
    told = f"{count(alike, 'other')} cannot" if alike else "all others can"
    return f"{text}; {told} be told from the first."


def cost_table(finished: FinishedRun) -> pd.DataFrame:
    """Return what each method cost at all labels (means over encoders), and its macro average precision."""
    scores = compared_rows(finished).query("metric == 'ap_macro'")
    scores = common_rows(scores, max(finished.fractions)).set_index("method")[["value", "low", "high"]]
    rows = []
    trials = finished.trials[finished.trials["budget"].isin([0.0, 100.0])]
    for method, members in trials[trials["method"].isin(scores.index)].groupby("method", sort=False):
        cards = [read_json(Path(folder) / "card.json") for folder in members["folder"]]
        timing = pd.DataFrame([card["timing"] for card in cards])
        trained = get_method(str(method)).trained
        rows.append(
            {
                "method": str(method),
                "parameters": cards[0]["parameters"]["encoder"],
                "trained": cards[0]["parameters"]["trained"] if trained else 0,
                "steps": cards[0]["settings"]["steps"] if trained else 0,
                "minutes": timing["seconds"].mean() / 60 if trained else 0.0,
                "memory_mb": timing["peak_memory_mb"].mean(),
                "device": timing["device"].iloc[0],
                "seeds": finished.seeds(str(method)),
            }
        )
    return pd.DataFrame(rows).join(scores, on="method")


def readable_costs(costs: pd.DataFrame) -> pd.DataFrame:
    """Return costs under the titles of a report."""
    titles = {"method": "method", "seeds": "seeds", "value": "macro AP", "parameters": "encoder, million"}
    titles |= {"trained": "trained, million", "steps": "steps", "minutes": "minutes"}
    titles |= {"memory_mb": "memory, MiB"}
    millions = {name: costs[name] / 1e6 for name in ("parameters", "trained")}
    return readable(costs.assign(**millions), titles)


def kernel_table(study: Study, finished: FinishedRun) -> pd.DataFrame:
    """Return what each label kernel reaches alone: multi-label SupCon with it, a column a label fraction.

    SupCon itself is a row as well, with the kernel it was tuned to; a second row with that one is left out.
    """
    tuned = finished.choices.get("supcon", {}).get("kernel", finished.settings.trial.loss.kernel)
    kernels = {"supcon": tuned} | {
        name: method.kernel
        for name, method in METHODS.items()
        if name.startswith("supcon_") and method.kernel not in (None, tuned)
    }
    table = on_common_seeds(study, finished, kernels)
    return table.assign(method=table["method"].map(kernels)).rename(columns={"method": "kernel"})


def term_table(study: Study, finished: FinishedRun) -> pd.DataFrame:
    """Return what each term adds: MoSAiC less the same method without it, at the least and at all labels."""
    ran = set(finished.predictions["method"])

    def compute() -> pd.DataFrame:
        rows = []
        for term, name in ABLATIONS.items():
            methods = ("mosaic", name if name in ran else SAME_UNTUNED.get(name, name))
            for fraction in sorted({min(finished.fractions), max(finished.fractions)}):
                comparable = common_rows(finished.predictions, fraction)
                mosaic, other = (comparable[comparable["method"] == method] for method in methods)
                difference = paired_difference(finished.store, mosaic, other)
                if difference:
                    rows.append({"term": term, "labels": f"{fraction:g} %", **difference})
        return pd.DataFrame(rows, columns=["term", "labels", "value", "low", "high", "n_seeds"])

    key = {"data": finished.store.fingerprint, "predictions": prediction_keys(finished.predictions)}
    table = study.cached("ablation", key, compute)
    return readable(table, {"term": "term", "labels": "labels", "value": "gain", "n_seeds": "seeds"})


def trust_table(finished: FinishedRun, method: str = "mimrf") -> pd.DataFrame:
    """Return each class's trust in each sensor, in [0, 1], as MIMRF learned it with all labels; a row a seed.

    Empty when it did not run.
    """
    rows = []
    trials = finished.trials.query("method == @method and budget == 100")
    for trial in trials.to_dict("records"):
        encoder = load_encoder(trial["folder"])
        trust = getattr(encoder.classifier, "trust", None)
        if trust is not None:
            for sensor, values in zip(encoder.encoder.feature_dims, trust.tolist(), strict=True):
                triples = zip(finished.store.class_names, values, strict=True)
                rows += [(name, sensor, trial["seed"], value) for name, value in triples]
    return pd.DataFrame(rows, columns=["class", "sensor", "seed", "trust"])
