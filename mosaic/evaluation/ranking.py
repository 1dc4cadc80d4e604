"""Which methods can be told apart: mean ranks, and groups without a difference between any two.

After the critical-difference diagram of Demsar 2006, "Statistical comparisons of classifiers over multiple
data sets" (JMLR 7). There the data sets are the sample; here each has a sample of its own, scenes and seeds,
so ranks and differences come from their resamples instead of a table of quantiles.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm, rankdata

from mosaic.evaluation.bootstrap import holm

Drawn = NDArray[np.float64]


@dataclass(frozen=True)
class Ranking:
    """Methods in order, the best first.

    Attributes:
        order: positions of the methods as they were given (M,).
        rank: mean rank of each, in that order (M,), 1 the best.
        low: 2.5 % quantile over resamples (M,).
        high: 97.5 % quantile (M,).
        groups: (first, last) places in that order, inclusive, of methods between no two of which a difference
            is significant; groups within others are left out.
    """

    order: NDArray[np.int64]
    rank: Drawn
    low: Drawn
    high: Drawn
    groups: list[tuple[int, int]]


def rank_methods(values: Sequence[Drawn], drawn: Sequence[Drawn], level: float = 0.05) -> Ranking:
    """Rank methods over several problems.

    A difference is that of the scores, averaged over problems; its standard error is that over resamples, and
    it is significant at ``level`` by a two-sided z-test after Holm's correction for the number of pairs.

    Args:
        values: for each problem the scores of the methods (M,), higher is better.
        drawn: for each problem the same under resamples (M, R), paired between methods.
        level: chance of any false difference.
    """
    ranks = np.mean([rankdata(-one, axis=0) for one in values], axis=0)
    under = np.mean([rankdata(-one, axis=0) for one in drawn], axis=0)
    low, high = np.quantile(under, [0.025, 0.975], axis=1)
    order = np.argsort(ranks, kind="stable")
    methods = len(order)
    score, spread = np.mean(values, axis=0)[order], np.mean(drawn, axis=0)[order]
    first, second = np.triu_indices(methods, 1)
    error = (spread[first] - spread[second]).std(1, ddof=1)
    z = np.abs(score[first] - score[second]) / np.maximum(error, 1e-12)
    apart = np.zeros((methods, methods), bool)
    apart[first, second] = holm(2 * norm.sf(z)) < level
    return Ranking(order, ranks[order], low[order], high[order], _groups(apart))


def _groups(apart: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the longest runs of places without a significant pair; single places are none."""
    found: list[tuple[int, int]] = []
    for first in range(len(apart)):
        last = first
        while last + 1 < len(apart) and not apart[first : last + 2, first : last + 2].any():
            last += 1
        if last > first and not any(a <= first and last <= b for a, b in found):
            found.append((first, last))
    return found
