"""Where labels overlap: strata of hard patches, and classes that are easily confused."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from mosaic.evaluation.metrics import LEAST_POSITIVES, Labels

#: Group of confusable classes -> their names.
Groups = Mapping[str, Sequence[str]]

#: Stratum -> fewest and most labels of its patches.
LABEL_COUNTS: dict[str, tuple[int, float]] = {
    "labels: 1": (1, 1),
    "labels: 2": (2, 2),
    "labels: 3-4": (3, 4),
    "labels: 5+": (5, np.inf),
}


@dataclass(frozen=True)
class Stratum:
    """A subset of the patches (row numbers) and the classes scored on it (column numbers)."""

    name: str  # such as "labels: 3-4" or "group: forests"
    patches: NDArray[np.int64]
    classes: NDArray[np.int64]


def strata(labels: Labels, class_names: Sequence[str], groups: Groups) -> list[Stratum]:
    """Divide patches by their number of labels, and select those of each group of confusable classes.

    A group's stratum holds the patches that carry at least one of its classes, and scores those classes only:
    which forest is it, given that it is one? Strata without a patch are left out.
    """
    count = labels.sum(1)
    result = [
        Stratum(name, np.flatnonzero((count >= low) & (count <= high)), np.arange(labels.shape[1]))
        for name, (low, high) in LABEL_COUNTS.items()
    ]
    for name, members in groups.items():
        columns = np.array([list(class_names).index(member) for member in members])
        result.append(Stratum(f"group: {name}", np.flatnonzero(labels[:, columns].any(1)), columns))
    return [stratum for stratum in result if len(stratum.patches)]


def confusable_pairs(
    labels: Labels, class_names: Sequence[str], groups: Groups, least: int = LEAST_POSITIVES
) -> dict[tuple[str, str, str], Stratum]:
    """Return which class it is, given its confounder: (group, class a, class b) -> patches that carry b.

    Each scores a alone. Pairs of a group with fewer than ``least`` carriers of b with a, or without a, are
    left out.
    """
    pairs = {}
    column = {name: i for i, name in enumerate(class_names)}
    for group, members in groups.items():
        for of, among in permutations(members, 2):
            patches = np.flatnonzero(labels[:, column[among]])
            positives = int(labels[patches, column[of]].sum())
            if least <= min(positives, len(patches) - positives):
                name = f"{of} among {among}"
                pairs[group, of, among] = Stratum(name, patches, np.array([column[of]]))
    return pairs


def pointwise_mutual_information(labels: Labels) -> NDArray[np.float64]:
    """Return log P(a, b) / (P(a) P(b)) of all pairs of classes (C, C), in nats, counts smoothed by one half.

    It is above 0 where two classes occur together more often than by chance.
    """
    y = labels.astype(np.float64)
    share = (y.sum(0) + 0.5) / (len(y) + 1)
    together = (y.T @ y + 0.5) / (len(y) + 1)
    return np.log(together / np.outer(share, share))


def similar_groups(
    similarity: NDArray[np.float64], class_names: Sequence[str], groups: int = 5
) -> list[tuple[str, ...]]:
    """Derive groups of classes from a similarity, by complete linkage: all pairs of a group are alike.

    The ``similarity`` (C, C) is symmetric: mutual information, or minus a distance. At most ``groups``
    clusters are formed; those of a single class are left out.
    """
    distance = similarity.max() - (similarity + similarity.T) / 2
    np.fill_diagonal(distance, 0.0)
    cluster = fcluster(linkage(squareform(distance, checks=False), "complete"), groups, "maxclust")
    members = pd.Series(list(class_names)).groupby(cluster, sort=False).agg(tuple)
    return [names for names in members if len(names) > 1]
