"""Arrays that trials leave, and the table of predictions, one row a set of them. Loads no PyTorch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mosaic.methods import get_method
from mosaic.utils.cached import read_if_sound
from mosaic.utils.errors import RunError
from mosaic.utils.files import atomic_path

T = TypeVar("T")

#: Columns that name one set of predictions; seeds are averaged over.
KEYS = ["method", "label_budget", "fraction", "evaluation", "input"]


def save_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> Path:
    """Write arrays by name to an ``.npz``, compressed and atomically; returns its path."""
    with atomic_path(path) as partial:
        np.savez_compressed(partial, **arrays)  # type: ignore[arg-type]  # its stub knows no keyword arrays
    return path


def read_arrays(path: Path | str, prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return the arrays of an ``.npz`` whose names start with ``prefix``, by the rest of the name.

    ``RunError`` when it is damaged, and now set aside, or has gone: the same run makes it again.
    """
    return _read(path, lambda npz: {n[len(prefix) :]: npz[n] for n in npz.files if n.startswith(prefix)})


def sets_of_predictions(path: Path | str) -> list[tuple[str, str, str, str]]:
    """Return label fraction, evaluation, input and split of each array in an ``.npz``; none of them is read.

    ``RunError`` as of :func:`read_arrays`.
    """
    return _read(path, lambda npz: [(f, e, i, s) for f, e, i, s in (n.split("|") for n in npz.files)])


def _read(path: Path | str, read: Callable[[Any], T]) -> T:
    def opened(path: Path) -> T:
        with np.load(path, allow_pickle=False) as file:
            return read(file)

    if (found := read_if_sound(Path(path), opened)) is None:
        raise RunError(f"{path} was damaged or removed: run the notebook that makes it again")
    return found


def load(predictions: pd.Series, split: str = "test") -> NDArray[np.float32]:
    """Load one set of predictions (N, C), rows as in the store's split."""
    return read_arrays(predictions["path"], f"{predictions['key']}|{split}")[""]


def main_input(method: str) -> str:
    """Return the input a method is compared on: both sensors where it takes both."""
    inputs = get_method(method).inputs
    return "fused" if "fused" in inputs else inputs[0]


def prediction_keys(predictions: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what a cache key needs of a table of predictions: file names, not where the files lie."""
    names = predictions["path"].map(lambda path: Path(path).name)
    return predictions.assign(path=names).to_dict("records")  # type: ignore[return-value]  # str columns
