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

        noisy = f"MoSAiC's predictions, noise of {NOISE:g} standard deviations"
        rows = [("Better than chance after training on shuffled labels", *_shuffled_labels(archive))]
        for title, planted, effects in (
            ("Better than a noisy copy of itself", "", (0, 0)),
            ("Better with a planted effect", f", {PLANTED:g} planted", (PLANTED, 0)),
            ("Better than a copy with a planted effect", f", {PLANTED:g} planted in the copy", (0, PLANTED)),
        ):
            first, second = (estimate_ap(labels, copies(effect), archive.scenes) for effect in effects)
            rows.append((title, noisy + planted, (first - second).difference()))
        claims = [(Claim("control", title, "", "all", "ap_macro"), words, d) for title, words, d in rows]
        return judge([Comparison(claim, archive.title, words, d) for claim, words, d in claims])

    return study.cached("controls", archive.key(), compute)


def _shuffled_labels(archive: ArchiveClaims) -> tuple[str, Difference]:
    """Return a probe on shuffled labels less random scores, in words beside the prior and as a number."""
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
    test, scenes = labels["test"], archive.embedded_scenes
    shuffled, by_chance = (estimate_ap(test, each, scenes) for each in (scores, chance))
    words = f"macro average precision {shuffled.value:.3f}, of random scores {by_chance.value:.3f}"
    return f"{words}, prior {test[:, scored_classes(test)].mean():.3f}", (shuffled - by_chance).difference()
