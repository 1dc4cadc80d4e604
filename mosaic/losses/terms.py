"""The terms of every method: weighted contrasts between views, sensors and labels, and classification."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from mosaic.losses.contrastive import contrast
from mosaic.losses.label_kernels import check_kernel, msc_weights, pair_weights
from mosaic.losses.pairs import pairs_within, with_other_views
from mosaic.methods import Method
from mosaic.utils.errors import SettingsError


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
        losses = []
        for z in embeddings.values():
            scene = torch.arange(z.shape[1], device=z.device).repeat(len(z))
            losses.append(contrast(z.flatten(0, 1), pairs_within(scene), self.temperatures.intra))
        return torch.stack(losses).sum()

    def inter_term(self, embeddings: Mapping[str, Tensor]) -> Tensor:
        """NT-Xent between the two sensors of a view, averaged over the views."""
        first, second = embeddings.values()
        scene = torch.arange(first.shape[1], device=first.device).repeat(2)
        sensor = torch.arange(2, device=first.device).repeat_interleave(first.shape[1])
        pairs = pairs_within(scene, sensor if self.inter_style == "clip" else None)
        losses = [
            contrast(torch.cat(pair), pairs, self.temperatures.inter)
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
        scene, anchor = torch.arange(len(labels), device=z.device).repeat(views), labelled.repeat(views)
        known = (labels.float() * labelled[:, None]).repeat(views, 1)
        candidates = z
        if self.prototypes is not None:
            candidates = torch.cat([z, functional.normalize(self.prototypes, dim=1).to(z.dtype)])
        exclude = None
        if not self.unlabelled_negatives:
            exclude = functional.pad(~anchor, (0, len(candidates) - len(z)))

        def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
            if self.prototypes is not None:
                return msc_weights(known, self.msc_alpha, rows), exclude
            weights = pair_weights(
                known,
                self.kernel,
                class_counts=self.class_counts,
                total=self.total,
                threshold=self.kernel_threshold,
                rows=rows,
            )
            if self.kernel != "mulsupcon":
                weights = with_other_views(weights, scene, anchor, rows)
            return weights, exclude

        return contrast(z, pairs, self.temperatures.label, candidates)


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
