"""A layout in the true sizes of BigEarthNet, and labels with every awkward case."""

from dataclasses import replace

import pytest
import torch

from mosaic.store.record_format import BandLayout

S1 = ("VV", "VH")
S2 = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
SIZE = {band: 60 for band in S2} | dict.fromkeys(("B02", "B03", "B04", "B08", *S1), 120)
SIZE |= {"B01": 20, "B09": 20}


@pytest.fixture
def layout():
    # every band its own statistics, so that a mix-up of bands shows
    s1 = {band: {"mean": -12.0 - 6 * i, "std": 5.0 + i} for i, band in enumerate(S1)}
    s2 = {band: {"mean": 300.0 + 150 * i, "std": 400.0 + 50 * i} for i, band in enumerate(S2)}
    return replace(BandLayout.of(S1, S2, SIZE), statistics=s1 | s2)


@pytest.fixture
def labels():
    """Ten scenes, six classes: two without labels, one with nearly all, two alike, and a class nobody has."""
    sets = [{0}, {0, 1}, {0, 1}, {2}, {1, 2, 3}, set(), {0, 1, 2, 3, 4}, set(), {4}, {1, 4}]
    return torch.tensor([[float(c in chosen) for c in range(6)] for chosen in sets])
