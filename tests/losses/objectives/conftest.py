from dataclasses import dataclass

import pytest
import torch

from mosaic.losses.objectives.base import Step


@dataclass
class Batch:
    """Random features of two views of both sensors, with labels of which some are hidden."""

    step: Step
    dims: dict[str, int]


@pytest.fixture
def batch():
    torch.manual_seed(0)
    scenes, width, classes = 6, 8, 5
    labels = (torch.rand(scenes, classes) < 0.5).float()
    labels[0, 0] = 1
    labelled = torch.tensor([True, True, True, True, True, False])
    features = {s: torch.randn(2, scenes, width, requires_grad=True) for s in ("s1", "s2")}
    maps = {s: torch.randn(2, scenes, width, 3, 3, requires_grad=True) for s in ("s1", "s2")}
    step = Step({}, features, maps, labels * labelled[:, None], labelled)
    return Batch(step, {"s1": width, "s2": width})
