"""Pictures of pairs: the gallery of notebook 01 and the nearest neighbours of notebook 04."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from mosaic.plots.layout import WIDTH, legend
from mosaic.plots.palette import GREY, short_name

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


def true_colour(optical: NDArray) -> NDArray[np.float64]:
    """Stretch DN (..., 3), red, green, blue, to [0, 1] over ``OPTICAL_RANGE`` with ``OPTICAL_GAMMA``."""
    low, high = OPTICAL_RANGE
    return np.clip((np.asarray(optical, float) - low) / (high - low), 0, 1) ** (1 / OPTICAL_GAMMA)


def sar_composite(sar: NDArray) -> NDArray[np.float64]:
    """Turn VV and VH in dB (..., 2, H, W) into RGB (..., H, W, 3) in [0, 1] over ``SAR_RANGES``."""
    vv, vh = np.moveaxis(np.asarray(sar, float), -3, 0)
    ranges = SAR_RANGES.values()
    channels = [
        (band - low) / (high - low) for band, (low, high) in zip((vv, vh, vv - vh), ranges, strict=True)
    ]
    return np.clip(np.stack(channels, axis=-1), 0, 1)


def gallery(
    optical: NDArray,
    sar: NDArray,
    maps: NDArray | None,
    titles: Sequence[str],
    class_names: Sequence[str],
    colors: Sequence[str],
    columns: int = 6,
) -> Figure:
    """Show pairs: true colour, SAR composite, and reference map with the legend of the classes present.

    Args:
        optical: DN (n, H, W, 3), red, green, blue.
        sar: dB (n, 2, H, W), VV and VH.
        maps: class index (n, H, W), 255 where unlabelled; None when the archive has no maps.
        titles: n short titles.
        class_names: C names.
        colors: C hex colours of the map.
        columns: most pairs in a row.
    """
    rows = {"Sentinel-2\ntrue colour": true_colour(optical), "Sentinel-1\nVV, VH, VV−VH": sar_composite(sar)}
    if maps is not None:
        table = np.vstack([[to_rgb(color) for color in colors], [0.93] * 3])
        rows["reference\nmap"] = table[np.where(maps == UNLABELLED, len(colors), maps)]
    count, across = len(titles), min(columns, len(titles))
    blocks = -(-count // across)
    side = WIDTH / max(across, 3)
    size = (side * across, blocks * (len(rows) * side + 0.25) + 0.5)
    fig, grid = _picture_grid(blocks * len(rows), across, size)
    for kind, (name, images) in enumerate(rows.items()):
        for i, image in enumerate(images):
            ax = grid[i // across * len(rows) + kind, i % across]
            ax.imshow(image)
            if kind == 0:
                ax.set_title(titles[i], fontsize=8.5, fontweight="normal", pad=3)
            if i % across == 0:
                ax.set_ylabel(name, fontsize=8.5)
    if maps is not None:
        present = [i for i in range(len(colors)) if (maps == i).any()]
        handles = [
            Patch(facecolor=colors[i], edgecolor=GREY, label=short_name(class_names[i])) for i in present
        ]
        if (maps == UNLABELLED).any():
            handles.append(Patch(facecolor=str(0.93), edgecolor=GREY, label="unlabelled"))
        legend(fig, handles, most=5, handlelength=2)
    return fig


def _picture_grid(
    down: int, across: int, size: tuple[float, float], pad: float = 0.02
) -> tuple[Figure, NDArray[np.object_]]:
    fig, grid = plt.subplots(down, across, figsize=size, squeeze=False)
    fig.set_layout_engine("constrained", w_pad=pad, h_pad=0.02, wspace=0, hspace=0)
    for ax in grid.ravel():
        ax.set(xticks=[], yticks=[])
        ax.set_frame_on(False)
    return fig, grid


def neighbour_gallery(
    queries: NDArray,
    neighbours: NDArray,
    query_labels: NDArray,
    neighbour_labels: NDArray,
    class_names: Sequence[str],
    query_titles: Sequence[str] | None = None,
    most_labels: int = 4,
) -> Figure:
    """Show queries and their nearest neighbours, with labels; the frame's colour is the Jaccard index.

    A tick marks a label that the neighbour shares with the query.

    Args:
        queries: DN (q, H, W, 3), red, green, blue.
        neighbours: DN (q, k, H, W, 3), nearest first.
        query_labels: (q, C), 0 or 1.
        neighbour_labels: (q, k, C), 0 or 1.
        class_names: C names.
        query_titles: q short titles, beside the rows.
        most_labels: further labels are counted, not named.
    """
    count, k = neighbours.shape[:2]
    side = WIDTH / max(k + 1, 4)
    lines = min(most_labels + 1, int(max(query_labels.sum(1).max(), neighbour_labels.sum(2).max())))
    size = (side * (k + 1), count * (side + 0.2 + 0.125 * lines) + 0.1)
    fig, grid = _picture_grid(count, k + 1, size, pad=0.05)
    shades = sns.color_palette("mako_r", as_cmap=True)
    for row in range(count):
        own = np.asarray(query_labels[row], bool)
        _picture(grid[row, 0], true_colour(queries[row]), "query", "white")
        grid[row, 0].set_xlabel(_label_lines(own, own, class_names, most_labels, mark=False), **_SMALL)
        if query_titles is not None:
            grid[row, 0].set_ylabel(query_titles[row], fontsize=8)
        for place in range(k):
            theirs = np.asarray(neighbour_labels[row, place], bool)
            either = (own | theirs).sum()
            jaccard = (own & theirs).sum() / either if either else 0.0
            ax = grid[row, place + 1]
            _picture(
                ax,
                true_colour(neighbours[row, place]),
                f"Jaccard {jaccard:.2f}",
                shades(0.1 + 0.75 * jaccard),
            )
            ax.set_xlabel(_label_lines(theirs, own, class_names, most_labels), **_SMALL)
    return fig


_SMALL = {"fontsize": 6.8, "labelpad": 2, "linespacing": 1.05}


def _picture(ax: Axes, image: NDArray, title: str, frame: object) -> None:
    ax.imshow(image)
    ax.set_title(title, fontsize=8, fontweight="normal", pad=3)
    ax.set_frame_on(True)
    for spine in ax.spines.values():
        spine.set(visible=True, color=frame, linewidth=3)


def _label_lines(
    labels: NDArray, shared: NDArray, class_names: Sequence[str], most: int, mark: bool = True
) -> str:
    """Return one line a label, shared ones first and ticked."""
    order = sorted(np.flatnonzero(labels).tolist(), key=lambda i: not shared[i])
    lines = [("✓ " if mark and shared[i] else "") + short_name(class_names[i], 20) for i in order]
    return "\n".join(lines[:most] + ([f"+ {len(lines) - most} more"] if len(lines) > most else []))
