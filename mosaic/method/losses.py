"""One weighted contrastive loss, and the three terms of MoSAiC made of it.

Every contrastive method of the study is the same function with another weight matrix W:

    L(Z, W, tau) = 1/|A| sum_{i in A} sum_a q_ia (log q_ia - log p_ia),
    q_ia = W_ia / sum_b W_ib,    p_ia = softmax_a(z_i . z_a / tau),    A = {i : sum_b W_ib > 0}.

The KL form has a zero floor, so values compare across kernels; its gradient is the cross-entropy's.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.method.kernels import check_kernel, msc_weights, pair_weights
from mosaic.method.methods import Method


def weighted_contrastive_loss(
    embeddings: Tensor,
    weights: Tensor,
    temperature: float,
    candidates: Tensor | None = None,
    exclude: Tensor | None = None,
) -> Tensor:
    """Return the weighted contrastive loss.

    Args:
        embeddings: anchors (N, D), L2-normalised.
        weights: W (N, M) >= 0; how much of a positive candidate a is to anchor i.
        temperature: tau > 0, unitless.
        candidates: (M, D), L2-normalised. By default the anchors themselves, each excluded from its own row.
        exclude: (N, M) bool, pairs that are neither positive nor negative. With ``candidates`` given,
            nothing is excluded unless it is said here.

    Returns:
        Scalar >= 0, float32 or better. Exactly 0, with zero gradient, when no anchor has a positive.
    """
    # half precision loses the small differences between logits that the softmax lives on
    wide = torch.float64 if embeddings.dtype == torch.float64 else torch.float32
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(wide)
        others = z if candidates is None else candidates.to(wide)
        if exclude is None and candidates is None:
            exclude = torch.eye(len(z), dtype=torch.bool, device=z.device)
        logits = z @ others.T / temperature
        weights = weights.to(wide)
        if exclude is not None:
            logits = logits.masked_fill(exclude, -torch.inf)
            weights = weights.masked_fill(exclude, 0.0)
        total = weights.sum(1)
        anchors = total > 0
        if not anchors.any():
            return z.sum() * 0.0
        logits, weights, total = logits[anchors], weights[anchors], total[anchors]
        q = weights / total[:, None]
        # log_softmax subtracts the row maximum, over the candidates that are not excluded
        log_p = functional.log_softmax(logits, dim=1).masked_fill(q == 0, 0.0)
        return (torch.special.xlogy(q, q) - q * log_p).sum(1).mean()


def same_scene(scenes: int, views: int, device: torch.device | None = None) -> Tensor:
    """Return W (views * scenes, views * scenes): 1 between different views of one scene.

    Views are stacked view after view: rows 0..scenes-1 are the first view of each scene.
    """
    eye = torch.eye(scenes, device=device).repeat(views, views)
    return eye - torch.eye(scenes * views, device=device)


@dataclass(frozen=True)
class Temperatures:
    """One temperature a term, unitless: 0.5 is SimCLR's and IaI's, 0.07 to 0.1 the SupCon family's."""

    intra: float = 0.5
    inter: float = 0.5
    label: float = 0.1


