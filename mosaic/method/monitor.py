"""What tells a healthy embedding space from a collapsed one. All take embeddings as tensors."""

import torch
from torch import Tensor


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared distance of positive pairs, (N, D) each, L2-normalised; 0 is perfect (Wang & Isola 2020)."""
    return (first - second).pow(2).sum(1).mean()


def uniformity(embeddings: Tensor, t: float = 2.0) -> Tensor:
    """log mean exp(-t d^2) over pairs of (N, D) L2-normalised embeddings; lower is more uniform (ibid.)."""
    squared = torch.pdist(embeddings.float()).pow(2)
    return squared.mul(-t).exp().mean().log()


def embedding_std(embeddings: Tensor) -> Tensor:
    """Mean standard deviation over dimensions of L2-normalised (N, D), times sqrt(D): 1 is isotropic, 0 collapsed."""
    return embeddings.float().std(0, correction=0).mean() * embeddings.shape[1] ** 0.5


def effective_rank(embeddings: Tensor, epsilon: float = 1e-7) -> Tensor:
    """exp of the entropy of the normalised singular values of (N, D): RankMe (Garrido et al. 2023)."""
    singular = torch.linalg.svdvals(embeddings.float())
    share = singular / singular.sum().clamp_min(epsilon) + epsilon
    return torch.exp(-(share * share.log()).sum())
