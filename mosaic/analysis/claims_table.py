"""The claims table, from predictions and embeddings. What ``07`` runs."""

import operator
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mosaic.analysis.results import main_rows
from mosaic.analysis.tables import EVALUATIONS
from mosaic.evaluation import claims
from mosaic.evaluation.claims import Claim, Comparison
from mosaic.evaluation.label_overlap import confusable_pairs
from mosaic.evaluation.metrics import LEAST_POSITIVES, macro_ap
from mosaic.evaluation.uncertainty import LEAST_SCENES, Estimate, Interval, estimate_ap
from mosaic.experiments.embed import chosen_rows
from mosaic.experiments.predictions import KEYS, load, prediction_keys, read_arrays
from mosaic.experiments.study import Study
from mosaic.methods import METHODS
from mosaic.settings import NOTEBOOKS
from mosaic.utils.progress import progress

MOSAIC = "mosaic"
#: What MoSAiC must exceed before anything is claimed of it, as it is without any training.
UNTRAINED = ("band_statistics", "random")
MEASURE_TITLES = {
    "ap_macro": "macro average precision, MoSAiC less opponent",
    "ap_conditional": "average precision of a class among carriers of its confounder, MoSAiC less opponent",
    "knn_jaccard": "label Jaccard index of nearest neighbours, MoSAiC less opponent",
}
RULES = {
    "level": claims.LEVEL,
    "correction": "Bonferroni, over comparisons with enough seeds and scenes",
    "least_seeds": claims.LEAST_SEEDS,
    "least_scenes": LEAST_SCENES,
    "least_positives": LEAST_POSITIVES,
    "relevant_difference": claims.RELEVANT,
    "power": claims.POWER,
    "chosen_on": "validation",
    "trained": "not below band statistics, and above random features by the 95 % interval",
    "interval": "t, variances over scenes (jackknife) and seeds added",
    "opponents": "of those trained with all seeds of MoSAiC",
}


@dataclass(frozen=True)
class Entry:
    """How a method enters a comparison: with the evaluation that is best on validation."""

    method: str
    evaluation: str  # "embedding" where neighbourhoods are compared
    validation: float  # score, mean over seeds
    members: pd.DataFrame  # its rows of the table of predictions or embeddings, by seed

    @property
    def seeds(self) -> set[int]:
        """Seeds it was trained with."""
        return set(self.members["seed"])

    @property
    def title(self) -> str:
        """Method and evaluation, for readers."""
        evaluation = EVALUATIONS.get(self.evaluation)
        return METHODS[self.method].title + (f" ({evaluation})" if evaluation else "")