class ContrastiveTerms(nn.Module):
    """The intra, inter and label terms of a batch.

    Args:
        method: a row of the table; terms of weight 0 are not computed.
        temperatures: one for each term.
        kernel: label kernel, unless the method names its own.
        kernel_threshold: kernel weights below it become 0.
        class_counts: (C,) training scenes with each label *within the label budget*; for ``idf_jaccard``.
        total: number of labelled training scenes; for ``idf_jaccard``.
        prototype_dim: width of the label embeddings; with the ``msc`` kernel one prototype for each of
            ``classes`` labels is learned.
        classes: number of labels, for ``msc``.
    """

    def __init__(
        self,
        method: Method,
        temperatures: Temperatures,
        kernel: str = "jaccard",
        kernel_threshold: float = 0.0,
        class_counts: Tensor | None = None,
        total: float | None = None,
        prototype_dim: int = 128,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.method = method
        self.temperatures = temperatures
        self.kernel = method.kernel or kernel
        check_kernel(self.kernel)
        self.kernel_threshold = kernel_threshold
        self.total = total
        self.register_buffer("class_counts", class_counts, persistent=False)
        self.prototypes: nn.Parameter | None = None
        if self.kernel == "msc" and method.label > 0:
            self.prototypes = nn.Parameter(torch.randn(classes, prototype_dim))

    def forward(
        self,
        intra: Mapping[str, Tensor],
        inter: Mapping[str, Tensor],
        label: Mapping[str, Tensor],
        labels: Tensor,
        labelled: Tensor,
    ) -> dict[str, Tensor]:
        """Compute the terms.

        Args:
            intra: stream -> (2, B, D) L2-normalised, from the intra heads.
            inter: stream -> (2, B, D) from the inter heads.
            label: stream -> (2, B, D) from the label head.
            labels: (B, C) 0 or 1; rows of unlabelled scenes are ignored.
            labelled: (B,) bool, whose labels may be used.

        Returns:
            Term name -> scalar, unweighted, for the terms of positive weight.
        """
        terms: dict[str, Tensor] = {}
        if self.method.intra > 0:
            terms["intra"] = self.intra_term(intra)
        if self.method.inter > 0:
            terms["inter"] = self.inter_term(inter)
        if self.method.label > 0:
            terms["label"] = self.label_term(label, labels, labelled)
        return terms

    def intra_term(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """NT-Xent between the two views of each sensor, summed over sensors as in IaI-SimCLR."""
        losses = []
        for z in embeddings.values():
            weights = same_scene(z.shape[1], 2, z.device)
            losses.append(weighted_contrastive_loss(z.flatten(0, 1), weights, self.temperatures.intra))
        return torch.stack(losses).sum()

    def inter_term(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """NT-Xent between the sensors with negatives of both, averaged over the two views."""
        first, second = embeddings.values()
        weights = same_scene(first.shape[1], 2, first.device)
        losses = [
            weighted_contrastive_loss(torch.cat([a, b]), weights, self.temperatures.inter)
            for a, b in zip(first, second, strict=True)
        ]
        return torch.stack(losses).mean()

    def label_term(self, embeddings: Mapping[str, Tensor], labels: Tensor, labelled: Tensor) -> Tensor:
        """Multi-label supervised contrast over all views of all sensors at once.

        Other views of the same scene weigh 1, other scenes the kernel. An unlabelled scene weighs 0: it is
        no anchor and nobody's positive, but stays among the negatives, where its unknown labels make it a
        noisy one.
        """
        z = torch.cat([views.flatten(0, 1) for views in embeddings.values()])
        views = len(z) // len(labels)
        known = labels.to(torch.float32) * labelled[:, None]
        # kernels see one entry a view, so that published normalisations over the batch stay exact
        every = known.repeat(views, 1)
        if self.prototypes is not None:
            weights = msc_weights(every)
            prototypes = functional.normalize(self.prototypes, dim=1)
            exclude = torch.zeros_like(weights, dtype=torch.bool)
            exclude[:, : len(z)] = torch.eye(len(z), dtype=torch.bool, device=z.device)
            candidates = torch.cat([z, prototypes.to(z.dtype)])
            return weighted_contrastive_loss(z, weights, self.temperatures.label, candidates, exclude)
        weights = pair_weights(
            every,
            self.kernel,
            class_counts=self.class_counts,
            total=self.total,
            threshold=self.kernel_threshold,
        )
        own = same_scene(len(labels), views, z.device) > 0
        anchor = labelled.repeat(views)[:, None]
        if self.kernel != "mulsupcon":  # its double sum already counts the other views of the anchor
            weights = torch.where(own, 1.0, weights)
        return weighted_contrastive_loss(z, weights * anchor, self.temperatures.label)
