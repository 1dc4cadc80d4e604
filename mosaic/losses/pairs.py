"""Which candidates are positives of an anchor, and which take no part, some rows at a time.

A loss over tens of thousands of views must never hold all pairs: it asks for the rows it needs. Row i is
candidate i as an anchor; what it weighs to itself does not count.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from mosaic.losses.label_kernels import msc_weights, pair_weights

# Rows -> weights W (R, M) >= 0, and bool that broadcasts to it: neither positive nor negative; None for none.
Pairs = Callable[[slice], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class LabelledViews:
    """All views of all streams of a batch, stacked, and what is known of their labels."""

    embeddings: Tensor  # (N, D)
    labels: Tensor  # (N, C), 0 or 1; zero where they may not be used
    labelled: Tensor  # (N,) bool
    scene: Tensor  # (N,) int, which scene of the batch each view shows

    @classmethod
    def of(cls, embeddings: Mapping[str, Tensor], labels: Tensor, labelled: Tensor) -> "LabelledViews":
        """Stack stream -> (V, B, D), view after view, for labels (B, C) and labelled (B,)."""
        stacked = torch.cat([views.flatten(0, 1) for views in embeddings.values()])
        views = len(stacked) // len(labels)
        known = labels.float() * labelled[:, None]
        scene = torch.arange(len(labels), device=stacked.device)
        return cls(stacked, known.repeat(views, 1), labelled.repeat(views), scene.repeat(views))


def instance_pairs(group: Tensor, apart: Tensor | None = None) -> Pairs:
    """Return pairs in which candidates of one ``group`` (M,) weigh 1, for instance views of one scene.

    Candidates that share the anchor's value of ``apart`` (M,) take no part; by default all do.
    """

    def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
        exclude = None if apart is None else apart[rows, None] == apart
        return (group[rows, None] == group).float(), exclude

    return pairs


def label_pairs(
    views: LabelledViews,
    kernel: str,
    *,
    idf: Tensor | None = None,
    threshold: float = 0.0,
    other_views: bool = True,
    unlabelled_negatives: bool = True,
    prototype_alpha: float | None = None,
    queue_labels: Tensor | None = None,
    queue_filled: Tensor | None = None,
) -> Pairs:
    """Return pairs weighed by a label kernel: the label term of every method.

    An unlabelled scene weighs 0: it is no anchor and no positive of others.

    Args:
        views: anchors, and the first N candidates.
        kernel: a key of :data:`mosaic.losses.label_kernels.KERNELS`.
        idf: as of :func:`mosaic.losses.label_kernels.pair_weights`.
        threshold: kernel weights below it become 0.
        other_views: other views of the anchor's scene weigh 1, whatever the kernel says.
        unlabelled_negatives: unlabelled scenes are negatives; otherwise they take no part.
        prototype_alpha: if given, candidates end with C prototypes, and weights are those of
            :func:`mosaic.losses.label_kernels.msc_weights` with this alpha; threshold and other views do not
            apply.
        queue_labels: (Q, C), labels of further candidates, of other batches.
        queue_filled: (Q,) bool, which of them there are; the others, whose labels are 0, take no part.
    """
    labels, scene, added = views.labels, views.scene, 0
    if queue_labels is not None:
        added = len(queue_labels)
        labels = torch.cat([labels, queue_labels])
        # a scene may come back: its views in the queue count as those of another scene
        scene = functional.pad(scene, (0, added), value=-1)
    if prototype_alpha is not None:
        added += labels.shape[1]
    exclude = None if unlabelled_negatives else functional.pad(~views.labelled, (0, added))
    if queue_filled is not None:
        absent = functional.pad(~queue_filled, (len(views.labelled), added - len(queue_filled)))
        exclude = absent if exclude is None else exclude | absent

    def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
        if prototype_alpha is not None:
            return msc_weights(labels[rows], labels, prototype_alpha), exclude
        weights = pair_weights(labels, kernel, idf=idf, threshold=threshold, rows=rows)
        if other_views:
            weights.masked_fill_(scene[rows, None] == scene, 1.0).mul_(views.labelled[rows, None])
        return weights, exclude

    return pairs
