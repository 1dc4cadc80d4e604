"""Finished runs beside each other. What ``compare_runs`` shows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd

from mosaic.analysis.results import Call, common_rows, estimates
from mosaic.experiments.study import HOW, TABLES, Study, reports_folder
from mosaic.settings import NOTEBOOKS, StudySettings
from mosaic.utils.errors import RunError, suggest


def open_runs(names: Sequence[str]) -> dict[str, Study]:
    """Return finished runs by name; RunError for fewer than two, or one that is unknown or not finished."""
    if len(set(names)) < 2:
        raise RunError("a comparison takes two runs or more, such as `python -m mosaic compare demo warm`")
    known = [path.name for path in reports_folder("").glob("*/")]
    for name in names:
        if name not in known:
            raise RunError(f"no run {name!r} in {reports_folder('')}{suggest(name, known)}")
    runs = {name: Study("compare_runs", StudySettings(), reports_folder(name)) for name in names}
    for run in runs.values():
        run_settings(run)
    return runs


def run_settings(run: Study) -> dict[str, Any]:
    """Return the parameters of a finished run, without those that change no result."""
    given = {name: run.earlier(name).settings.flat() for name in dict.fromkeys(TABLES.values())}
    return {name: flat[name] for stage, flat in given.items() for name in NOTEBOOKS[stage] if name not in HOW}


def paired_runs(runs: Mapping[str, Study]) -> list[str]:
    """Return the runs after the first that were tested on its patches, with its labels and scenes."""
    tested = {}
    for name, run in runs.items():
        store = run.store()
        rows = store.split_rows("test")
        labels = pd.DataFrame(store.labels[rows], columns=list(store.class_names))
        tested[name] = labels.assign(patch=store.index["patch_id"].to_numpy()[rows], scene=store.scenes[rows])
    first, *others = tested
    return [name for name in others if tested[name].equals(tested[first])]


def run_scores(runs: Mapping[str, Study], paired: Collection[str]) -> pd.DataFrame:
    """Return macro average precision by an evaluation that all runs have: a row a fraction, method and run.

    ``measure`` is ``"score"`` or, of ``paired`` runs, ``"difference"``: less the same method in the first
    run, paired by scene, on the seeds that both have.
    """
    tables = {name: run.read("predictions") for name, run in runs.items()}
    found = {name: set(table["evaluation"]) for name, table in tables.items()}
    if not (shared := set.intersection(*found.values())):
        listed = "; ".join(f"{name} has {', '.join(sorted(names))}" for name, names in found.items())
        raise RunError(
            f"these runs share no evaluation ({listed}): run 03 of each with a common value in `evaluations`"
        )
    calls = []
    for fraction in sorted(set().union(*(table["fraction"] for table in tables.values()))):
        rows = {name: common_rows(t[t["evaluation"].isin(shared)], fraction) for name, t in tables.items()}
        references = dict(list(rows[next(iter(runs))].groupby("method")))
        for name, run in runs.items():
            for method, members in rows[name].groupby("method"):
                facts = {"fraction": fraction, "method": method, "run": name}
                score = Call({**facts, "measure": "score"}, run.store(), members)
                calls.append(score)
                if name in paired and method in references:
                    facts = {**facts, "measure": "difference"}
                    calls.append(replace(score, facts=facts, reference=references[method]))
    return estimates(next(iter(runs.values())), calls)
