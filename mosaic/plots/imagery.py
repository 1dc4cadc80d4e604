"""Pictures of pairs: the gallery of 01_explore_data and nearest neighbours of 04_embeddings_and_coherence."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from mosaic.plots import layout
from mosaic.plots.palette import short_name

#: Range of the true-colour composite in DN (reflectance x 1e4), and its gamma.
OPTICAL_RANGE = (0.0, 2500.0)
OPTICAL_GAMMA = 1.6
#: Range in dB of the red, green and blue channel of the SAR composite.
SAR_RANGES = {"VV": (-20.0, -3.0), "VH": (-27.0, -10.0), "VV−VH": (2.0, 14.0)}
#: What a caption says of the stretches above.
STRETCHES = (
    f"Optical: DN {OPTICAL_RANGE[0]:g} to {OPTICAL_RANGE[1]:g}, gamma {OPTICAL_GAMMA:g}. SAR: "
    + ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in SAR_RANGES.items()).replace("-", "−")
    + " dB as red, green, blue."
)
UNLABELLED = 255
_PAIRS_IN_A_ROW = 6
_MOST_LABELS = 4  # named below a picture; further ones are counted


def true_colour(optical: NDArray) -> NDArray[np.float64]:
    """Stretch DN (..., 3), red, green, blue, to [0, 1] over ``OPTICAL_RANGE`` with ``OPTICAL_GAMMA``."""
    low, high = OPTICAL_RANGE
    return np.clip((np.asarray(optical, float) - low) / (high - low), 0, 1) ** (1 / OPTICAL_GAMMA)


def sar_composite(sar: NDArray) -> NDArray[np.float64]:
    """Turn VV and VH in dB (..., 2, H, W) into RGB (..., H, W, 3) in [0, 1] over ``SAR_RANGES``."""
    vv, vh = np.moveaxis(np.asarray(sar, float), -3, 0)
    low, high = np.transpose(list(SAR_RANGES.values()))
    return np.clip((np.stack([vv, vh, vv - vh], axis=-1) - low) / (high - low), 0, 1)


def gallery(
    optical: NDArray,
    sar: NDArray,
    maps: NDArray | None,
    titles: Sequence[str],
    class_names: Sequence[str],
    colors: Sequence[str],
) -> Figure:
    """Show pairs: true colour, SAR composite, and reference map with the legend of the classes present.

    ``optical`` (n, H, W, 3) is red, green and blue in DN, ``sar`` (n, 2, H, W) VV and VH in dB, ``maps``
    (n, H, W) class indices, 255 where unlabelled; ``colors`` are C hex colours of the map.
    """
    rows = {"Sentinel-2\ntrue colour": true_colour(optical), "Sentinel-1\nVV, VH, VV−VH": sar_composite(sar)}
    if maps is not None:
        table = np.vstack([[to_rgb(color) for color in colors], [0.93] * 3])
        rows["reference\nmap"] = table[np.where(maps == UNLABELLED, len(colors), maps)]
    across = min(_PAIRS_IN_A_ROW, len(titles))
    blocks, side = -(-len(titles) // across), layout.WIDTH / max(across, 3)
    size = (side * across, blocks * (len(rows) * side + 0.25) + 0.5)
    fig, grid = _picture_grid(blocks * len(rows), across, size)
    for row, (name, images) in enumerate(rows.items()):
        for i, image in enumerate(images):
            ax = grid[i // across * len(rows) + row, i % across]
            ax.imshow(image)
            if row == 0:
                ax.set_title(titles[i], fontsize=8.5, fontweight="normal", pad=3)
            if i % across == 0:
                ax.set_ylabel(name, fontsize=8.5)
    if maps is not None:
        shown = {short_name(class_names[i]): color for i, color in enumerate(colors) if (maps == i).any()}
        shown |= {"unlabelled": str(0.93)} if (maps == UNLABELLED).any() else {}
        layout.legend(fig, shown, most=5, handlelength=1)
    return fig


def _picture_grid(down: int, across: int, size: tuple[float, float], pad: float = 0.02) -> tuple[Figure, Any]:
    bare = {"xticks": [], "yticks": [], "frame_on": False}
    fig, grid = plt.subplots(down, across, figsize=size, squeeze=False, subplot_kw=bare)
    fig.set_layout_engine("constrained", w_pad=pad, h_pad=0.02, wspace=0, hspace=0)
    return fig, grid


def neighbour_gallery(
    queries: NDArray,
    neighbours: NDArray,
    query_labels: NDArray,
    neighbour_labels: NDArray,
    class_names: Sequence[str],
) -> Figure:
    """Show queries and their nearest neighbours, with labels; the frame's colour is the Jaccard index.

    A tick marks a label that the neighbour shares with the query. ``queries`` (q, H, W, 3) and ``neighbours``
    (q, k, H, W, 3), nearest first, are red, green and blue in DN; labels (q, C) and (q, k, C) are 0 or 1.
    """
    count, k = neighbours.shape[:2]
    side = layout.WIDTH / max(k + 1, 4)
    lines = min(_MOST_LABELS + 1, int(max(query_labels.sum(1).max(), neighbour_labels.sum(2).max())))
    size = (side * (k + 1), count * (side + 0.2 + 0.125 * lines) + 0.1)
    fig, grid = _picture_grid(count, k + 1, size, pad=0.05)
    shades = sns.color_palette("mako_r", as_cmap=True)
    for i, query in enumerate(query_labels > 0):
        _picture(grid[i, 0], queries[i], "query", "white", _label_lines(query, ~query, class_names))
        for ax, image, labels in zip(grid[i, 1:], neighbours[i], neighbour_labels[i] > 0, strict=True):
            jaccard = (query & labels).sum() / max((query | labels).sum(), 1)
            color = shades(0.1 + 0.75 * jaccard)
            _picture(ax, image, f"Jaccard {jaccard:.2f}", color, _label_lines(labels, query, class_names))
    return fig


def _picture(ax: Axes, image: NDArray, title: str, frame: object, text: str) -> None:
    ax.imshow(true_colour(image))
    ax.set_title(title, fontsize=8, fontweight="normal", pad=3)
    ax.set_xlabel(text, fontsize=6.8, labelpad=2, linespacing=1.05)
    ax.set_frame_on(True)
    ax.spines[:].set(visible=True, color=frame, linewidth=3)


def _label_lines(labels: NDArray, shared: NDArray, class_names: Sequence[str]) -> str:
    """Return one line a label, shared ones first and ticked; the last ones are counted."""
    order = sorted(np.flatnonzero(labels).tolist(), key=lambda i: not shared[i])
    lines = [("✓ " if shared[i] else "") + short_name(class_names[i], 20) for i in order]
    rest = [f"+ {len(lines) - _MOST_LABELS} more"] if len(lines) > _MOST_LABELS else []
    return "\n".join(lines[:_MOST_LABELS] + rest)
