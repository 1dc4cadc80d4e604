from types import SimpleNamespace

import pytest
import torch

from mosaic.losses.label_kernels import idf_weights
from mosaic.losses.objectives.base import Step, build_objective
from mosaic.losses.pairs import LabelledViews
from mosaic.methods import Method, get_method
from mosaic.settings import LossSettings

SCENES, WIDTH, CLASSES = 8, 8, 5


@pytest.fixture
def labelled():
    return torch.arange(SCENES) < SCENES - 2


@pytest.fixture
def step(labelled):
    """Random features of two views of both sensors, with labels of which some are hidden."""
    torch.manual_seed(0)
    labels = (torch.rand(SCENES, CLASSES) < 0.5).float()
    labels[0, 0] = 1
    features = {s: torch.randn(2, SCENES, WIDTH, requires_grad=True) for s in ("s1", "s2")}
    maps = {s: torch.randn(2, SCENES, WIDTH, 3, 3, requires_grad=True) for s in ("s1", "s2")}
    return Step({}, features, maps, labels * labelled[:, None], labelled)


@pytest.fixture
def build():
    """Build an objective: ``build(method, encoder=None, **settings)``; labels as rare as in eight scenes."""

    def make(method, encoder=None, **settings):
        torch.manual_seed(0)
        method = method if isinstance(method, Method) else get_method(method)
        encoder = encoder or SimpleNamespace(feature_dims=dict.fromkeys(method.streams, WIDTH))
        settings = LossSettings(**{"projection_dim": 16, **settings})
        return build_objective(method, encoder, settings, idf_weights(torch.tensor([4, 3, 1, 2, 6]), 8))

    return make


@pytest.fixture
def projected():
    """Project by the label heads: ``projected(objective, step) -> LabelledViews``."""

    def project(objective, step):
        z = objective.heads.project("label", step.features)
        return LabelledViews.of(z, step.labels, step.labelled)

    return project
