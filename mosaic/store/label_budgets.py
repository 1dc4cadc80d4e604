"""Label budgets: fixed, nested, stratified lists of the patches whose labels may be used.

The patches of a split are put in one order, and a budget is a prefix of it: budgets are nested, and the list
of one fraction does not depend on the other fractions of a run. The order is that of iterative stratification
(Sechidis, Tsoumakas and Vlahavas, "On the stratification of multi-label data", ECML PKDD 2011): the label
that lacks most positives is served next, with the one of a few of its patches, in random order, that leaves
the least error over all labels. Label counts follow the split within about one patch, and label sets stay
those of a random sample.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mosaic.store.reader import PackedStore, Rows
from mosaic.utils.errors import BudgetError
from mosaic.utils.files import require_regular, write_json

_WINDOW = 32  # patches compared for each position: more fit the counts no better and distort the label sets


def label_budgets(
    labels: NDArray[np.uint8], rows: Rows, fractions: Sequence[float], seed: int = 0
) -> dict[float, Rows]:
    """Draw the label budgets of a split: fraction in percent -> round(fraction * M / 100) rows, ascending.

    They hold at least one positive of each class of the split, and lie within those of larger fractions.
    ``labels`` (N, C), 0 or 1, are those of the whole store, ``rows`` (M,) those of the split.

    Raises:
        BudgetError: when a fraction is out of range or smaller than the number of classes in the split.
    """
    sizes = budget_sizes(labels[rows], fractions)
    length = max((size for size in sizes.values() if size < len(rows)), default=0)
    order = rows[stratified_order(labels[rows], length, seed)]
    return {fraction: np.sort(order[:size] if size < len(rows) else rows) for fraction, size in sizes.items()}


def budget_sizes(labels: NDArray[np.uint8], fractions: Sequence[float]) -> dict[float, int]:
    """Return the number of patches of each fraction, in percent, of a split with these labels (M, C).

    BudgetError as of :func:`label_budgets`.
    """
    present, sizes = int(labels.any(axis=0).sum()), dict[float, int]()
    for fraction in map(float, fractions):
        if not 0 < fraction <= 100:
            raise BudgetError(f"label fraction {fraction:g} %: expected more than 0 and at most 100 percent")
        size = sizes[fraction] = round(fraction * len(labels) / 100)
        if size < present and fraction < 100:  # which holds every class
            least = math.ceil(1e4 * present / len(labels)) / 100
            remedy = f"at least {least:g} %" if least < 100 else f"100 %, or more than {present} patches"
            raise BudgetError(
                f"a label fraction of {fraction:g} % is {size} of {len(labels)} training patches, too few "
                f"for one positive of each of the {present} classes: use {remedy}"
            )
    return sizes


def listed_budgets(store: PackedStore, fractions: Sequence[float], files: Sequence[str]) -> dict[float, Rows]:
    """Read a file of training patches a fraction: fraction in percent -> rows, ascending; all for 100 %.

    A line is a patch id, or begins with one and a comma. Budgets need neither be nested nor of that size.

    Raises:
        BudgetError: when files and fractions differ in number, or a file cannot be read, names what is no
            training patch, or lacks a class that training patches have.
    """
    if len(files) != len(fractions):
        wanted = ", ".join(f"{fraction:g} %" for fraction in fractions)
        raise BudgetError(f"label_budget_files has {len(files)} files, expected one for each of {wanted}")
    train = store.split_rows("train")
    row_of = dict(zip(store.index["patch_id"].iloc[train], train.tolist(), strict=True))
    budgets = {100.0: train}
    for fraction, file in zip(fractions, files, strict=True):
        require_regular(Path(file), BudgetError, "give a file of patch ids, one a line")
        lines = Path(file).read_text(encoding="utf-8-sig", errors="replace").splitlines()
        ids = {name: None for line in lines if (name := line.partition(",")[0].strip())}
        if unknown := [name for name in ids if name not in row_of]:
            raise BudgetError(
                f"{file}: {len(unknown)} of {len(ids)} ids are no training patches here, the first "
                f"is {unknown[0]!r}: remove them"
            )
        rows = budgets[fraction] = np.array(sorted(row_of[name] for name in ids), np.int64)
        absent = store.labels[train].any(axis=0) & ~store.labels[rows].any(axis=0)
        if absent.any():
            raise BudgetError(f"{file} has no patch of {store.class_names[absent.argmax()]!r}: add some")
    return budgets


def stratified_order(labels: NDArray[np.uint8], length: int, seed: int) -> Rows:
    """Order patches so that every prefix has the label frequencies of the whole.

    Return the first ``length`` positions in ``labels`` (M, C), of which C hold every class that occurs.
    """
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    wanted = labels[shuffled].astype(np.float64)
    frequency = wanted.mean(axis=0)
    weight = 1 / np.maximum(frequency, 1 / max(1, len(labels)))
    order = _one_of_each(wanted)[:length]
    free = np.ones(len(labels), dtype=bool)
    free[order] = False
    counts = wanted[order].sum(axis=0)
    queues = [np.flatnonzero(column) for column in wanted.T]
    for position in range(len(order), length):
        need = (position + 1) * frequency - counts
        label = int(need.argmax())
        window = queues[label][:_WINDOW]
        window = window[free[window]]
        if len(window) < _WINDOW // 2:  # mostly used patches: drop them from the queue
            queues[label] = queues[label][free[queues[label]]]
            window = queues[label][:_WINDOW]
        if not len(window):  # the label is used up: any patch will do
            window = np.flatnonzero(free)[:_WINDOW]
        # A patch with labels y changes sum_l weight_l need_l^2 by y . weight (1 - 2 need).
        best = window[(wanted[window] @ (weight * (1 - 2 * need))).argmin()]
        order.append(int(best))
        free[best] = False
        counts += wanted[best]
    return shuffled[np.asarray(order, np.int64)]


def _one_of_each(wanted: NDArray[np.float64]) -> list[int]:
    """Return positions that together hold every class, rarest class first, at most one per class."""
    chosen: list[int] = []
    missing = np.asarray(wanted.any(axis=0))
    for label in np.argsort(wanted.sum(axis=0), kind="stable"):
        if missing[label]:
            chosen.append(int(wanted[:, label].argmax()))
            missing &= wanted[chosen[-1]] == 0
    return chosen


def save_budgets(path: Path, budgets: Mapping[float, Rows], store: PackedStore, seed: int) -> None:
    """Save budgets drawn with ``seed`` as JSON: the patch ids of each, and how often each class occurs."""
    lists = []
    for fraction, rows in sorted(budgets.items()):
        counts = store.labels[rows].sum(axis=0, dtype=int).tolist()
        classes = dict(zip(store.class_names, counts, strict=True))
        patches = store.index["patch_id"].iloc[rows].tolist()
        lists.append({"fraction_percent": fraction, "classes": classes, "patches": patches})
    write_json(path, {"seed": seed, "budgets": lists})
