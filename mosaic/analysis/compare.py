"""All methods on every archive that ran: scores, ranks, costs and ablations. What ``06`` shows."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd

from mosaic.analysis.results import Call, common_evaluations, common_rows, estimates
from mosaic.analysis.tables import in_order, input_title, titled
from mosaic.evaluation.label_overlap import Stratum, strata
from mosaic.evaluation.ranking import Groups, rank_methods
from mosaic.evaluation.uncertainty import Estimate
from mosaic.experiments.predictions import main_input
from mosaic.experiments.study import Study
from mosaic.methods import ABLATIONS, METHODS, SAME_UNTUNED
from mosaic.models.checkpoint import load_encoder
from mosaic.store.reader import PackedStore

#: Method that differences in subgroups are taken to.
REFERENCE = "supervised_late"
#: Methods that those of fewer seeds are shown with.
REFERENCES = ("random", "supervised_late", "iai", "supcon", "mosaic")
_RARE = 0.05  # share of the training patches below which a class is rare


def fractions_of(run: Study) -> list[float]:
    """Return the label fractions that a run evaluated, %, ascending."""
    return run.earlier("02_pretrain").settings.grid.label_fractions


def compared_rows(run: Study) -> pd.DataFrame:
    """Return the rows, means over seeds, that compare all methods: one evaluation, one label budget."""
    results = run.read("results")
    rows = results.query("stratum == 'all' and seed == -1 and label_budget != 'full'")
    chosen = rows["evaluation"].isin(common_evaluations(results))
    chosen &= ~rows["input"].str.contains("without") & rows["metric"].isin(["ap_macro", "ap_micro"])
    return rows[chosen].assign(archive=run.read("archive")["title"])


def on_common_seeds(study: Study, run: Study, methods: Collection[str]) -> pd.DataFrame:
    """Return macro average precision of methods on the seeds that all have: a row a method and fraction.

    A seed draws the labels of a budget as well as the weights, so a mean over three seeds and a value of one
    do not compare.
    """
    predictions, store = run.read("predictions"), run.store()
    rows = pd.concat([common_rows(predictions, f) for f in fractions_of(run)])
    rows = in_order(rows[rows["method"].isin(list(methods))])
    seeds = set(rows["seed"]).intersection(*rows.groupby("method")["seed"].agg(set))
    calls = [
        Call({"method": method, "fraction": fraction}, store, members)
        for (method, fraction), members in rows[rows["seed"].isin(seeds)].groupby(["method", "fraction"])
    ]
    return estimates(study, calls)


def published_table(run: Study) -> pd.DataFrame:
    """Return published scores on the same test split, then ours with all labels; empty where none compare.

    Ours are those of the published inputs, one or all sensors, and of each method's main input.
    """
    titles = {"ap_macro": "macro AP", "ap_micro": "micro AP", "f1_macro": "macro F1", "f1_micro": "micro F1"}
    table, rows = pd.DataFrame(run.read("archive")["published"]["rows"]), run.read("results")
    if len(table):
        rows = rows.query("stratum == 'all' and label_budget != 'full' and fraction == 100")
        inputs = rows["input"].map(input_title)
        alike = inputs.isin(table["input"]) | (rows["input"] == rows["method"].map(main_input))
        rows = rows.assign(input=inputs)[alike & rows["evaluation"].isin(common_evaluations(rows))]
        means = rows.pivot_table(index=["method", "input"], columns="metric", values="value")  # over seeds
        scores = titled(in_order(means.reset_index()))
        scores = scores.assign(model=scores["method"] + " (this run)")
        table = pd.concat([table, scores[list(table)]], ignore_index=True)
    return table.rename(columns=titles)


def method_ranking(study: Study, runs: Sequence[Study]) -> tuple[pd.DataFrame, Groups]:
    """Rank the methods that every run trained with all its seeds, over archives and label fractions."""
    predictions = {run.folder: run.read("predictions") for run in runs}
    problems = [(run, common_rows(predictions[run.folder], f)) for run in runs for f in fractions_of(run)]
    seeds = [rows.groupby("method")["seed"].nunique() for _, rows in problems]
    methods = [name for name in METHODS if all(n.get(name) == n.max() for n in seeds)]
    calls = [Call({}, run.store(), rows[rows["method"] == m]) for run, rows in problems for m in methods]
    table = estimates(study, calls)
    each = iter(map(Estimate, table["values"].map(np.array), table["without"].map(np.array)))
    archives = []
    for run in runs:
        scores = [[next(each) for _ in methods] for _ in fractions_of(run)]
        archives.append([Estimate.mean(of_method) for of_method in zip(*scores, strict=True)])
    return rank_methods(methods, archives)


def kernels_of(run: Study) -> dict[str, str]:
    """Return the methods that are multi-label SupCon with one label kernel each: name -> kernel.

    SupCon itself is one, with the kernel it was tuned to; a second with that one is left out.
    """
    setting = run.earlier("02_pretrain").settings.trial.loss.kernel
    tuned = run.read("choices").get("supcon", {}).get("kernel", setting)
    others = {name: method.kernel for name, method in METHODS.items() if name.startswith("supcon_")}
    return {"supcon": tuned} | {name: k for name, k in others.items() if k not in (None, tuned)}


def term_gains(study: Study, run: Study) -> pd.DataFrame:
    """Return what each term adds: MoSAiC less the same method without it, at the least and at all labels."""
    predictions, store, fractions = run.read("predictions"), run.store(), fractions_of(run)
    ran = set(predictions["method"])
    calls = []
    for term, name in ABLATIONS.items():
        other = name if name in ran else SAME_UNTUNED.get(name, name)
        for fraction in sorted({fractions[0], fractions[-1]}):
            rows = common_rows(predictions, fraction)
            mosaic, without = (rows[rows["method"] == method] for method in ("mosaic", other))
            calls.append(Call({"term": term, "labels": f"{fraction:g} %"}, store, mosaic, without))
    return estimates(study, calls)


def define_subgroups(store: PackedStore) -> dict[str, Stratum]:
    """Return the subgroups of the test split: name -> patches and classes.

    Rare and common classes on all patches; all classes on patches of one label, and of five or more (three,
    where no test patch has as many); and the confusable groups of the archive.
    """
    train, test = (store.labels[store.split_rows(split)] for split in ("train", "test"))
    present, rare, count = test.any(0), train.mean(0) < _RARE, test.sum(1)
    many = 5 if (count >= 5).any() else 3
    everyone = np.ones(len(test), bool)
    masks = {
        "all classes": (everyone, present),
        f"rare classes, below {100 * _RARE:g} %": (everyone, present & rare),
        "common classes": (everyone, present & ~rare),
        "1 label": (count == 1, np.ones(test.shape[1], bool)),
        f"{many} labels or more": (count >= many, test[count >= many].any(0)),
    }
    subgroups = {
        name: Stratum(name, np.flatnonzero(patches), np.flatnonzero(classes))
        for name, (patches, classes) in masks.items()
        if patches.any() and classes.any()
    }
    known = strata(test, store.class_names, store.manifest.confusable)
    return subgroups | {s.name.removeprefix("group: "): s for s in known if "group: " in s.name}


def subgroup_differences(
    study: Study, store: PackedStore, predictions: pd.DataFrame, fraction: float
) -> pd.DataFrame:
    """Return every method's macro AP less that of :data:`REFERENCE` in each subgroup; empty without it."""
    rows = common_rows(predictions, fraction)
    members = {name: rows[rows["method"] == name] for name in METHODS if name in set(rows["method"])}
    reference, subgroups = members.pop(REFERENCE, rows[:0]), define_subgroups(store)
    calls = [
        Call({"method": name, "subgroup": group}, store, each, reference, [stratum])
        for name, each in members.items()
        for group, stratum in subgroups.items()
    ]
    return estimates(study, calls)


def trust_table(run: Study) -> pd.DataFrame:
    """Return each class's trust in each sensor, in [0, 1], as MIMRF learned it with all labels; a row a seed.

    Empty when it did not run.
    """
    rows = []
    for trial in run.read("encoders").query("method == 'mimrf' and budget == 100").to_dict("records"):
        encoder = load_encoder(trial["folder"])
        trust = getattr(encoder.classifier, "trust", None)
        if trust is not None:
            for sensor, values in zip(encoder.encoder.feature_dims, trust.tolist(), strict=True):
                triples = zip(encoder.card["class_names"], values, strict=True)
                rows += [(name, sensor, trial["seed"], value) for name, value in triples]
    return pd.DataFrame(rows, columns=["class", "sensor", "seed", "trust"])
