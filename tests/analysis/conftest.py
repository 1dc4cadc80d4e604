"""Packed data, and what a finished run leaves: predictions of known quality, rows of tidy results."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.settings import StudySettings
from mosaic.store.writer import pack


@pytest.fixture(scope="session")
def store(fake_archive, tmp_path_factory):
    """360 training, 120 validation and 120 test patches, the latter of 60 scenes in two countries."""
    folder = tmp_path_factory.mktemp("analysis")
    archive = fake_archive(folder / "source", patches=600)
    archive.index["country"] = np.where(archive.index.index // 10 % 2, "Austria", "Finland")
    return pack(archive, folder / "packed", workers=1)


@pytest.fixture
def truth(store):
    """Labels and scenes of the test split."""
    rows = store.split_rows("test")
    return store.labels[rows], store.scenes[rows]


@pytest.fixture
def predict(store, tmp_path):
    """Write predictions, the labels with a share of noise; returns their rows of the table of predictions."""
    numbers = itertools.count()

    def write(
        method, noise, seeds=(0, 1), evaluation="linear", source="fused", fraction=100.0, budget="none"
    ):
        noise = noise if isinstance(noise, dict) else dict.fromkeys(("validation", "test"), noise)
        rows, key = [], f"{evaluation}|{source}|{fraction:g}"
        for seed in seeds:
            path, random = tmp_path / f"{next(numbers)}.npz", np.random.default_rng([7, seed])
            truth = {split: store.labels[store.split_rows(split)] for split in noise}
            arrays = {split: y + noise[split] * (random.random(y.shape) - y) for split, y in truth.items()}
            np.savez(path, **{f"{key}|{split}": values.astype("f4") for split, values in arrays.items()})
            names = {"method": method, "label_budget": budget, "fraction": fraction}
            names |= {"evaluation": evaluation, "input": source, "seed": seed}
            rows.append({**names, "path": str(path), "key": key})
        return rows

    return write


@pytest.fixture
def run_of(store):
    """Make a finished run of one process, which keeps nothing, from what its notebooks left."""

    def make(predictions=(), *, store=store, choices=None, published=(), lost=(), kernel="jaccard", **tables):
        tables = {"predictions": predictions, "results": (), **tables}
        tables = {name: pd.DataFrame(rows) for name, rows in tables.items()}
        tables |= {"choices": choices or {}, "archive": {"title": "A", "published": {"rows": published}}}
        trials = pd.DataFrame({"trial": [f"{name} seed 0" for name in lost]})
        settings = StudySettings(jobs=1, label_fractions=[100.0], kernel=kernel)
        before = SimpleNamespace(settings=settings, failed_trials=lambda: trials)
        return SimpleNamespace(
            folder="run",
            settings=settings,
            cached=lambda name, key, compute: compute(),
            read=tables.get,
            store=lambda: store,
            earlier=lambda notebook: before,
        )

    return make


@pytest.fixture
def study(run_of):
    return run_of()


@pytest.fixture
def result():
    """Make a row of tidy results."""

    def make(method, value=0.5, **more):
        row = {"method": method, "label_budget": "none", "fraction": 100.0, "evaluation": "linear"}
        row |= {"input": "fused", "stratum": "all", "metric": "ap_macro", "seed": -1, "value": value}
        return {**row, "low": value - 0.1, "high": value + 0.1, "n_seeds": 3, **more}

    return make
