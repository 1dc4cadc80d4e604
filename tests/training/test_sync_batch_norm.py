"""In one process; tests/training/test_two_processes.py compares several, and gradients."""

import copy

import pytest
import torch
from timm.layers import BatchNormAct2d
from torch import nn

from mosaic.training import distributed
from mosaic.training.distributed import synchronise


@pytest.fixture(
    params=[(nn.BatchNorm1d, (6, 3)), (nn.BatchNorm2d, (6, 3, 5, 4)), (BatchNormAct2d, (6, 3, 5, 4))],
    ids=lambda param: param[0].__name__,
)
def pair(request):
    """A batch, torch's or timm's normalisation, and the same synchronised."""
    torch.manual_seed(0)
    layer, shape = request.param
    plain = nn.Sequential(layer(3))
    nn.init.normal_(plain[0].weight)
    nn.init.normal_(plain[0].bias)
    synchronised = copy.deepcopy(plain)
    synchronise(synchronised, "cpu")
    return 3 + 2 * torch.randn(shape), plain, synchronised


def test_alone_it_is_the_layer_it_replaces(pair, monkeypatch):
    images, plain, synchronised = pair
    for _ in range(2):
        torch.testing.assert_close(synchronised(images), plain(images), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(dict(synchronised.state_dict()), dict(plain.state_dict()))
    monkeypatch.setattr(distributed, "gather", lambda mine: pytest.fail("evaluation communicated"))
    torch.testing.assert_close(synchronised.eval()(images), plain.eval()(images), rtol=1e-4, atol=1e-5)


def test_half_precision_is_normalised_in_single():
    torch.manual_seed(0)
    images = (100 + torch.randn(64, 2)).bfloat16()
    module = nn.Sequential(nn.BatchNorm1d(2))
    synchronise(module, "cpu")
    assert module(images).dtype == torch.bfloat16
    torch.testing.assert_close(module[0].running_mean, 0.1 * images.float().mean(0))


def test_gpus_take_torchs_own(pair):
    _, plain, _ = pair
    names = list(plain.state_dict())
    synchronise(plain, "cuda:0")
    assert isinstance(plain[0], nn.SyncBatchNorm)
    assert list(plain.state_dict()) == names
