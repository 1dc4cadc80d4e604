"""Logs and costs of the encoders that were trained."""

from pathlib import Path

import pandas as pd

from mosaic.methods import get_method
from mosaic.models.checkpoint import CARD
from mosaic.utils.files import read_json
from mosaic.utils.words import count

_COLLAPSED = 2.0  # effective rank
_FLAT = 0.01  # change of macro average precision over the last third of the steps
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


def validation_scores(encoders: pd.DataFrame) -> pd.DataFrame:
    """Return the kNN score of each check on validation while training: method, seed, step, knn.

    Of methods with all seeds, by encoders that saw every label or none, so that all have the same neighbours
    and patches; those that are not trained have one check, at step 0.
    """
    logs = training_logs(encoders[encoders["budget"].isin([0, 100])]).dropna(subset=["knn"])
    seeds = logs.groupby("method")["seed"].transform("nunique")
    return logs.loc[seeds == seeds.max(), ["method", "seed", "step", "knn"]]


def length_answer(scores: pd.DataFrame) -> str:
    """Return in a sentence whose scores, means over seeds, have flattened at the end and whose have not.

    Flat is a change of less than 0.01 from the last check within two thirds of the steps to the end.
    """
    table = scores[_is_trained(scores)].pivot_table(index="step", columns="method", values="knn")
    if table.empty:
        return "no training was scored on validation."
    start, end = table.index[table.index <= 2 / 3 * table.index[-1]][-1], table.index[-1]
    change = (table.loc[end] - table.loc[start]).sort_values(ascending=False)
    groups = {
        "still rising": change[change >= _FLAT],
        "flattened": change[change.abs() < _FLAT],
        "falling": change[change <= -_FLAT],
    }
    parts = [
        f"{words}: "
        + ", ".join(f"{get_method(str(name)).title} ({value:+.3f})" for name, value in group.items())
        for words, group in groups.items()
        if len(group)
    ]
    text = f"from step {start} to {end}, where a change below {_FLAT} counts as flat, {'; '.join(parts)}."
    flat = len(groups["flattened"]) == len(change)
    # the learning rate ends at zero, which flattens the curve of any length
    outlook = "Flat for this length of schedule; a longer one" if flat else "Longer training"
    return f"{text.replace('(-', '(−')} {outlook} could change the order."


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
    return frame["method"].map(lambda name: get_method(name).trained).astype(bool)


def training_answer(encoders: pd.DataFrame, logs: pd.DataFrame, steps: int) -> str:
    """Return in a sentence what was trained and what collapsed, by the last check of each trained encoder."""
    trained, checks = encoders[_is_trained(encoders)], logs[_is_trained(logs)].sort_values("step")
    if trained.empty:
        return "No method of this run is trained."
    numbers = [count(trained[name].nunique(), name) for name in ("method", "seed")]
    text = f"{count(len(trained), 'encoder')} of {' and '.join(numbers)} trained for {count(steps, 'step')}"
    last = checks.dropna(subset=["effective_rank"]).groupby(["method", "seed", "budget"]).tail(1)
    if last.empty:
        return f"{text}; none was checked for collapse."
    collapsed = last.loc[last["effective_rank"] <= _COLLAPSED, "method"].unique()
    names = ", ".join(get_method(name).title for name in collapsed)
    least = f"least effective rank {last['effective_rank'].min():.0f}"
    text = f"{text}; {f'{names} collapsed' if names else 'none collapsed'}: {least}."
    ranks = last.loc[last["method"] == "mosaic", "effective_rank"]
    if ranks.empty:
        return text
    ends = " to ".join(dict.fromkeys(f"{rank:.0f}" for rank in (ranks.min(), ranks.max())))
    whether = "collapsed" if ranks.min() <= _COLLAPSED else "does not collapse"
    return f"MoSAiC {whether}: effective rank {ends} ({count(len(ranks), 'encoder')}). {text}"