class ArchiveClaims:
    """The claims on the archive of a run. Where trials failed, one of them may be of the best opponent."""

    def __init__(self, run: Study) -> None:
        self.title, self.store = run.read("archive")["title"], run.store()
        predictions = run.read("predictions")
        # full-label pretraining has seen labels that few-label comparisons must not use; fine-tuning is of
        # few seeds, and trains what is otherwise not trained
        predictions = predictions.query("label_budget != 'full' and evaluation != 'finetune'")
        self.predictions = main_rows(predictions)
        store, embedding = self.store, run.earlier("04_embeddings_and_coherence").settings.embedding
        self.embedded, self.rows = run.read("embeddings"), chosen_rows(store, embedding.most_patches)
        self.embedded_scenes = store.scenes[self.rows["test"]]
        failed = pd.concat([run.earlier(name).failed_trials() for name in list(NOTEBOOKS)[2:5]])
        self.lost = sorted({trial.partition(" seed ")[0] for trial in failed["trial"]})
        self.labels = {s: store.labels[store.split_rows(s)] for s in ("validation", "test")}
        self.scenes = store.scenes[store.split_rows("test")]
        confusable = store.manifest.confusable
        self.pairs = list(confusable_pairs(self.labels["test"], store.class_names, confusable).values())
        self.entry, self.untrained = cache(self._entry), cache(self._untrained)

    def key(self) -> dict[str, Any]:
        """Return everything the claims depend on, for the cache; where files lie does not matter."""
        return {
            "title": self.title,
            "data": self.store.fingerprint,
            "predictions": prediction_keys(self.predictions[["path", "key", *KEYS]]),
            "embedded": sorted(Path(path).name for path in self.embedded["path"]),
            "rules": RULES,
            "lost": self.lost,
        }

    def fraction(self, name: str) -> float:
        """Return the label fraction that a claim calls ``"all"`` or ``"least"``, %."""
        return 100.0 if name == "all" else float(self.predictions["fraction"].min())

    def compare(self, claim: Claim) -> Comparison:
        """Return the difference that tests a claim, or why it cannot be tested."""
        untested = partial(Comparison, claim, self.title)
        fraction = self.fraction(claim.fraction)
        if claim.fraction == "least" and fraction == self.fraction("all"):
            return untested("no label fraction below 100 % in this run")
        if fraction not in set(self.predictions["fraction"]):
            return untested("no evaluation with all labels in this run")
        family = [name for name, method in METHODS.items() if method.family == claim.against]
        if lost := [METHODS[name].title for name in family if name in self.lost]:
            return untested(f"trials of {', '.join(lost)} failed, perhaps of the best opponent")
        mosaic = self.entry(MOSAIC, claim.measure, fraction)
        if mosaic is None:
            return untested(f"no MoSAiC with {fraction:g} % of the labels in this run")
        entries = [entry for name in family if (entry := self.entry(name, claim.measure, fraction))]
        entries = [entry for entry in entries if mosaic.seeds <= entry.seeds]
        if not entries:
            return untested(f"no {claim.against} method with all seeds in this run")
        opponent = max(entries, key=lambda entry: entry.validation)
        if claim.measure == "ap_conditional" and not self.pairs:
            return untested(f"no confusable pair has {LEAST_POSITIVES} test patches with and without")
        theirs = self.estimate(opponent, claim.measure, mosaic.seeds)
        difference = (self.estimate(mosaic, claim.measure) - theirs).difference()
        if np.isnan(difference.value):
            return untested("nothing to score: no positive label, or all test patches in one place")
        sides = f"{mosaic.title} against {opponent.title}"
        return Comparison(claim, self.title, sides, difference, self.untrained(fraction))

    def _untrained(self, fraction: float) -> str:
        """Return :func:`.claims.too_little_training` at a label fraction."""
        mosaic, *others = (self.entry(name, "ap_macro", fraction) for name in (MOSAIC, *UNTRAINED))
        titles = [METHODS[name].title.lower() for name in UNTRAINED]
        margins = [self._margin(mosaic, other) for other in others]
        return claims.too_little_training(dict(zip(titles, margins, strict=True)))

    def _margin(self, upper: Entry | None, lower: Entry | None) -> Interval | None:
        """Return a difference of macro average precision over the seeds of both, if there are any."""
        if upper is None or lower is None or not (seeds := upper.seeds & lower.seeds):
            return None
        return operator.sub(*(self.estimate(side, "ap_macro", seeds) for side in (upper, lower))).interval()

    def what_it_can_show(self) -> pd.DataFrame:
        """Return band statistics less random features, and the best trained method less band statistics.

        With all labels; the best, of those with most seeds, is chosen on validation, as evaluations are. A
        comparison without its methods has no row; with as few seeds or scenes as decide no claim it is
        undecided.
        """
        names = self.predictions["method"].unique()
        found = [entry for name in names if (entry := self.entry(name, "ap_macro", self.fraction("all")))]
        bar, chance = (next((entry for entry in found if entry.method == name), None) for name in UNTRAINED)
        trained = [entry for entry in found if entry.method not in UNTRAINED]
        best = max(trained, key=lambda entry: (len(entry.seeds), entry.validation), default=None)
        rows = []
        for upper, lower in ((bar, chance), (best, bar)):
            if upper and lower and (margin := self._margin(upper, lower)):
                shown = "yes" if margin.low > 0 else "no" if margin.high < 0 else "undecided"
                if claims.too_few(margin.n_scenes, margin.n_seeds):
                    shown = "undecided"
                title = f"{upper.title} less {lower.title}"
                rows.append({"comparison": title, **asdict(margin), "shown": shown})
        columns = ["comparison", *(each.name for each in fields(Interval)), "shown"]
        return pd.DataFrame(rows, columns=columns)

    def _entry(self, method: str, measure: str, fraction: float) -> Entry | None:
        """Return how a method enters, by validation; None when it was not run."""
        rows = self.predictions[self.predictions["fraction"] == fraction]
        if measure == "knn_jaccard":
            rows = self.embedded.assign(evaluation="embedding")
        entries = []
        for evaluation, members in rows[rows["method"] == method].sort_values("seed").groupby("evaluation"):
            score = float(np.mean([self._validation(row, measure) for _, row in members.iterrows()]))
            entries.append(Entry(method, str(evaluation), score, members))
        return max(entries, key=lambda entry: entry.validation, default=None)

    def _validation(self, row: pd.Series, measure: str) -> float:
        if measure == "knn_jaccard":
            return float(read_arrays(row["path"], "neighbours|validation")[""][0])
        return macro_ap(self.labels["validation"], load(row, "validation"))

    def estimate(self, entry: Entry, measure: str, seeds: Collection[int] | None = None) -> Estimate:
        """Return a measure of an entry on the test split, of its own seeds or of those given."""
        rows = [row for _, row in entry.members.iterrows() if seeds is None or row["seed"] in seeds]
        if measure == "knn_jaccard":
            return Estimate.of([read_arrays(row["path"], "neighbours|test")[""] for row in rows])
        strata = self.pairs if measure == "ap_conditional" else ()
        return estimate_ap(self.labels["test"], [load(row) for row in rows], self.scenes, strata)


def judge_claims(study: Study, archives: Sequence[ArchiveClaims]) -> pd.DataFrame:
    """Return one row a claim and archive, with its verdict (:func:`mosaic.evaluation.claims.judge`)."""
    pairs = [(archive, claim) for archive in archives for claim in claims.CLAIMS]

    def compute() -> pd.DataFrame:
        return claims.judge([archive.compare(claim) for archive, claim in progress(pairs, "claims")])

    return study.cached("claims", {"archives": [archive.key() for archive in archives]}, compute)


def as_json(table: pd.DataFrame) -> dict[str, Any]:
    """Return the content of ``claims.json``: rules, then one object a claim, NaN as null."""
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    return {"rules": RULES, "claims": rows}
