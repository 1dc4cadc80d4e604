"""Colours, markers and short names: one look for every figure, readable without telling colours apart."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.colors import to_hex, to_rgb

from mosaic.methods import METHODS

#: Okabe and Ito (2008), "Color Universal Design": colours that stay apart in every common colour vision.
OKABE_ITO = {
    "black": "#000000",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "bluish green": "#009E73",
    "yellow": "#F0E442",
    "blue": "#0072B2",
    "vermillion": "#D55E00",
    "reddish purple": "#CC79A7",
}
GREY = "#767676"  # the lightest grey that keeps text at 4.5 : 1 on white
LIGHT_GREY = "#D4D4D4"
SPLITS = {
    "train": (OKABE_ITO["blue"], "o"),
    "validation": (OKABE_ITO["orange"], "s"),
    "test": (OKABE_ITO["vermillion"], "^"),
}
VERDICTS = {
    "supported": (OKABE_ITO["bluish green"], "o", "✓"),
    "not supported": (OKABE_ITO["vermillion"], "D", "✗"),
    "undecided": (GREY, "s", "?"),
}


def use_theme() -> None:
    """Set the look of every figure; called once, at the start of a notebook."""
    white = {f"{part}.facecolor": "white" for part in ("figure", "axes", "savefig")}  # also on a dark page
    sns.set_theme(
        context="notebook",
        style="ticks",
        palette="colorblind",
        font_scale=0.85,
        rc=white
        | {
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titleweight": "bold",
            "axes.titlesize": "medium",
            "legend.frameon": False,
            "axes.grid.axis": "both",
            "grid.color": "#E6E6E6",
            "svg.hashsalt": "mosaic",
        },
    )
    mpl.rcParams["image.interpolation"] = "nearest"


def tint(color: str, white: float) -> str:
    """Mix a colour with white; ``white`` in [0, 1] is the share of white."""
    red, green, blue = (channel + (1 - channel) * white for channel in to_rgb(color))
    return to_hex((red, green, blue))


# ------------------------------------------------------------------------------------------------- methods

_FAMILIES = {
    "random": GREY,
    "supervised": OKABE_ITO["bluish green"],
    "self-supervised": OKABE_ITO["blue"],
    "label-contrastive": OKABE_ITO["reddish purple"],
    "mosaic": OKABE_ITO["vermillion"],
    "ablation": OKABE_ITO["vermillion"],
    "pretrained": OKABE_ITO["orange"],
}
_SOLID, _DASHED, _DOTTED, _MIXED = "-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4))
_MARKERS = "osD^vP<>Xp*h"
_LOOKS = [(marker, dashes) for dashes in (_DASHED, _SOLID, _DOTTED, _MIXED) for marker in _MARKERS]
# name: share of white in the family's hue, marker, dashes; no two rows share both marker and dashes
_STYLES: dict[str, tuple[float, str, Any]] = {
    "random": (0.0, "X", _DOTTED),
    "supervised_s1": (0.35, "<", _DOTTED),
    "supervised_s2": (0.2, ">", _MIXED),
    "supervised_early": (0.0, "v", _DASHED),
    "supervised_late": (0.0, "^", _SOLID),
    "simclr_s1": (0.45, "d", _DOTTED),
    "simclr_s2": (0.3, "D", _MIXED),
    "inter": (0.15, "p", _DASHED),
    "iai": (0.0, "s", _SOLID),
    "supcon": (0.0, "h", _DASHED),
    "mosaic": (0.0, "o", _SOLID),
    "mosaic_no_intra": (0.25, "P", _DASHED),
    "mosaic_no_inter": (0.25, "X", _DASHED),
    "mosaic_temporal": (0.1, "o", _MIXED),
    "mosaic_classify": (0.1, "D", _SOLID),
}
# further rows take, in the order of the table, what is free
_FREE = iter([look for look in _LOOKS if look not in {style[1:] for style in _STYLES.values()}])
_STYLES |= {name: (0.2, *next(_FREE)) for name in METHODS if name not in _STYLES}


@dataclass(frozen=True)
class MethodStyle:
    """How one method is drawn: the same in every figure, whichever other methods stand beside it.

    Attributes:
        label: name in legends.
        family: as in the table of methods; gives the hue.
        color: hex.
        marker: matplotlib marker; with ``dashes`` it tells methods apart without colour.
        dashes: matplotlib line style.
        width: line width in points; the method of the study is drawn stronger.
    """

    label: str
    family: str
    color: str
    marker: str
    dashes: Any
    width: float

    def line(self) -> dict[str, Any]:
        """Return keywords for ``Axes.plot``; an ablation has hollow markers."""
        return {
            "color": self.color,
            "marker": self.marker,
            "linestyle": self.dashes,
            "linewidth": self.width,
            "markerfacecolor": "white" if self.family == "ablation" else self.color,
            "markeredgecolor": self.color,
            "markersize": 5.5,
            "zorder": 3,
        }


def method_style(name: str) -> MethodStyle:
    """Return the style of a method of the table.

    A name that is no row of the table is drawn black, with a marker that follows from the name.
    """
    row = METHODS.get(name)
    label, family = (row.title, row.family) if row else (name.replace("_", " "), "other")
    code = zlib.crc32(name.encode())
    white, marker, dashes = _STYLES.get(name, (0.2, *_LOOKS[code % len(_LOOKS)]))
    color = tint(_FAMILIES.get(family, OKABE_ITO["black"]), white)
    return MethodStyle(label, family, color, marker, dashes, 2.4 if family == "mosaic" else 1.5)


def method_order(names: Sequence[str]) -> list[str]:
    """Return the distinct names in the order of the table of methods; others last, as they came."""
    known = list(METHODS)
    return sorted(dict.fromkeys(names), key=lambda name: known.index(name) if name in known else len(known))


# ------------------------------------------------------------------------------------------------- classes

_SHORT = {
    "Industrial or commercial units": "Industry, commerce",
    "Complex cultivation patterns": "Complex cultivation",
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        "Agriculture + nature"
    ),
    "Natural grassland and sparsely vegetated areas": "Grassland, sparse",
    "Moors, heathland and sclerophyllous vegetation": "Moors, heathland",
    "Transitional woodland, shrub": "Woodland, shrub",
    "Beaches, dunes, sands": "Beaches, dunes",
}
_NEAR = (  # a colour that the name of a group suggests
    ("artificial|urban|built", "vermillion"),
    ("agricult|crop", "orange"),
    ("forest|natural|vegetat", "bluish green"),
    ("wetland", "reddish purple"),
    ("water", "blue"),
)


def short_name(name: str, most: int = 22) -> str:
    """Return a class name that fits beside an axis.

    A few long names have a fixed short form; the others lose what follows "with" and filler words, and are
    cut at a word when still longer than ``most`` characters.
    """
    if name in _SHORT:
        return _SHORT[name]
    text = re.sub(r",? with .*", "", name)
    text = re.sub(r"[ /]*\b(areas?|units?|patterns?)\b", "", text).replace(" and ", " + ").strip(" ,") or name
    if len(text) <= most:
        return text
    return text[: most - 1].rsplit(" ", 1)[0].rstrip(" ,+") + "…"


def group_colors(groups: Sequence[str]) -> dict[str, str]:
    """Return an Okabe-Ito colour for each group of classes, the one its name suggests where that is free."""
    free = [name for name in OKABE_ITO if name not in ("black", "yellow")]
    chosen: dict[str, str] = {}
    for group in groups:
        for pattern, color in _NEAR:
            if re.search(pattern, group, re.IGNORECASE) and color in free:
                free.remove(color)
                chosen[group] = OKABE_ITO[color]
                break
    rest = iter([OKABE_ITO[name] for name in free] + [GREY] * len(groups))
    return {group: chosen[group] if group in chosen else next(rest) for group in groups}


def grouped_classes(class_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return class -> group, classes ordered by group; a class of no group comes last, under ``"Other"``."""
    found = {name: group for group, names in groups.items() for name in names if name in class_names}
    return found | {name: "Other" for name in class_names if name not in found}


def class_group_colors(class_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return class -> colour of its group, in the order of ``grouped_classes``; grey without a group."""
    colors = group_colors(list(groups)) | {"Other": GREY}
    return {name: colors[group] for name, group in grouped_classes(class_names, groups).items()}
