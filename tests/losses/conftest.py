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
def small_blocks(monkeypatch):
    """Hold fewer pairs at once than a test has."""
    monkeypatch.setattr("mosaic.losses.contrastive.CPU_BLOCK", 40)
