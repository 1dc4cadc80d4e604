"""Colours, markers and short names, the same in every figure and readable without telling colours apart."""

import textwrap
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

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


def look(color: str, marker: str = "o", **more: Any) -> dict[str, Any]:
    """Return keywords of ``Axes.plot`` for markers without a line, of a colour of ``OKABE_ITO`` or any."""
    return {"color": OKABE_ITO.get(color, color), "marker": marker, "linestyle": "", **more}


#: A few series that are not methods, e.g. sensors or archives.
SERIES = (look("blue"), look("orange", "s"), look("bluish green", "^"), look("reddish purple", "D"))
SPLITS = {"train": look("blue"), "validation": look("orange", "s"), "test": look("vermillion", "^")}
#: Verdict -> look and sign.
VERDICTS = {
    "supported": (look("bluish green"), "✓"),
    "too small to matter": (look("blue"), "≈"),
    "not supported": (look("vermillion", "D"), "✗"),
    "undecided": (look(GREY, "s"), "?"),
    "not tested": (look(GREY, "s"), "–"),
}


def use_theme() -> None:
    """Set the look of every figure; called once, at the start of a notebook."""
    rc: dict[str, Any] = {f"{part}.facecolor": "white" for part in ("figure", "axes", "savefig")}
    rc |= {"axes.spines.top": False, "axes.spines.right": False, "image.interpolation": "nearest"}
    rc |= {"axes.titleweight": "bold", "axes.titlesize": "medium"}
    rc |= {"legend.frameon": False, "grid.color": "#E6E6E6"}
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.85, rc=rc)


def tint(color: str, white: float) -> str:
    """Mix a colour with white; ``white`` in [0, 1] is the share of white."""
    red, green, blue = (channel + (1 - channel) * white for channel in to_rgb(color))
    return to_hex((red, green, blue))


_FAMILIES = {
    "random": GREY,
    "supervised": OKABE_ITO["bluish green"],
    "self-supervised": OKABE_ITO["blue"],
    "label-contrastive": OKABE_ITO["reddish purple"],
    "mosaic": OKABE_ITO["vermillion"],
    "ablation": OKABE_ITO["vermillion"],
    "pretrained": OKABE_ITO["orange"],
}
_MARKERS = "osD^vP<>Xp*"
_DASHES = ("-", (0, (4, 1.6)), (0, (1.2, 1.4)), (0, (5, 1.4, 1.2, 1.4)))


def method_label(name: str) -> str:
    """Return the name of a method in figures."""
    return METHODS[name].title if name in METHODS else name.replace("_", " ")


def method_style(name: str, **changes: Any) -> dict[str, Any]:
    """Return keywords of ``Axes.plot``, with ``changes``: the same look for a method in every figure.

    The family gives the hue; marker and dashes tell methods apart without colour. A name that is no row of
    the table of methods is drawn black.
    """
    family = METHODS[name].family if name in METHODS else "other"
    relatives = [other for other, method in METHODS.items() if method.family == family]
    # ablations share the hue of their family with MoSAiC and are paler
    shade = relatives.index(name) + (family == "ablation") if relatives else 0
    color = tint(_FAMILIES.get(family, OKABE_ITO["black"]), min(0.08 * shade, 0.4))
    number = list(METHODS).index(name) if name in METHODS else zlib.crc32(name.encode())
    style = {"label": method_label(name), "color": color, "markeredgecolor": color, "markersize": 5.5}
    style |= {"marker": _MARKERS[number % 11], "linestyle": _DASHES[number % 4], "zorder": 3}  # 44 pairs
    style |= {"markerfacecolor": "white" if family == "ablation" else color}
    return style | {"linewidth": 2.4 if family == "mosaic" else 1.5} | changes


def method_order(names: Sequence[str]) -> list[str]:
    """Return the distinct names in the order of the table of methods; others last, as they came."""
    known = list(METHODS)
    return sorted(dict.fromkeys(names), key=lambda name: known.index(name) if name in known else len(known))


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
#: Okabe-Ito colour -> groups of classes whose names suggest it.
_GROUPS = {
    "vermillion": ("Artificial surfaces", "Built or bare"),
    "orange": ("Agricultural areas", "Low vegetation"),
    "bluish green": ("Forest and seminatural areas", "Woody vegetation"),
    "reddish purple": ("Wetlands",),
    "blue": ("Water bodies", "Water"),
}


def short_name(name: str, most: int = 22) -> str:
    """Return a class name that fits beside an axis: a fixed short form, or cut at a word."""
    return _SHORT.get(name) or textwrap.shorten(name, most, placeholder="…")


def group_colors(groups: Sequence[str]) -> dict[str, str]:
    """Return a colour for each group of classes: the one its name suggests, or one that is free, or grey."""
    near = {group: OKABE_ITO[color] for color, names in _GROUPS.items() for group in names if group in groups}
    free = (color for name, color in OKABE_ITO.items() if name not in ("black", "yellow"))
    rest = (color for color in free if color not in near.values())
    return {group: near.get(group) or next(rest, GREY) for group in groups}


def grouped_classes(class_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return class -> group, classes ordered by group; a class of no group comes last, under ``"Other"``."""
    grouped = {name: group for group, names in groups.items() for name in names if name in class_names}
    return grouped | {name: "Other" for name in class_names if name not in grouped}


def class_colors(class_names: Sequence[str], groups: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return class -> colour of its group, in the order of ``grouped_classes``; grey without a group."""
    colors = group_colors(list(groups)) | {"Other": GREY}
    return {name: colors[group] for name, group in grouped_classes(class_names, groups).items()}
