"""One encoder from packed data, for the command line: what ``torchrun`` and ``srun`` start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
from pydantic import create_model

from mosaic.methods import get_method
from mosaic.settings import PretrainSettings, validated
from mosaic.store.label_budgets import label_budgets
from mosaic.store.reader import PackedStore
from mosaic.training.pretrain import PretrainConfig, pretrain


def train_one(
    packed: Path, folder: Path, method: str, fraction: float, parameters: Mapping[str, Any]
) -> Path:
    """Train one encoder.

    Args:
        packed: folder of packed data.
        folder: where the encoder goes.
        method: a row of the table of methods.
        fraction: percentage of the training labels that a method may use which uses any.
        parameters: of :class:`PretrainConfig`, by name.

    Returns:
        ``folder``.

    Raises:
        SettingsError: for a parameter of unknown name, wrong type or impossible value.
    """
    config = config_from(method, parameters)
    store = PackedStore(packed)
    rows = np.empty(0, dtype=np.int64)
    if config.weighted_method().uses_labels:
        rows = label_budgets(store.labels, store.split_rows("train"), [fraction], config.seed)[fraction]
    return pretrain(store, config, rows, folder)


def config_from(method: str, parameters: Mapping[str, Any]) -> PretrainConfig:
    """Return the configuration with some parameters changed; types are checked, and ranges as in a study.

    Raises:
        SettingsError: for an unknown method, or a parameter of unknown name, wrong type or impossible value.
    """
    types, studied = get_type_hints(PretrainConfig), PretrainSettings.model_fields
    known: dict[str, Any] = {
        name: (studied[name].annotation, studied[name]) if name in studied else (types[name], default)
        for name, default in vars(PretrainConfig(method)).items()
        if name != "method"
    }
    kind = create_model("Parameters", __config__=PretrainSettings.model_config, **known)
    settings = validated(kind, "train", parameters)
    return PretrainConfig(get_method(method).name, **settings.model_dump(exclude_unset=True))
