"""Which candidates are positives of an anchor, and which take no part, some rows at a time.

A loss over tens of thousands of views must never hold all pairs: it asks for the rows it needs. Row i is
candidate i as an anchor; what it weighs to itself does not count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from mosaic.losses.label_kernels import COUNT_OTHER_VIEWS, pair_weights

# Rows -> weights W (R, M) >= 0, and bool that broadcasts to it: neither positive nor negative; None for none.
Pairs = Callable[[slice], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class LabelledViews:
    """All views of all streams of a batch, stacked, and what is known of their labels."""

    embeddings: Tensor  # (N, D)
    labels: Tensor  # (N, C), 0 or 1; zero where they may not be used
    labelled: Tensor  # (N,) bool
    scene: Tensor  # (N,) int, which scene of the batch each view shows; -1 for views of other batches

    @classmethod
    def of(cls, embeddings: Mapping[str, Tensor], labels: Tensor, labelled: Tensor) -> "LabelledViews":
        """Stack stream -> (V, B, D), view after view, for labels (B, C) and labelled (B,)."""
        stacked = torch.cat([views.flatten(0, 1) for views in embeddings.values()])
        views = len(stacked) // len(labels)
        known = labels.float() * labelled[:, None]
        scene = torch.arange(len(labels), device=stacked.device)
        return cls(stacked, known.repeat(views, 1), labelled.repeat(views), scene.repeat(views))


def instance_pairs(group: Tensor, apart: Tensor | None = None) -> Pairs:
    """Return pairs in which candidates of one ``group`` (M,), such as a scene, weigh 1.

    Those of the anchor's own value of ``apart`` (M,) take no part.
    """

    def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
        exclude = None if apart is None else apart[rows, None] == apart
        return (group[rows, None] == group).float(), exclude

    return pairs


def label_pairs(
    views: LabelledViews,
    kernel: str,
    *,
    unlabelled_negatives: bool = True,
    absent: Tensor | None = None,
    **options: Any,
) -> Pairs:
    """Return pairs weighed by a label kernel: those of the label term of every method.

    Other views of the anchor's scene weigh 1, but for kernels in ``COUNT_OTHER_VIEWS``. An unlabelled scene
    weighs 0: it is no anchor and no positive of others.

    Args:
        views: the candidates; anchors are the first of them.
        kernel: a key of :data:`mosaic.losses.label_kernels.KERNELS`.
        unlabelled_negatives: unlabelled scenes are negatives; otherwise they take no part.
        absent: (N,) bool, views that take no part.
        **options: of :func:`mosaic.losses.label_kernels.pair_weights`.
    """
    masks = [] if unlabelled_negatives else [~views.labelled]
    masks += [] if absent is None else [absent]
    prototypes = views.labels.shape[1] if options.get("prototypes") else 0
    exclude = functional.pad(torch.stack(masks).any(0), (0, prototypes)) if masks else None

    def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
        weights = pair_weights(views.labels, kernel, rows=rows, **options)
        if kernel not in COUNT_OTHER_VIEWS:
            weights.masked_fill_(views.scene[rows, None] == views.scene, 1.0)
            weights.mul_(views.labelled[rows, None])
        return weights, exclude

    return pairs
