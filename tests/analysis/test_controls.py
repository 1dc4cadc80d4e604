import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import controls
from mosaic.analysis.claims_table import ArchiveClaims

N = 400
RANDOM = np.random.default_rng(3)
LABELS = (RANDOM.random((3 * N, 4)) < 0.3).astype(np.uint8)
ROWS = {split: np.arange(i * N, (i + 1) * N) for i, split in enumerate(("train", "validation", "test"))}
STORE = SimpleNamespace(
    labels=LABELS,
    scenes=np.array([f"s{i % 20}" for i in range(3 * N)]),
    split_rows=ROWS.get,
    fingerprint="f",
    class_names=tuple("abcd"),
    manifest=SimpleNamespace(confusable={}),
)


@pytest.fixture
def archive(predict, run_of, monkeypatch):
    """MoSAiC with one seed, whose features and predictions hold the labels and noise."""
    truth = {split: LABELS[ROWS[split]] for split in ("validation", "test")}
    predictions = pd.DataFrame(predict("mosaic", truth, dict.fromkeys(truth, 0.7), [0]))
    features = {split: LABELS[rows] + RANDOM.normal(size=(N, 4)) for split, rows in ROWS.items()}
    monkeypatch.setattr(
        controls,
        "encode",
        lambda store, folder, rows: {s: {"fused": f.astype(np.float32)} for s, f in features.items()},
    )
    embedded = pd.DataFrame({"method": ["mosaic"], "seed": [0], "folder": ["e"], "path": ["e.npz"]})
    return ArchiveClaims(run_of(STORE, predictions, embedded))


def test_planted_effects_are_found_in_both_directions_and_shuffled_labels_fall_to_the_prior(archive, study):
    table = controls.control_table(study, archive)
    assert not {"supported", "not supported"} & set(table["verdict"][:2])
    assert table["verdict"][2:].tolist() == ["supported", "not supported"]
    shuffled, random, prior = map(float, re.findall(r"0\.\d+", table["comparison"][0]))
    assert [shuffled, random] == pytest.approx([prior, prior], abs=0.06)


def test_without_mosaic_there_are_no_controls(archive, study):
    archive.entry = lambda *arguments: None
    assert controls.control_table(study, archive).empty
