"""Classes, bands and published classification protocol of SEN12MS.

Sources: Schmitt et al. 2019 (SEN12MS, doi:10.5194/isprs-annals-IV-2-W7-153-2019) for layers and layout;
Schmitt and Wu 2021 (arXiv:2104.00704) for the simplified scheme and the threshold of 10 %; the user guide of
MCD12Q1 (collection 6) for the IGBP codes 1 to 17 and colours of ``igbp.csv``.
"""

import numpy as np
from numpy.typing import NDArray

from mosaic.datasets.nomenclature import read_nomenclature

NOMENCLATURE = read_nomenclature("igbp.csv")
#: A patch carries a label whose class covers at least this share of it.
COVERAGE = 0.10
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


def labels_of(classes: NDArray[np.uint8]) -> list[str]:
    """Return the classes that cover at least 10 % of a patch, shares of their codes added up.

    Args:
        classes: class indices of any shape; 255 counts as none.
    """
    counts = np.bincount(classes.ravel(), minlength=256)
    return [name for i, name in enumerate(NOMENCLATURE.classes) if counts[i] / classes.size >= COVERAGE]
