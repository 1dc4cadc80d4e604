"""One weighted contrastive loss, and the terms of every method made of it.

Each contrastive method of the study is the same function with another weight matrix W:

    L(Z, W, tau) = 1/|A| sum_{i in A} sum_a q_ia (log q_ia - log p_ia),
    q_ia = W_ia / sum_b W_ib,    p_ia = softmax_a(z_i . z_a / tau),    A = {i : sum_b W_ib > 0}.

The KL form has a zero floor, so values compare across kernels; its gradient is that of the cross-entropy.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.common.errors import SettingsError
from mosaic.method.kernels import check_kernel, msc_weights, pair_weights
from mosaic.method.methods import Method


def weighted_contrastive_loss(
    embeddings: Tensor,
    weights: Tensor,
    temperature: float | Tensor,
    candidates: Tensor | None = None,
    exclude: Tensor | None = None,
) -> Tensor:
    """Return the weighted contrastive loss.

    Args:
        embeddings: anchors (N, D), L2-normalised, any floating type.
        weights: W (N, M) >= 0, how much of a positive candidate a is to anchor i.
        temperature: tau > 0, unitless; one for all pairs, or (N, M).
        candidates: (M, D), L2-normalised; the first N are the anchors themselves. By default only these.
        exclude: (N, M) bool, pairs that are neither positive nor negative. Each anchor is excluded from its
            own row in any case.

    Returns:
        Scalar >= 0, float32 (float64 for float64 embeddings) whatever autocast says. Exactly 0, with zero
        gradient, when no anchor has a positive.
    """
    wide = torch.promote_types(embeddings.dtype, torch.float32)
    # half precision would lose the differences between logits that the softmax lives on
    with torch.autocast(embeddings.device.type, enabled=False):
        z = embeddings.to(wide)
        logits = z @ (z if candidates is None else candidates.to(wide)).T / temperature
        itself = torch.eye(*logits.shape, dtype=torch.bool, device=z.device)
        excluded = itself if exclude is None else itself | exclude
        weights = weights.to(wide).masked_fill(excluded, 0.0)
        total = weights.sum(1, keepdim=True)
        anchors = total > 0
        q = weights / torch.where(anchors, total, 1.0)
        # log_softmax subtracts the row's maximum over what is not excluded; a row excluded as a whole is NaN
        # there, but it is no anchor, and masks keep it out of the value and of the gradient
        logits = logits.masked_fill(excluded, -torch.inf)
        log_p = functional.log_softmax(logits, dim=1).masked_fill(q == 0, 0.0)
        divergence = (torch.special.xlogy(q, q) - q * log_p).sum()
        return divergence / anchors.sum().clamp_min(1)


def same_scene(scenes: int, views: int, device: torch.device | None = None) -> Tensor:
    """Return the weights of instance contrast, 1 between different views of one scene.

    Args:
        scenes: number of scenes B.
        views: number of views V.
        device: where to put them.

    Returns:
        (V * B, V * B), zero diagonal. Views are stacked view after view: rows 0..B-1 are the first view.
    """
    same = torch.eye(scenes, device=device).repeat(views, views)
    return same.fill_diagonal_(0.0)


@dataclass(frozen=True)
class Temperatures:
    """One temperature a term, unitless: 0.5 is SimCLR's and IaI's, 0.07 to 0.1 the SupCon family's.

    Raises:
        SettingsError: unless all are above 0.
    """

    intra: float = 0.5
    inter: float = 0.5
    label: float = 0.1

    def __post_init__(self) -> None:
        for term, value in asdict(self).items():
            if not value > 0:
                raise SettingsError(f"temperature of the {term} term is {value}; it must be above 0")


class ContrastiveTerms(nn.Module):
    """All terms of the objective for a batch.

    With the ``msc`` kernel it owns parameters, one prototype (D,) for each label, so its ``parameters()``
    belong in the optimiser.

    Args:
        method: a row of the table; terms of weight 0 are not computed.
        temperatures: one for each term.
        kernel: label kernel, unless the method names its own.
        kernel_threshold: kernel weights below it become 0; MultiSupCon uses 0.3 with ``jaccard``.
        inter_style: ``"simclr"`` keeps negatives of both sensors, ``"clip"`` those of the other sensor only.
        unlabelled_negatives: unlabelled scenes stay in the denominator of the label term. Their unknown
            labels make them noisy negatives; without them the term compares labelled scenes only.
        class_counts: (C,), for ``idf_jaccard``: scenes with each label among those whose labels may be used.
            The batch's own by default.
        total: number of scenes that ``class_counts`` counts.
        prototype_dim: D, for ``msc``.
        classes: C, for ``msc``.
        msc_alpha: weight of scenes against prototypes, for ``msc``.

    Raises:
        SettingsError: for an unknown kernel or style.
    """

    class_counts: Tensor | None

    def __init__(
        self,
        method: Method,
        temperatures: Temperatures | None = None,
        kernel: str = "jaccard",
        kernel_threshold: float = 0.0,
        inter_style: Literal["simclr", "clip"] = "simclr",
        unlabelled_negatives: bool = True,
        class_counts: Tensor | None = None,
        total: float | None = None,
        prototype_dim: int = 128,
        classes: int = 0,
        msc_alpha: float = 1.0,
    ) -> None:
        super().__init__()
        self.method = method
        self.temperatures = temperatures or Temperatures()
        self.kernel = method.kernel or kernel
        check_kernel(self.kernel)
        if inter_style not in ("simclr", "clip"):
            raise SettingsError(f"unknown inter_style {inter_style!r}; known: clip, simclr")
        self.kernel_threshold = kernel_threshold
        self.msc_alpha = msc_alpha
        self.inter_style = inter_style
        self.unlabelled_negatives = unlabelled_negatives
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
        logits: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compute the terms whose weight is positive.

        Args:
            intra: stream -> (2, B, D) L2-normalised, two views, from the intra heads.
            inter: stream -> (2, B, D) from the inter heads.
            label: stream -> (2, B, D) from the label head.
            labels: (B, C), 0 or 1; rows of unlabelled scenes are ignored.
            labelled: (B,) bool, whose labels may be used.
            logits: (..., B, C) from the classifier; needed when the method classifies.

        Returns:
            Term -> unweighted scalar, and ``"total"``, their sum weighted as the method says.

        Raises:
            ValueError: when logits are needed and missing.
        """
        terms: dict[str, Tensor] = {}
        if self.method.intra > 0:
            terms["intra"] = self.intra_term(intra)
        if self.method.inter > 0:
            terms["inter"] = self.inter_term(inter)
        if self.method.label > 0:
            terms["label"] = self.label_term(label, labels, labelled)
        if self.method.classify > 0:
            if logits is None:
                raise ValueError(f"method {self.method.name!r} classifies: its logits are needed")
            terms["classify"] = classification_term(logits, labels, labelled)
        weighted = [getattr(self.method, name) * term for name, term in terms.items()]
        return {**terms, "total": torch.stack(weighted).sum()}

    def intra_term(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """NT-Xent between the two views of each sensor, summed over sensors as in IaI-SimCLR."""
        losses = [
            weighted_contrastive_loss(
                z.flatten(0, 1), same_scene(z.shape[1], len(z), z.device), self.temperatures.intra
            )
            for z in embeddings.values()
        ]
        return torch.stack(losses).sum()

    def inter_term(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """NT-Xent between the two sensors of a view, averaged over the views."""
        first, second = embeddings.values()
        scenes = first.shape[1]
        weights = same_scene(scenes, 2, first.device)
        exclude = None
        if self.inter_style == "clip":
            sensor = torch.arange(2, device=first.device).repeat_interleave(scenes)
            exclude = sensor[:, None] == sensor[None, :]
        losses = [
            weighted_contrastive_loss(torch.cat(pair), weights, self.temperatures.inter, exclude=exclude)
            for pair in zip(first, second, strict=True)
        ]
        return torch.stack(losses).mean()

    def label_term(self, embeddings: Mapping[str, Tensor], labels: Tensor, labelled: Tensor) -> Tensor:
        """Multi-label supervised contrast over all views of all sensors at once.

        Other scenes weigh what the kernel says, other views of the same scene 1. ``mulsupcon`` and ``msc``
        normalise over the batch and count a scene's own views in their published sums, so these keep the
        kernel's value. An unlabelled scene weighs 0: it is no anchor and nobody's positive.
        """
        z = torch.cat([views.flatten(0, 1) for views in embeddings.values()])
        views = len(z) // len(labels)
        anchor = labelled.repeat(views)
        known = (labels.float() * labelled[:, None]).repeat(views, 1)
        if self.prototypes is not None:
            candidates = torch.cat([z, functional.normalize(self.prototypes, dim=1).to(z.dtype)])
            weights = msc_weights(known, self.msc_alpha)
        else:
            candidates = z
            weights = pair_weights(
                known,
                self.kernel,
                class_counts=self.class_counts,
                total=self.total,
                threshold=self.kernel_threshold,
            )
            if self.kernel != "mulsupcon":
                own = same_scene(len(labels), views, z.device)
                weights = torch.where(own > 0, own, weights) * anchor[:, None]
        exclude = None
        if not self.unlabelled_negatives:
            exclude = functional.pad(~anchor, (0, len(candidates) - len(z))).expand(len(z), -1)
        return weighted_contrastive_loss(z, weights, self.temperatures.label, candidates, exclude)


def classification_term(logits: Tensor, labels: Tensor, labelled: Tensor) -> Tensor:
    """Return the binary cross-entropy of labelled scenes.

    Args:
        logits: (..., B, C), for instance one slice a view.
        labels: (B, C), 0 or 1.
        labelled: (B,) bool.

    Returns:
        Mean over labels, labelled scenes and leading dimensions, float32; 0 when no scene is labelled.
    """
    targets = labels.float().expand(logits.shape)
    losses = functional.binary_cross_entropy_with_logits(logits.float(), targets, reduction="none").mean(-1)
    use = labelled.expand(losses.shape)
    return (losses * use).sum() / use.sum().clamp_min(1)
