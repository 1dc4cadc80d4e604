import matplotlib as mpl
import numpy as np
from matplotlib.colors import to_rgb

from mosaic.datasets.nomenclature import CORINE
from mosaic.methods import METHODS
from mosaic.plots import palette


def contrast(color):
    """Contrast ratio with white of WCAG 2.1, 1 to 21."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(color)]
    return 1.05 / (float(np.dot(linear, [0.2126, 0.7152, 0.0722])) + 0.05)


def test_theme_keeps_figures_white_on_a_dark_page():
    with mpl.rc_context({"figure.facecolor": "black", "savefig.facecolor": "auto"}):
        palette.use_theme()
        assert {mpl.rcParams[f"{part}.facecolor"] for part in ("figure", "axes", "savefig")} == {"white"}


def test_every_method_of_the_table_can_be_told_apart_without_colour():
    styles = [palette.method_style(name) for name in METHODS]
    assert len({(style["marker"], style["linestyle"]) for style in styles}) == len(METHODS)
    assert [style["label"] for style in styles] == [method.title for method in METHODS.values()]


def test_families_share_a_hue_and_mosaic_has_the_strongest_line():
    styles = {name: palette.method_style(name) for name in METHODS}
    mosaic, ablation = styles.pop("mosaic"), styles["mosaic_no_intra"]
    assert mosaic["color"] == palette.OKABE_ITO["vermillion"].lower()
    assert mosaic["linewidth"] > max(style["linewidth"] for style in styles.values())
    assert contrast(ablation["color"]) < contrast(mosaic["color"])
    assert ablation["markerfacecolor"] == "white"
    assert mosaic["markerfacecolor"] == mosaic["color"]
    assert contrast(palette.GREY) >= 4.5  # grey text is readable
    families = ("iai", "supervised_late", "supcon", "random", "mosaic")
    assert len({palette.method_style(name)["color"] for name in families}) == 5


def test_a_method_that_is_no_row_is_black_and_always_the_same():
    style = palette.method_style("my_method", markersize=9)
    assert style == palette.method_style("my_method", markersize=9)
    assert (style["label"], style["color"], style["markersize"]) == ("my method", "#000000", 9)


def test_groups_get_the_colour_their_name_suggests():
    colors = palette.group_colors(list(CORINE.level1))
    assert colors["Water bodies"] == palette.OKABE_ITO["blue"]
    assert colors["Forest and seminatural areas"] == palette.OKABE_ITO["bluish green"]
    assert len(set(colors.values())) == len(colors)
    # groups of any number and name get colours
    colors = palette.group_colors(["Water", "More water", *"abcdefghij"])
    assert list(colors)[:2] == ["Water", "More water"]
    assert colors["Water"] == palette.OKABE_ITO["blue"] != colors["More water"]
    assert len(colors) == 12
    assert colors["j"] == palette.GREY


def test_classes_follow_their_groups_and_strays_come_last():
    grouped = palette.grouped_classes(["Marine waters", "Stray", "Pastures", "Urban fabric"], CORINE.level1)
    assert list(grouped) == ["Urban fabric", "Pastures", "Marine waters", "Stray"]
    assert grouped["Stray"] == "Other"
    colors = palette.class_colors(list(grouped), CORINE.level1)
    assert list(colors) == list(grouped)
    assert colors["Stray"] == palette.GREY
