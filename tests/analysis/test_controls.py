import re

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import controls
from mosaic.analysis.claims_table import ArchiveClaims


@pytest.fixture
def archive(store, predict, run_of, monkeypatch):
    """MoSAiC with one seed, whose features and predictions hold the labels and noise."""
    features = store.labels + np.random.default_rng(3).normal(size=store.labels.shape)

    def encode(store, folder, rows):
        return {split: {"fused": features[each].astype("f4")} for split, each in rows.items()}

    monkeypatch.setattr(controls, "encode", encode)
    embedded = pd.DataFrame({"method": ["mosaic"], "seed": [0], "folder": ["e"], "path": ["e.npz"]})
    return ArchiveClaims(run_of(predict("mosaic", 0.7, [0]), embeddings=embedded))


def test_planted_effects_are_found_in_both_directions_and_shuffled_labels_fall_to_the_prior(archive, study):
    table = controls.control_table(study, archive)
    assert not {"supported", "not supported"} & set(table["verdict"][:2])
    assert table["verdict"][2:].tolist() == ["supported", "not supported"]
    shuffled, random, prior = map(float, re.findall(r"0\.\d+", table["comparison"][0]))
    assert [shuffled, random] == pytest.approx([prior, prior], abs=0.06)


def test_without_mosaic_there_are_no_controls(archive, study):
    archive.entry = lambda *arguments: None
    assert controls.control_table(study, archive).empty
