"""Ranks of methods, and groups of methods without a significant difference between any two.

Groups are those of the critical-difference diagram of Demsar 2006, "Statistical comparisons of classifiers
over multiple data sets" (JMLR 7); intervals are the ranks that the same pairwise tests leave open (Mogstad et
al. 2024, "Inference for ranks", Review of Economic Studies 91).
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from mosaic.evaluation.uncertainty import Estimate, error_and_df, p_value

#: (first, last) row of a ranking, inclusive.
Groups = list[tuple[int, int]]


def rank_methods(
    methods: Sequence[str], archives: Sequence[Sequence[Estimate]], level: float = 0.05
) -> tuple[pd.DataFrame, Groups]:
    """Rank methods by their scores, averaged over archives; each archive has a score a method.

    Each pair is tested by its paired difference, variances of several archives added, at ``level`` after
    Bonferroni's correction for the number of pairs.

    Returns:
        One row a method, the best first: method, value, rank (1 the best), and the best and worst rank, low
        and high, that significant differences leave open; and the groups of rows. Without a second seed, or
        with too few scenes, low and high are NaN, and there are no groups.
    """
    value = np.mean([[each.value for each in scores] for scores in archives], axis=0)
    table = pd.DataFrame({"method": list(methods), "value": value, "rank": rankdata(-value)})
    order = np.argsort(table["rank"].to_numpy(), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    first, second = np.triu_indices(len(order), 1)
    p = np.array([_p_value(archives, order[i], order[j]) for i, j in zip(first, second, strict=True)])
    if not len(p) or np.isnan(p).any():
        return table.assign(low=np.nan, high=np.nan), []
    worse = np.zeros((len(order), len(order)), bool)  # than the method of the row, significantly
    worse[first, second] = p * len(p) < level
    return table.assign(low=1 + worse.sum(0), high=len(order) - worse.sum(1)), _groups(worse)


def _p_value(archives: Sequence[Sequence[Estimate]], i: int, j: int) -> float:
    """Return the p-value of the difference between two methods; NaN where it cannot be told."""
    differences = [scores[i] - scores[j] for scores in archives]
    variances = np.array([each.variances for each in differences]) / len(archives) ** 2
    sizes = np.array([(len(each.without), len(each.values)) for each in differences])
    if sizes.min() < 2:
        return np.nan
    mean = float(np.mean([each.value for each in differences]))
    return p_value(mean, *error_and_df(variances.ravel(), sizes.ravel()))


def _groups(different: NDArray[np.bool_]) -> Groups:
    """Return the longest runs of two or more positions without a significant pair."""
    groups: Groups = []
    for first in range(len(different)):
        last = first
        while last + 1 < len(different) and not different[first : last + 2, first : last + 2].any():
            last += 1
        if last > first and all(last > end for _, end in groups):
            groups.append((first, last))
    return groups
