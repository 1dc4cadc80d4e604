"""One encoder from packed data, for the command line: what ``torchrun`` and ``srun`` start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mosaic.settings import TrialSettings, fields, validated
from mosaic.store.label_budgets import label_budgets
from mosaic.store.reader import PackedStore
from mosaic.training.pretrain import pretrain


def train_one(
    packed: Path, folder: Path, method: str, fraction: float, parameters: Mapping[str, Any]
) -> Path:
    """Train one encoder.

    Args:
        packed: folder of packed data.
        folder: where the encoder goes.
        method: a row of the table of methods.
        fraction: percentage of the training labels that a method may use which uses any.
        parameters: of :class:`mosaic.settings.TrialSettings`, by name.

    Returns:
        ``folder``.

    Raises:
        SettingsError: for a parameter of unknown name, wrong type or impossible value.
    """
    known = [name for name in fields(TrialSettings) if name != "method"]
    trial = validated(TrialSettings, "train", parameters, known).replace(method=method)
    store = PackedStore(packed)
    rows = np.empty(0, dtype=np.int64)
    if trial.weighted_method().uses_labels:
        rows = label_budgets(store.labels, store.split_rows("train"), [fraction], trial.seed)[fraction]
    return pretrain(store, trial, rows, folder)
