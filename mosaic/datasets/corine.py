"""Classes and bands of BigEarthNet v2.

Sources of ``corine.csv``: the 19-class nomenclature of BigEarthNet (Sumbul et al. 2021, arXiv:2105.07921),
CORINE Land Cover's level-3 codes, level-1 groups and official colours (Copernicus Land Monitoring Service); a
class has the colour of its most common code. Layout: reBEN (Clasen et al. 2024, arXiv:2407.03653).
"""

from mosaic.datasets.nomenclature import read_nomenclature

NOMENCLATURE = read_nomenclature("corine.csv")
#: The 19 classes in the order of the nomenclature (TorchGeo's; published models sort by alphabet).
CLASSES = NOMENCLATURE.classes
S1_BANDS: tuple[str, ...] = ("VV", "VH")
#: Sentinel-2 band -> side of its native image in pixels (a patch is 1200 m: 10, 20 or 60 m a pixel).
S2_SIZE: dict[str, int] = {
    "B01": 20, "B02": 120, "B03": 120, "B04": 120, "B05": 60, "B06": 60,
    "B07": 60, "B08": 120, "B8A": 60, "B09": 20, "B11": 60, "B12": 60,
}  # fmt: skip
S2_BANDS: tuple[str, ...] = tuple(S2_SIZE)
#: Side of a patch, metres.
PATCH_METRES = 1200
