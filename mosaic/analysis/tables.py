"""What the tables of all notebooks share: methods by title and in order, intervals in one cell."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from mosaic.methods import METHODS, get_method

EVALUATIONS = {
    "knn": "k nearest neighbours",
    "linear": "linear probe",
    "finetune": "fine-tuning",
    "end_to_end": "end to end",
    "trees": "trees",
}


def input_title(name: str) -> str:
    """Return the title of an input, such as ``"s1"``, ``"fused"`` or ``"fused_without_s1"``."""
    if name == "fused":
        return "all sensors"
    missing = name.removeprefix("fused_without_")
    return missing.upper() if missing == name else f"without {missing.upper()}"


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Sort rows as the table of methods does; rows that tie stay in their order."""
    position = list(METHODS).index
    return frame.sort_values("method", key=lambda m: m.map(position), kind="stable", ignore_index=True)


def titled(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with methods by their titles."""
    return frame.assign(method=[get_method(str(name)).title for name in frame["method"]])


def intervals(frame: pd.DataFrame, value: str = "value") -> pd.Series:
    """Return (value, low, high) of each row, which ``report.display.table`` shows as one number."""
    cells: list[Any] = list(zip(frame[value], frame["low"], frame["high"], strict=True))
    return pd.Series(cells, index=frame.index, dtype=object)


def readable(frame: pd.DataFrame, titles: Mapping[str, str], value: str = "value") -> pd.DataFrame:
    """Return columns under the titles of a report: methods by title, ``value`` with its interval."""
    named = titled(frame) if "method" in titles else frame
    named = named.assign(**{value: intervals(frame, value)})
    return named[list(titles)].rename(columns=dict(titles)).reset_index(drop=True)


def interval_table(
    frame: pd.DataFrame, rows: Sequence[str], column: str, order: Sequence[Any] = ()
) -> pd.DataFrame:
    """Return (value, low, high) by method: a row a combination of ``rows``, a column a value of ``column``.

    Methods stand in the order of their table, by title; columns in ``order``, or ascending, numbers as
    percentages. Gaps are NaN.
    """
    frame = in_order(frame)
    wide = frame.assign(cell=intervals(frame)).pivot(index=list(rows), columns=column, values="cell")
    wide = wide.reindex(columns=list(order) or sorted(wide.columns))
    wide = wide.rename(columns=lambda name: name if isinstance(name, str) else f"{name:g} %")
    table = frame[list(rows)].drop_duplicates().join(wide, on=list(rows)).reset_index(drop=True)
    return titled(table) if "method" in rows else table
