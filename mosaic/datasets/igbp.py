"""Land-cover classes, bands and published classification protocol of SEN12MS.

Sources: Schmitt et al. 2019 (SEN12MS, doi:10.5194/isprs-annals-IV-2-W7-153-2019) for layers and layout;
Schmitt and Wu 2021 (arXiv:2104.00704) for the simplified scheme and the threshold of 10 %; the user guide of
MCD12Q1 (collection 6) for IGBP codes and colours.
"""

import numpy as np
from numpy.typing import NDArray

#: Simplified class -> (IGBP codes 1 to 17, colour), in the order of the published scheme.
_TABLE: dict[str, tuple[tuple[int, ...], str]] = {
    "Forest": ((1, 2, 3, 4, 5), "#009900"),
    "Shrubland": ((6, 7), "#c6b044"),
    "Savanna": ((8, 9), "#fbff13"),
    "Grassland": ((10,), "#b6ff05"),
    "Wetlands": ((11,), "#27ff87"),
    "Croplands": ((12, 14), "#c24f44"),
    "Urban and built-up": ((13,), "#a5a5a5"),
    "Snow and ice": ((15,), "#69fff8"),
    "Barren": ((16,), "#f9ffa4"),
    "Water": ((17,), "#1c0dff"),
}

#: The ten classes.
CLASSES: tuple[str, ...] = tuple(_TABLE)
CLASS_COLORS: tuple[str, ...] = tuple(color for _, color in _TABLE.values())
IGBP_TO_CLASS: dict[int, int] = {
    code: index for index, (codes, _) in enumerate(_TABLE.values()) for code in codes
}
#: Class index of pixels whose code is none of 1 to 17.
IGNORE = 255
#: IGBP code -> class index, uint8 (65536,).
CLASS_OF_CODE = np.full(1 << 16, IGNORE, np.uint8)
CLASS_OF_CODE[list(IGBP_TO_CLASS)] = list(IGBP_TO_CLASS.values())
#: A patch carries a label whose class covers at least this share of it.
COVERAGE = 0.10

#: Coarse group -> classes; for panels and groups of figures.
GROUPS: dict[str, tuple[str, ...]] = {
    "Woody vegetation": CLASSES[0:3],
    "Low vegetation": CLASSES[3:6],
    "Built or bare": CLASSES[6:9],
    "Water": CLASSES[9:10],
}
#: Groups whose members are easily taken for each other.
CONFUSABLE: dict[str, tuple[str, ...]] = {
    "tree cover": ("Forest", "Savanna", "Shrubland"),
    "herbs and crops": ("Grassland", "Croplands", "Savanna"),
    "bare and built": ("Barren", "Urban and built-up", "Shrubland"),
    "wet": ("Wetlands", "Water", "Grassland"),
}

#: Class that datasets share -> classes; see :data:`mosaic.datasets.corine.COARSE`. Snow is in no other.
COARSE: dict[str, tuple[str, ...]] = {
    "Forest": ("Forest",),
    "Shrubs and scattered trees": ("Shrubland", "Savanna"),
    "Grassland": ("Grassland",),
    "Wetlands": ("Wetlands",),
    "Croplands": ("Croplands",),
    "Urban": ("Urban and built-up",),
    "Barren": ("Barren",),
    "Water": ("Water",),
}

S1_BANDS: tuple[str, ...] = ("VV", "VH")
#: All thirteen bands, in the order of the files; top of atmosphere, and resampled to 10 m by the authors.
S2_BANDS: tuple[str, ...] = (
    "B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12",
)  # fmt: skip
#: Side of a patch in pixels of 10 m.
SIDE = 256
#: Official split -> file that lists its patches.
LISTS = {"train": "train_list.txt", "test": "test_list.txt"}
SEASONS: tuple[str, ...] = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
#: Band -> mean and standard deviation of the training split, from the code of Schmitt and Wu 2021 (DN; dB cut
#: to -25..0). It gives none for B01, B09 and B10.
OFFICIAL_MOMENTS: dict[str, tuple[float, float]] = {
    "B02": (1226.42, 741.63), "B03": (1137.38, 740.88), "B04": (1139.68, 960.10), "B05": (1351.00, 946.76),
    "B06": (1932.91, 985.53), "B07": (2211.16, 1082.43), "B08": (2154.98, 1057.76), "B8A": (2409.11, 1136.19),
    "B11": (2001.86, 1132.79), "B12": (1356.08, 991.48), "VV": (-11.77, 4.53), "VH": (-18.29, 4.36),
}  # fmt: skip


def labels_of(classes: NDArray[np.uint8]) -> list[str]:
    """Return the classes that cover at least 10 % of a patch, shares of their codes added up.

    Args:
        classes: class indices of any shape; 255 counts as none.
    """
    shares = np.bincount(classes.ravel(), minlength=len(CLASSES))[: len(CLASSES)] / max(1, classes.size)
    return [name for name, share in zip(CLASSES, shares, strict=True) if share >= COVERAGE]
