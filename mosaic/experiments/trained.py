"""Encoders of a finished run, with the classifier that was fitted to them. What ``mosaic.load`` is."""

from typing import Any

import torch
from torch import nn

from mosaic.experiments.predictions import main_input, read_arrays
from mosaic.experiments.study import Study, reports_folder
from mosaic.models.checkpoint import load_encoder
from mosaic.models.loaded import LoadedEncoder
from mosaic.settings import StudySettings
from mosaic.utils.errors import RunError


def load(run: str, method: str, seed: int = 0, budget: float | None = None) -> LoadedEncoder:
    """Load an encoder of a run that has come as far as ``03_finetune_low_label``.

    It predicts by the classifier it was trained with, where it is fully supervised, otherwise by the linear
    probe. ``run`` is a folder of ``reports/``, ``budget`` the percentage of the training labels that encoder
    and classifier saw, by default the largest. RunError when there is none; it says what there is.

    Example:
        >>> encoder = mosaic.load("demo", "mosaic")
        >>> encoder.predict(s2=s2_in_dn)["Pastures"] >= encoder.thresholds["Pastures"]
    """
    runs = sorted(path.parent.name for path in reports_folder("").glob("*/predictions.parquet"))
    _require("run with predictions", run, runs)
    notebook = "03_finetune_low_label"
    study = Study(notebook, StudySettings(), reports_folder(run)).earlier(notebook)  # loads plugins
    rows = study.read("predictions")
    for column, value in {"method": method, "seed": seed, "fraction": budget}.items():
        known = sorted(rows[column].unique())
        value = known[-1] if value is None else value
        _require(f"{column.replace('fraction', 'budget')} of these in run {run!r}", value, known)
        rows = rows[rows[column] == value]
    # an encoder that saw these labels, rather than one that saw all
    label_budget = next(name for name in ("shared", "none", "full") if name in set(rows["label_budget"]))
    row = rows[rows["label_budget"] == label_budget].iloc[0]
    seen = {"shared": row["fraction"], "none": 0.0, "full": 100.0}[label_budget]
    trial = f"method == {method!r} and seed == {seed} and budget == {seen}"
    encoder = load_encoder(study.read("encoders").query(trial)["folder"].item())
    kept = read_arrays(row["path"], f"{row['fraction']:g}|kept|{main_input(method)}|")
    encoder.mean = torch.from_numpy(kept["mean"])
    if "probe" in kept:
        probe = torch.from_numpy(kept["probe"].T)
        encoder.classifier = layer = nn.Linear(len(encoder.mean), len(probe)).requires_grad_(False)
        layer.weight.copy_(probe[:, :-1])
        layer.bias.copy_(probe[:, -1])
    if "thresholds" in kept:
        encoder.thresholds = dict(zip(encoder.thresholds, kept["thresholds"].tolist(), strict=True))
    return encoder


def _require(what: str, wanted: Any, known: list[Any]) -> None:
    if wanted not in known:
        raise RunError(f"no {what} is {wanted!r}: there is {', '.join(map(str, known)) or 'none yet'}")
