import math

import pytest
import torch
from torch.nn.functional import normalize

from mosaic.evaluation.embedding_metrics import alignment, effective_rank, embedding_std, uniformity


def isotropic(count, width):
    return normalize(torch.randn(count, width, generator=torch.Generator().manual_seed(0)), dim=1)


def test_collapse_shows_in_every_measure():
    collapsed = torch.ones(32, 16) / 4
    assert embedding_std(collapsed).item() == pytest.approx(0, abs=1e-6)
    assert uniformity(collapsed).item() == pytest.approx(0, abs=1e-6)
    assert effective_rank(collapsed).item() == pytest.approx(1, abs=1e-3)


def test_isotropic_embeddings_fill_the_sphere():
    z = isotropic(2000, 16)
    assert embedding_std(z).item() == pytest.approx(1, abs=0.02)
    assert effective_rank(z).item() == pytest.approx(16, abs=0.1)
    subspace = torch.cat([isotropic(500, 4), torch.zeros(500, 12)], dim=1)
    assert effective_rank(subspace).item() == pytest.approx(4, abs=0.1)
    # E exp(-2 d^2) = E exp(-4 + 4 cos) is about exp(-4 + 8 / 16) in 16 dimensions
    assert uniformity(z).item() == pytest.approx(-3.5, abs=0.1)


def test_hand_computed():
    basis = torch.eye(3)
    assert effective_rank(basis).item() == pytest.approx(3, abs=1e-4)
    assert alignment(basis, basis).item() == 0
    assert alignment(basis, basis.roll(1, 0)).item() == pytest.approx(2)  # orthogonal unit vectors
    poles = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(poles).item() == pytest.approx(-8)  # log exp(-2 * 2^2)
    # deviations 1 and 0, mean 1/2, times sqrt(2)
    assert embedding_std(poles).item() == pytest.approx(math.sqrt(2) / 2)
    assert uniformity(poles, t=0.5).item() == pytest.approx(-2)
    # singular values 3 and 1: exp of the entropy of (3/4, 1/4)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))).item() == pytest.approx(
        math.exp(entropy), rel=1e-4
    )
