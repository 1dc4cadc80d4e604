"""In one process; tests/training/test_distributed.py compares several."""

import copy

import pytest
import torch
from torch import nn

from mosaic.models import sync_batch_norm as batch_norm
from mosaic.models.sync_batch_norm import GatheredBatchNorm, synchronise
from mosaic.utils.errors import SettingsError


@pytest.fixture(params=[(6, 3), (6, 3, 5, 4)], ids=["1d", "2d"])
def pair(request):
    """A batch, torch's normalisation and ours, both in a container and with parameters of their own."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.BatchNorm1d(3) if len(request.param) == 2 else nn.BatchNorm2d(3))
    nn.init.normal_(plain[0].weight)
    nn.init.normal_(plain[0].bias)
    ours = copy.deepcopy(plain)
    synchronise(ours, "cpu")
    return 3 + 2 * torch.randn(request.param), plain, ours


def run(module, images):
    images = images.clone().requires_grad_()
    out = module(images)
    (out * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
    return out, images.grad, *(parameter.grad for parameter in module.parameters())


def test_alone_it_is_torchs(pair):
    images, plain, ours = pair
    assert isinstance(ours[0], GatheredBatchNorm)
    for _ in range(2):
        torch.testing.assert_close(run(ours, images), run(plain, images))
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))


def test_its_weights_load_into_torchs(pair):
    images, plain, ours = pair
    run(ours, images)
    plain.load_state_dict(ours.state_dict())
    torch.testing.assert_close(plain.eval()(images), ours.eval()(images))


def test_a_part_is_normalised_by_the_whole_batch(pair, monkeypatch):
    images, plain, ours = pair
    parts, whole = images.split(3), plain(images)
    dims = [0, *range(2, images.ndim)]
    moments = [torch.stack(torch.var_mean(part, dims, correction=0)) for part in parts]
    monkeypatch.setattr(batch_norm, "gather", lambda own: torch.stack(moments))
    torch.testing.assert_close(ours(parts[1]), whole[3:])
    torch.testing.assert_close(dict(ours.state_dict()), dict(plain.state_dict()))


def test_evaluation_does_not_communicate(pair, monkeypatch):
    images, plain, ours = pair
    monkeypatch.setattr(batch_norm, "gather", lambda own: pytest.fail("communicated"))
    torch.testing.assert_close(ours.eval()(images), plain.eval()(images))


def test_half_precision_is_normalised_in_single():
    torch.manual_seed(0)
    images = (100 + torch.randn(64, 2)).bfloat16()
    ours = nn.Sequential(nn.BatchNorm1d(2))
    synchronise(ours, "cpu")
    out = ours(images)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(ours[0].running_mean, 0.1 * images.float().mean(0))


def test_gpus_take_torchs_own():
    module = nn.Sequential(nn.BatchNorm2d(3))
    names = list(module.state_dict())
    synchronise(module, "cuda:0")
    assert type(module[0]) is nn.SyncBatchNorm
    assert list(module.state_dict()) == names


def test_one_that_does_more_is_refused():
    class WithActivation(nn.BatchNorm2d):
        """As timm's ``BatchNormAct2d``."""

    with pytest.raises(SettingsError, match="WithActivation does more than normalise"):
        synchronise(nn.Sequential(WithActivation(3)), "cpu")
