"""Comparisons whose answer is known, judged as the claims are. What ``07`` shows beside them."""

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.analysis.claims_table import MOSAIC, ArchiveClaims
from mosaic.evaluation.claims import Claim, Comparison, judge
from mosaic.evaluation.metrics import scored_classes
from mosaic.evaluation.probes import linear_probe
from mosaic.evaluation.uncertainty import Difference, estimate_ap
from mosaic.experiments.predictions import load, main_input
from mosaic.experiments.probe import encode
from mosaic.experiments.study import Study

#: Draws of labels and noise, which count as seeds.
DRAWS = 5
#: Noise of both sides and planted effect, in standard deviations of a class's predictions.
NOISE, PLANTED = 0.3, 0.5


def control_table(study: Study, archive: ArchiveClaims) -> pd.DataFrame:
    """Return four comparisons as :func:`mosaic.evaluation.claims.judge`, of which two have an effect.

    A linear probe of MoSAiC's features fitted to shuffled labels, less random scores; two copies of MoSAiC's
    predictions with noise; the same with an effect planted in the first, which must be supported, and in the
    second, which must be not supported. Empty where MoSAiC did not run.
    """
    mosaic = archive.entry(MOSAIC, "ap_macro", archive.fraction("all"))
    if mosaic is None:
        return pd.DataFrame()

    def compute() -> pd.DataFrame:
        labels, random = archive.labels["test"], np.random.default_rng(0)
        seeds = [load(row) for _, row in mosaic.members.iterrows()]

        def copies(planted: float) -> list[NDArray[np.float32]]:
            chosen = [seeds[draw % len(seeds)] for draw in range(DRAWS)]
            noise = [NOISE * random.normal(size=each.shape) + planted * labels for each in chosen]
            return [each + each.std(0) * added for each, added in zip(chosen, noise, strict=True)]

        def compare(first: list[NDArray[np.float32]], second: list[NDArray[np.float32]]) -> Difference:
            a, b = (estimate_ap(labels, side, archive.scenes) for side in (first, second))
            return (a - b).difference()

        shuffled, sides = _shuffled_labels(archive)
        noisy = f"MoSAiC's predictions, noise of {NOISE:g} standard deviations"
        rows = [
            ("Better than chance after training on shuffled labels", sides, shuffled),
            ("Better than a noisy copy of itself", noisy, compare(copies(0), copies(0))),
            (
                "Better with a planted effect",
                f"{noisy}, {PLANTED:g} planted",
                compare(copies(PLANTED), copies(0)),
            ),
            (
                "Better than a copy with a planted effect",
                f"{noisy}, {PLANTED:g} planted in the copy",
                compare(copies(0), copies(PLANTED)),
            ),
        ]
        claims = [(Claim("control", title, "", "all", "ap_macro"), words, d) for title, words, d in rows]
        return judge([Comparison(claim, archive.title, words, d) for claim, words, d in claims])

    return study.cached("controls", archive.key(), compute)


def _shuffled_labels(archive: ArchiveClaims) -> tuple[Difference, str]:
    """Return a probe on shuffled labels less random scores, and both in words beside the prior."""
    store, rows, random = archive.store, archive.rows, np.random.default_rng(1)
    labels = {split: store.labels[each] for split, each in rows.items()}
    encoders = archive.embedded[archive.embedded["method"] == MOSAIC].sort_values("seed")["folder"]
    encoded = [encode(store, Path(folder), rows) for folder in encoders]
    features = [{split: each[main_input(MOSAIC)] for split, each in splits.items()} for splits in encoded]
    scores, chance = [], []
    for draw in range(DRAWS):
        x = features[draw % len(features)]
        train, validation = (random.permutation(labels[split]) for split in ("train", "validation"))
        tested, _ = linear_probe(x["train"], train, x["validation"], validation, {"test": x["test"]})
        scores.append(tested["test"])
        chance.append(random.random(tested["test"].shape, np.float32))
    shuffled, random_scores = (
        estimate_ap(labels["test"], s, archive.embedded_scenes) for s in (scores, chance)
    )
    prior = labels["test"][:, scored_classes(labels["test"])].mean()
    words = f"macro average precision {shuffled.value:.3f}, of random scores {random_scores.value:.3f}"
    return (shuffled - random_scores).difference(), f"{words}, prior {prior:.3f}"
