"""Predictions of known quality on disk, as the study keeps them, and rows of tidy results."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.settings import StudySettings


@pytest.fixture
def predict(tmp_path):
    """Write predictions, the truth with a share of noise; returns their rows of the table of predictions."""
    count = 0

    def write(
        method, truth, noise, seeds, evaluation="linear", source="fused", fraction=100.0, budget="none"
    ):
        nonlocal count
        rows, key = [], f"{evaluation}|{source}|{fraction:g}"
        for seed in seeds:
            count += 1
            path = tmp_path / f"{count}.npz"
            random = np.random.default_rng([7, seed])  # not the numbers the labels are drawn from
            arrays = {split: y + noise[split] * (random.random(y.shape) - y) for split, y in truth.items()}
            np.savez(path, **{f"{key}|{split}": values.astype("f4") for split, values in arrays.items()})
            names = {"method": method, "label_budget": budget, "fraction": fraction}
            names |= {"evaluation": evaluation, "input": source, "seed": seed}
            rows.append({**names, "path": str(path), "key": key})
        return rows

    return write


@pytest.fixture
def run_of():
    """Make a run as the claims see it."""

    def make(store, predictions, embeddings, lost=()):
        tables = {"archive": {"title": "Archive"}, "predictions": predictions, "embeddings": embeddings}
        trials = pd.DataFrame({"trial": [f"{name} seed 0" for name in lost]})
        before = SimpleNamespace(settings=StudySettings(), failed_trials=lambda: trials)
        return SimpleNamespace(read=tables.get, store=lambda: store, earlier=lambda notebook: before)

    return make


@pytest.fixture
def study():
    """A study in one process, which keeps nothing."""
    settings = StudySettings(jobs=1)
    return SimpleNamespace(settings=settings, cached=lambda name, key, compute: compute())


@pytest.fixture
def result():
    """Make a row of tidy results."""

    def make(method, value=0.5, **more):
        row = {"method": method, "label_budget": "none", "fraction": 100.0, "evaluation": "linear"}
        row |= {"input": "fused", "stratum": "all", "metric": "ap_macro", "seed": -1, "value": value}
        return {**row, "low": value - 0.1, "high": value + 0.1, "n_seeds": 3, **more}

    return make
