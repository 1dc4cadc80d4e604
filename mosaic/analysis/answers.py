"""The sentence that heads a page and feeds the index: what the notebook found out about MoSAiC.

Each holds the number asked for, its interval, and the sample behind it. Fewer scenes or seeds than a claim
needs decide nothing, which the sentence says instead of a verdict.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from mosaic.analysis.tables import titled
from mosaic.evaluation.claims import VERDICTS, too_few
from mosaic.evaluation.uncertainty import Interval
from mosaic.methods import get_method
from mosaic.store.reader import PackedStore
from mosaic.utils.words import count

MOSAIC = "mosaic"
_ABSENT = "MoSAiC has no result here, so there is no answer."


def span(row: Mapping[Any, Any], value: str = "value", sign: str = "") -> str:
    """Return a value with its 95 % interval, if it has one; ``sign`` is ``"+"`` for differences."""
    numbers = [f"{row[name]:{sign}.3f}".replace("-", "\N{MINUS SIGN}") for name in (value, "low", "high")]
    return f"{numbers[0]} [{numbers[1]}, {numbers[2]}]" if np.isfinite(row["low"]) else numbers[0]


def sample(scenes: int, patches: int, seeds: int) -> str:
    """Return the sizes of a sample in words."""
    return ", ".join((count(scenes, "test scene"), count(patches, "patch"), count(seeds, "seed")))


def sample_of(stores: Iterable[PackedStore]) -> tuple[int, int]:
    """Return the numbers of scenes and patches in the test splits of archives."""
    scenes = [store.scenes[store.split_rows("test")] for store in stores]
    return sum(len(np.unique(each)) for each in scenes), sum(map(len, scenes))


def compared_answer(
    scores: pd.DataFrame, difference: Callable[[str], Interval], measure: str, patches: int
) -> str:
    """Return how MoSAiC scores, and its difference to the other method, of as many seeds, best on validation.

    ``scores`` has a row a method, means over seeds: method, value, low, high, n_seeds and score on
    validation. ``difference`` gives MoSAiC less a method, paired; ``measure`` says what the score is.
    """
    scores = scores.dropna(subset=["value"]).set_index("method")
    if MOSAIC not in scores.index:
        return _ABSENT
    own, others = scores.loc[MOSAIC].to_dict(), scores.drop(MOSAIC)
    others, seeds = others[others["n_seeds"] >= own["n_seeds"]], int(own["n_seeds"])
    text = f"MoSAiC has {measure} {span(own)}"
    if others.empty:
        return f"{text} ({count(patches, 'test patch')}, {count(seeds, 'seed')}); it had no opponent."
    best = str(others["validation"].fillna(-1).idxmax())
    less = difference(best)
    title, doubt = get_method(best).title, _doubt(less.n_scenes, less.n_seeds)
    verdict = "ahead of" if less.low > 0 else "behind" if less.high < 0 else "not told apart from"
    rest = "the only other method" if len(others) == 1 else f"the best of {len(others)} others on validation"
    how = "; difference to" if doubt else f", {verdict}"
    text += f"{how} {title}, {rest}: {span(asdict(less), sign='+')}"
    return f"{text} ({sample(less.n_scenes, patches, less.n_seeds)}).{doubt}"


def _doubt(scenes: int, seeds: int) -> str:
    why = too_few(scenes, seeds)
    return f" {why[0].upper()}{why[1:]}." if why else ""


def transfer_answer(changes: pd.DataFrame) -> str:
    """Return what moving costs MoSAiC, from ``transfer_tables.changes_table``."""
    if changes.empty:
        return "Nothing was transferred in this run."
    parts, doubts = [], dict[str, None]()
    for row in changes[changes["method"] == MOSAIC].to_dict("records"):
        n = sample(row["n_scenes"], row["n"], row["n_seeds"])
        parts.append(f"{row['where']} by {span(row, sign='+')} ({n})")
        doubts[_doubt(row["n_scenes"], row["n_seeds"])] = None
    return f"MoSAiC's macro AP changes {'; '.join(parts)}.{''.join(doubts)}" if parts else _ABSENT


def ranking_answer(ranks: pd.DataFrame, problems: int, scenes: int, patches: int, seeds: int) -> str:
    """Return MoSAiC's rank over a number of problems, and how many methods differ from it significantly."""
    if MOSAIC not in set(ranks["method"]):
        return _ABSENT
    if len(ranks) == 1:
        return "MoSAiC is the only method with all seeds, so there is nothing to rank."
    others = titled(ranks)[ranks["method"] != MOSAIC]
    row = ranks[ranks["method"] == MOSAIC].iloc[0]
    text = f"MoSAiC has rank {row['rank']:g} of {count(len(ranks), 'method')} over "
    text += f"{count(problems, 'problem')} (archive and share of labels)"
    if first := " and ".join(others.loc[others["rank"] == 1, "method"]):
        text += f"; {first} is first"
    doubt = _doubt(scenes, seeds)
    if pd.notna(row["low"]) and not doubt:
        better, worse = int(row["low"]) - 1, len(ranks) - int(row["high"])
        alike = len(others) - better - worse
        text += f"; of the others significantly better: {better}, worse: {worse}, neither: {alike}"
    return f"{text} ({sample(scenes, patches, seeds)}).{doubt}"


def claims_answer(claims: pd.DataFrame) -> str:
    """Return how many claims ended with which verdict, the clearest of them, and why others have none."""
    tested, untested = (claims[(claims["verdict"] != "not tested") == known] for known in (True, False))
    counts, why = tested["verdict"].value_counts(), Counter(untested["reason"])
    shares = ", ".join(
        [f"{counts[verdict]} {verdict}" for verdict in VERDICTS if verdict in counts]
        + [f"{number} not tested ({reason})" for reason, number in why.items()]
    )
    text = f"Of {count(len(claims), 'claim')} about MoSAiC: "
    if tested.empty:
        return f"{text}{shares}."
    if untrained := int(tested["reason"].str.startswith("too little training").sum()):
        some = "" if untrained == counts["undecided"] else f"{untrained} "
        shares = shares.replace(" undecided", f" undecided ({some}for too little training)")
    decided = tested["verdict"] != "undecided"
    rows = tested[decided] if decided.any() else tested
    distance = rows["low"].clip(lower=-rows["high"]).fillna(-np.inf)  # of the interval from zero
    clearest = rows.to_dict("records")[int(distance.argmax())]
    scenes, seeds = int(clearest["n_scenes"]), int(clearest["n_seeds"])
    where = f" on {clearest['dataset']}" if claims["dataset"].nunique() > 1 else ""
    example = f"{clearest['statement']}{where}: {span(clearest, 'effect', '+')}"
    size = f"{count(scenes, 'test scene')}, {count(seeds, 'seed')}"
    return f"{text}{shares}. Clearest: {example} ({size}).{_doubt(scenes, seeds)}"
