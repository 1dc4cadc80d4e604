import pytest
import torch
from torch.nn import functional


@pytest.fixture
def sphere():
    """Draw unit vectors: ``sphere(*shape, seed=0, dtype=torch.float32)``."""

    def draw(*shape, seed=0, dtype=torch.float32):
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        return functional.normalize(drawn, dim=-1).to(dtype)

    return draw


@pytest.fixture
def dense_loss():
    """The loss as its formula stands, of whole matrices (N, M): the oracle of the loss in blocks."""

    def loss(embeddings, weights, temperature, candidates=None, exclude=None, by_mass=False):
        logits = embeddings @ (embeddings if candidates is None else candidates).T / temperature
        excluded = torch.eye(*logits.shape, dtype=torch.bool)
        excluded = excluded if exclude is None else excluded | exclude
        weights = weights.to(logits).masked_fill(excluded, 0.0)
        total = weights.sum(1, keepdim=True)
        q = weights / torch.where(total > 0, total, 1.0)
        log_p = functional.log_softmax(logits.masked_fill(excluded, -torch.inf), dim=1)
        mass = total if by_mass else (total > 0).to(total)
        divergence = torch.special.xlogy(q, q) - q * log_p.masked_fill(q == 0, 0.0)
        return (mass * divergence).sum() / mass.sum()

    return loss


@pytest.fixture
def small_blocks(monkeypatch):
    """Hold fewer pairs at once than a test has."""
    monkeypatch.setattr("mosaic.losses.contrastive.CPU_BLOCK", 40)
