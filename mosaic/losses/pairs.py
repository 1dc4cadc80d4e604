"""Which candidates are positives of an anchor, and which take no part, a block of rows at a time.

A loss over tens of thousands of views must never hold all pairs: it asks for the rows it needs. Row i is
candidate i as an anchor; with itself it is no pair.
"""

from collections.abc import Callable

from torch import Tensor

from mosaic.losses.label_kernels import ALL, without_self

# Rows -> weights W (R, M) >= 0, and bool that broadcasts to it: neither positive nor negative; None for none.
Pairs = Callable[[slice], tuple[Tensor, Tensor | None]]


def same_group(group: Tensor, rows: slice = ALL) -> Tensor:
    """Return weights of 1 between different candidates of one group, for instance views of one scene.

    Args:
        group: (M,) int, the group of each candidate.
        rows: which candidates' rows are wanted, R of them; all by default.

    Returns:
        (R, M), 0 for a candidate with itself.
    """
    return without_self((group[rows, None] == group).float(), rows)


def pairs_within(group: Tensor, apart: Tensor | None = None) -> Pairs:
    """Return pairs weighed by :func:`same_group`.

    Args:
        group: (M,) int, the group of each candidate.
        apart: (M,) int; candidates that share the anchor's value take no part. By default all do.
    """

    def pairs(rows: slice) -> tuple[Tensor, Tensor | None]:
        return same_group(group, rows), None if apart is None else apart[rows, None] == apart

    return pairs


def with_other_views(weights: Tensor, scene: Tensor, labelled: Tensor, rows: slice) -> Tensor:
    """Let other views of a scene weigh 1, whatever a kernel says, and unlabelled scenes be no anchors.

    Args:
        weights: of a label kernel, (R, M); overwritten.
        scene: (M,) int, which scene each candidate shows.
        labelled: bool, of the rows' candidates at least.
        rows: which candidates' rows these are.
    """
    weights.masked_fill_(scene[rows, None] == scene, 1.0).mul_(labelled[rows, None])
    return without_self(weights, rows)
