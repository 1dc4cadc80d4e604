"""Logs and costs of the encoders that were trained."""

from pathlib import Path

import pandas as pd

from mosaic.methods import get_method
from mosaic.models.checkpoint import CARD
from mosaic.utils.files import read_json
from mosaic.utils.words import count

_COLLAPSED = 2.0  # effective rank
_MONITORED = ["embedding_std", "effective_rank", "alignment", "uniformity", "knn"]
_LOG = ["step", "method", "seed", "budget", *_MONITORED]


def training_logs(encoders: pd.DataFrame) -> pd.DataFrame:
    """Return the logs of all trained encoders, one row a logged step, with method, seed and budget."""
    logs = [
        pd.read_csv(path).assign(**encoder[["method", "seed", "budget"]])
        for _, encoder in encoders.iterrows()
        if (path := Path(encoder["folder"]) / "log.csv").exists()
    ]
    return pd.concat(logs, ignore_index=True) if logs else pd.DataFrame(columns=_LOG)


def training_costs(encoders: pd.DataFrame) -> pd.DataFrame:
    """Return what each encoder cost, from its card: timing, parameters and steps; 0 of one not trained."""
    cards = [read_json(Path(folder) / CARD) for folder in encoders["folder"]]
    costs = pd.DataFrame(
        {
            **card["timing"],
            "parameters": card["parameters"]["encoder"],
            "trained": card["parameters"]["trained"],
            "steps": card["settings"]["steps"],
        }
        for card in cards
    )
    costs = encoders[["method", "seed", "budget"]].reset_index(drop=True).join(costs)
    costs.loc[~_is_trained(costs), ["seconds", "trained", "steps"]] = 0
    return costs


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
