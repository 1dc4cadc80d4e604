"""Label sets drawn from the distribution of the 5,350 distinct sets of the real BigEarthNet v2."""

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic.datasets.corine import CLASSES

#: Every class gets at least this many patches in a split of ``_ROOM`` patches or more.
_LEAST = 3
_ROOM = 200


@cache
def label_sets() -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Return the distinct label sets (K, 19) of the 480,038 official patches, and their shares (K,).

    Made by ``benchmarks/derive_label_statistics.py`` from the official ``metadata.parquet``
    (CDLA-Permissive-1.0, bigearth.net).
    """
    with np.load(Path(__file__).with_name("label_sets.npz")) as file:
        masks, counts = file["masks"], file["counts"]
    sets = (masks[:, None] >> np.arange(len(CLASSES)) & 1).astype(np.uint8)
    return sets, counts / counts.sum()


def draw_label_sets(number: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Draw label sets (number, 19) for one split.

    The draw is independent, but in a split of 200 patches or more the few classes that came up fewer than
    three times replace patches drawn at random, so that no class is absent from a split.
    """
    sets, share = label_sets()
    drawn = sets[random.choice(len(sets), size=number, p=share)]
    if number < _ROOM:
        return drawn
    for rare in np.argsort(drawn.sum(0)):
        short = _LEAST - int(drawn[:, rare].sum())
        if short <= 0:
            continue
        carrying = np.flatnonzero(sets[:, rare])
        chosen = random.choice(carrying, size=short, p=share[carrying] / share[carrying].sum())
        # replace patches whose own labels can all be spared
        spare = (drawn.sum(0) - drawn > _LEAST) | (drawn == 0)
        replaced = random.choice(np.flatnonzero(spare.all(1)), size=short, replace=False)
        drawn[replaced] = sets[chosen]
    return drawn


def label_statistics(labels: NDArray[np.uint8]) -> dict[str, float]:
    """Describe label vectors (N, C) by what matters to a contrastive loss.

    Returns:
        ``mean_labels`` a patch; for two different random patches ``p_share`` (at least one label in common),
        ``p_identical`` and ``mean_jaccard``.
    """
    kinds, counts = np.unique(labels, axis=0, return_counts=True)
    kinds = kinds.astype(np.float64)
    shared = kinds @ kinds.T
    size = kinds.sum(1)
    jaccard = shared / np.maximum(size[:, None] + size[None, :] - shared, 1)
    pairs = np.outer(counts, counts) - np.diag(counts)
    total = pairs.sum()
    return {
        "mean_labels": float(labels.sum(1).mean()),
        "p_share": float(pairs[shared > 0].sum() / total),
        "p_identical": float(np.diag(pairs).sum() / total),
        "mean_jaccard": float((pairs * jaccard).sum() / total),
    }
