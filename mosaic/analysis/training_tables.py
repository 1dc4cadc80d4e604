"""Tables of the encoders that were trained: methods, hyperparameters, logs and costs."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mosaic.analysis.tables import titled
from mosaic.experiments.tuning import in_words
from mosaic.methods import get_method
from mosaic.models.checkpoint import CARD
from mosaic.utils.files import read_json
from mosaic.utils.words import count

_COLLAPSED = 2.0  # effective rank
_LOG = [
    "step",
    "method",
    "seed",
    "budget",
    "embedding_std",
    "effective_rank",
    "alignment",
    "uniformity",
    "knn",
]


def methods_table(methods: Sequence[str]) -> pd.DataFrame:
    """Return the rows of the table of methods that a run uses: title, family, inputs and term weights."""
    terms = ("intra", "inter", "label", "classify")
    return pd.DataFrame(
        {"method": method.title, "family": method.family, "encoders": ", ".join(method.streams)}
        | {term: f"{getattr(method, term):g}" for term in terms}
        for method in map(get_method, methods)
    )


def tuning_table(tuned: pd.DataFrame) -> pd.DataFrame:
    """Return a row a method: its candidates, what was chosen, its gain, and the cost."""
    methods = tuned.groupby("method", sort=False)
    best = tuned[tuned["chosen"]].set_index("method")
    plain = tuned[tuned["candidate"] == in_words({})].groupby("method")["validation_ap"].mean()
    table = pd.DataFrame(
        {
            "candidates": methods["candidate"].agg("; ".join),
            "chosen": best["candidate"],
            "macro AP, validation": best["validation_ap"],
            "gain over the run's setting": best["validation_ap"] - plain,
            "seconds": methods["seconds"].sum(),
        }
    )
    return titled(table.loc[tuned["method"].unique()].rename_axis("method").reset_index())


def training_logs(encoders: pd.DataFrame) -> pd.DataFrame:
    """Return the logs of all trained encoders, one row a logged step, with method, seed and budget."""
    logs = [
        pd.read_csv(path).assign(**encoder[["method", "seed", "budget"]])
        for _, encoder in encoders.iterrows()
        if (path := Path(encoder["folder"]) / "log.csv").exists()
    ]
    return pd.concat(logs, ignore_index=True) if logs else pd.DataFrame(columns=_LOG)


def training_costs(encoders: pd.DataFrame) -> pd.DataFrame:
    """Return what each encoder cost: timing of its card (seconds, 0 of one not trained, memory, device)."""
    cards = [read_json(Path(folder) / CARD) for folder in encoders["folder"]]
    timing: list[Mapping[str, object]] = [card.get("timing", {}) for card in cards]
    costs = pd.concat([encoders[["method", "seed", "budget"]], pd.DataFrame(timing)], axis=1)
    return costs.assign(seconds=costs["seconds"].where(_is_trained(costs), 0.0))


def _is_trained(frame: pd.DataFrame) -> pd.Series:
    return frame["method"].map(lambda name: get_method(name).trained)


def training_answer(encoders: pd.DataFrame, last: pd.DataFrame, steps: int) -> str:
    """Return in a sentence what was trained and what collapsed, by the last check of each encoder."""
    trained = encoders[_is_trained(encoders)]
    if trained.empty:
        return "No method of this run is trained."
    numbers = [count(trained[name].nunique(), name) for name in ("method", "seed")]
    text = f"{count(len(trained), 'encoder')} of {' and '.join(numbers)} trained for {count(steps, 'step')}"
    least = last["effective_rank"].min()
    if pd.isna(least):
        return f"{text}; none was checked for collapse."
    collapsed = last.loc[last["effective_rank"] <= _COLLAPSED, "method"].unique()
    names = ", ".join(get_method(name).title for name in collapsed)
    text = f"{text}; {f'{names} collapsed' if names else 'none collapsed'}: least effective rank {least:.0f}."
    ranks = last.loc[last["method"] == "mosaic", "effective_rank"].dropna()
    if ranks.empty:
        return text
    ends = " to ".join(dict.fromkeys(f"{rank:.0f}" for rank in (ranks.min(), ranks.max())))
    whether = "collapsed" if ranks.min() <= _COLLAPSED else "does not collapse"
    return f"MoSAiC {whether}: effective rank {ends} ({count(len(ranks), 'encoder')}). {text}"
