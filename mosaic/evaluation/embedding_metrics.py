"""Metrics that tell a healthy embedding space from a collapsed one. Embeddings are (N, D), L2-normalised."""

import torch
from torch import Tensor


def alignment(first: Tensor, second: Tensor) -> Tensor:
    """Return the mean squared distance of positive pairs (rows), in [0, 4] (Wang and Isola, ICML 2020)."""
    return (first.float() - second.float()).pow(2).sum(1).mean()


def uniformity(embeddings: Tensor, t: float = 2.0) -> Tensor:
    """Return log mean exp(-t d^2) over all pairs at distance d (Wang and Isola, ICML 2020).

    It lies in [-4t, 0]: 0 when collapsed, lower when spread over the sphere.
    """
    return torch.pdist(embeddings.float()).pow(2).mul(-t).exp().mean().log()


def embedding_std(embeddings: Tensor) -> Tensor:
    """Return sqrt(D) times the mean standard deviation of a dimension (as in SimSiam, CVPR 2021).

    It lies in [0, 1]: 1 when isotropic on the sphere, 0 when collapsed.
    """
    return embeddings.float().std(0, correction=0).mean() * embeddings.shape[1] ** 0.5


def effective_rank(embeddings: Tensor, epsilon: float = 1e-7) -> Tensor:
    """Return RankMe (Garrido et al., ICML 2023): exp of the entropy of the normalised singular values.

    It runs from 1 (collapsed to a line) to about min(N, D). Embeddings may have any length.
    """
    singular = torch.linalg.svdvals(embeddings.float())
    share = singular / singular.sum().clamp_min(epsilon) + epsilon
    return torch.exp(-(share * share.log()).sum())
