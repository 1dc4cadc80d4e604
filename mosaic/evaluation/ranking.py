"""Mean ranks of methods, and groups of methods without a significant difference between any two.

After the critical-difference diagram of Demsar 2006, "Statistical comparisons of classifiers over multiple
data sets" (JMLR 7). There the data sets are the sample; here each problem is itself resampled by scene and
seed, so ranks and differences come from those resamples instead of a table of quantiles.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from mosaic.evaluation.bootstrap import holm

Array = NDArray[np.float64]
#: (first, last) row of a ranking, inclusive.
Groups = list[tuple[int, int]]


def rank_methods(
    methods: Sequence[str], values: Sequence[Array], draws: Sequence[Array], level: float = 0.05
) -> tuple[pd.DataFrame, Groups]:
    """Rank methods over several problems.

    A difference is that of the scores, averaged over problems; its standard error is that over resamples, and
    it is significant at ``level`` by a two-sided z-test after Holm's correction for the number of pairs.

    Args:
        methods: M names.
        values: scores of the methods (M,) for each problem, higher is better.
        draws: the same under resamples (M, R), paired between methods.
        level: chance of any false difference.

    Returns:
        One row a method, the best first: method, mean rank (1 the best) with its 95 % interval low and high;
        and groups of rows without a significant difference between any two, but those within others.
    """
    rank = np.mean([rankdata(-scores, axis=0) for scores in values], axis=0)
    rank_draws = np.mean([rankdata(-scores, axis=0) for scores in draws], axis=0)
    low, high = np.quantile(rank_draws, [0.025, 0.975], axis=1)
    order = np.argsort(rank, kind="stable")
    mean, mean_draws = np.mean(values, axis=0)[order], np.mean(draws, axis=0)[order]
    first, second = np.triu_indices(len(order), 1)
    error = (mean_draws[first] - mean_draws[second]).std(1, ddof=1)
    z = np.abs(mean[first] - mean[second]) / np.maximum(error, 1e-12)
    different = np.zeros((len(order), len(order)), bool)
    different[first, second] = holm(2 * norm.sf(z)) < level
    table = pd.DataFrame({"method": list(methods), "rank": rank, "low": low, "high": high})
    return table.iloc[order].reset_index(drop=True), _groups(different)


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
