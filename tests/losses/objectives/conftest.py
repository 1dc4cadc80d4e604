import pytest
import torch
from torch import nn

from mosaic.losses.label_kernels import idf_weights
from mosaic.losses.objectives.base import Step, build_objective
from mosaic.methods import Method, get_method
from mosaic.settings import LossSettings

SCENES, WIDTH, CLASSES = 8, 8, 5


class Passed(nn.Module):
    """An encoder whose images are features already."""

    def __init__(self, streams):
        super().__init__()
        self.feature_dims, self.scale = dict.fromkeys(streams, WIDTH), nn.Parameter(torch.ones(()))

    def forward(self, images):
        return {stream: self.scale * image for stream, image in images.items()}


@pytest.fixture
def make_step():
    """Make random features of two views: ``make_step(streams, seed)``; labels of the last two are hidden."""

    def make(streams=("s1", "s2"), seed=0):
        torch.manual_seed(seed)
        labels, labelled = (torch.rand(SCENES, CLASSES) < 0.5).float(), torch.arange(SCENES) < SCENES - 2
        labels[0, 0] = 1
        features = {s: torch.randn(2, SCENES, WIDTH, requires_grad=True) for s in streams}
        maps = {s: torch.randn(2, SCENES, WIDTH, 3, 3, requires_grad=True) for s in streams}
        images = {s: feature.detach().flatten(0, 1) for s, feature in features.items()}
        return Step(images, features, maps, labels * labelled[:, None], labelled)

    return make


@pytest.fixture
def step(make_step):
    return make_step()


@pytest.fixture
def build():
    """Build an objective: ``build(method, **settings)``; labels as rare as in eight scenes."""

    def make(method, **settings):
        torch.manual_seed(0)
        method = method if isinstance(method, Method) else get_method(method)
        settings = LossSettings(**{"projection_dim": 16, "queue_size": 40, **settings})
        idf = idf_weights(torch.tensor([4, 3, 1, 2, 6]), 8)
        return build_objective(method, Passed(method.streams), settings, idf)

    return make
