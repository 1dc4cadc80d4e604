"""Facts of BigEarthNet v2 and CORINE: classes, codes, colours, bands and the grammar of patch names.

Sources: the 19-class nomenclature of BigEarthNet (Sumbul et al. 2021, arXiv:2105.07921), CORINE Land Cover's
level-3 codes and official colours (Copernicus Land Monitoring Service), reBEN (Clasen et al. 2024,
arXiv:2407.03653) for names and layout.
"""

import datetime
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mosaic.utils.errors import ArchiveError, suggest

#: Class -> (CORINE level-3 codes, colour of its most common code).
_TABLE: dict[str, tuple[tuple[int, ...], str]] = {
    "Urban fabric": ((111, 112), "#ff0000"),
    "Industrial or commercial units": ((121,), "#cc4df2"),
    "Arable land": ((211, 212, 213), "#ffffa8"),
    "Permanent crops": ((221, 222, 223, 241), "#e68000"),
    "Pastures": ((231,), "#e6e64d"),
    "Complex cultivation patterns": ((242,), "#ffe64d"),
    "Land principally occupied by agriculture, with significant areas of natural vegetation": (
        (243,),
        "#e6cc4d",
    ),
    "Agro-forestry areas": ((244,), "#f2cca6"),
    "Broad-leaved forest": ((311,), "#80ff00"),
    "Coniferous forest": ((312,), "#00a600"),
    "Mixed forest": ((313,), "#4dff00"),
    "Natural grassland and sparsely vegetated areas": ((321, 333), "#ccf24d"),
    "Moors, heathland and sclerophyllous vegetation": ((322, 323), "#a6ff80"),
    "Transitional woodland, shrub": ((324,), "#a6f200"),
    "Beaches, dunes, sands": ((331,), "#e6e6e6"),
    "Inland wetlands": ((411, 412), "#a6a6ff"),
    "Coastal wetlands": ((421, 422), "#ccccff"),
    "Inland waters": ((511, 512), "#00ccf2"),
    "Marine waters": ((521, 522, 523), "#e6f2ff"),
}

#: The 19 classes in the order of the nomenclature (TorchGeo's; published models sort by alphabet).
CLASSES: tuple[str, ...] = tuple(_TABLE)
CLASS_COLORS: tuple[str, ...] = tuple(color for _, color in _TABLE.values())
CLASS_CODES: dict[str, tuple[int, ...]] = {name: codes for name, (codes, _) in _TABLE.items()}
CORINE_TO_CLASS: dict[int, int] = {
    code: index for index, codes in enumerate(CLASS_CODES.values()) for code in codes
}
#: CORINE codes that no class covers.
UNLABELLED_CODES: tuple[int, ...] = (122, 123, 124, 131, 132, 133, 141, 142, 332, 334, 335, 423, 999)
#: Class index of pixels without a class: no data, or a code of :data:`UNLABELLED_CODES`.
IGNORE = 255

#: CORINE level-1 group -> classes.
LEVEL1: dict[str, tuple[str, ...]] = {
    "Artificial surfaces": CLASSES[0:2],
    "Agricultural areas": CLASSES[2:8],
    "Forest and seminatural areas": CLASSES[8:15],
    "Wetlands": CLASSES[15:17],
    "Water bodies": CLASSES[17:19],
}
#: Groups whose members are easily taken for each other.
CONFUSABLE: dict[str, tuple[str, ...]] = {
    "forests": (CLASSES[8], CLASSES[9], CLASSES[10], CLASSES[13]),
    "grasslands and fields": (CLASSES[2], CLASSES[4], CLASSES[11]),
    "agricultural mosaics": (CLASSES[5], CLASSES[6], CLASSES[7]),
    "wetlands and waters": CLASSES[15:19],
}

#: Class that datasets share -> classes. CORINE tells how land is used, IGBP what grows on it, so the match is
#: by meaning: scrub and scattered trees are one class, and mosaics of fields count as fields.
COARSE: dict[str, tuple[str, ...]] = {
    "Forest": CLASSES[8:11],
    "Shrubs and scattered trees": (CLASSES[7], CLASSES[12], CLASSES[13]),
    "Grassland": (CLASSES[4], CLASSES[11]),
    "Wetlands": CLASSES[15:17],
    "Croplands": (CLASSES[2], CLASSES[3], CLASSES[5], CLASSES[6]),
    "Urban": CLASSES[0:2],
    "Barren": (CLASSES[14],),
    "Water": CLASSES[17:19],
}

S1_BANDS: tuple[str, ...] = ("VV", "VH")
#: Sentinel-2 band -> side of its native image in pixels (a patch is 1200 m: 10, 20 or 60 m a pixel).
S2_SIZE: dict[str, int] = {
    "B01": 20, "B02": 120, "B03": 120, "B04": 120, "B05": 60, "B06": 60,
    "B07": 60, "B08": 120, "B8A": 60, "B09": 20, "B11": 60, "B12": 60,
}  # fmt: skip
S2_BANDS: tuple[str, ...] = tuple(S2_SIZE)
#: Side of a patch, metres.
PATCH_METRES = 1200
SPLITS: tuple[str, ...] = ("train", "validation", "test")

PATCH_PATTERN = (
    r"^(?P<satellite>S2[AB])_MSIL2A_(?P<date>\d{8})T\d{6}_N\d{4}_R\d{3}_T(?P<tile>\w{5})"
    r"_(?P<column>\d{1,2})_(?P<row>\d{1,2})$"
)
S1_PATTERN = (
    r"^(?P<satellite>S1[AB])_IW_GRDH_1SDV_(?P<date>\d{8})T\d{6}_(?P<tile>\w{5})"
    r"_(?P<column>\d{1,2})_(?P<row>\d{1,2})$"
)


def corine_lut() -> NDArray[np.uint8]:
    """Return a table (1000,) from CORINE code to class index; every other code, 0 included, to 255."""
    table = np.full(1000, IGNORE, np.uint8)
    for code, index in CORINE_TO_CLASS.items():
        table[code] = index
    return table


def labels_to_vector(names: Iterable[str]) -> NDArray[np.uint8]:
    """Turn class names into a vector (19,) of 0 and 1.

    Raises:
        ArchiveError: for a name outside the nomenclature.
    """
    vector = np.zeros(len(CLASSES), np.uint8)
    for name in names:
        if name not in CLASS_CODES:
            raise ArchiveError(f"unknown class {name!r}{suggest(name, CLASSES)}")
        vector[CLASSES.index(name)] = 1
    return vector


@dataclass(frozen=True)
class PatchName:
    """What the name of a patch says.

    Attributes:
        satellite: ``S1A``, ``S1B``, ``S2A`` or ``S2B``.
        date: day of acquisition.
        tile: Sentinel-2 tile of the military grid, e.g. ``33UUP``.
        column: place in the tile, counted eastward in patches of 1200 m.
        row: place in the tile, counted southward.
    """

    satellite: str
    date: datetime.date
    tile: str
    column: int
    row: int

    @property
    def scene(self) -> str:
        """Tile and date: what shares season, sun and atmosphere."""
        return f"{self.tile}_{self.date:%Y%m%d}"

    @property
    def location(self) -> str:
        """Tile, column and row: the same ground on any date."""
        return f"{self.tile}_{self.column}_{self.row}"


def parse_patch_id(patch_id: str) -> PatchName:
    """Parse a Sentinel-2 patch name, e.g. ``S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_75_43``.

    Raises:
        ArchiveError: when it does not follow the grammar.
    """
    return _parse(PATCH_PATTERN, patch_id, "patch_id")


def parse_s1_name(s1_name: str) -> PatchName:
    """Parse a Sentinel-1 patch name, whose column and row are not zero-padded.

    Raises:
        ArchiveError: when it does not follow the grammar.
    """
    return _parse(S1_PATTERN, s1_name, "s1_name")


def _parse(pattern: str, name: str, what: str) -> PatchName:
    match = re.match(pattern, name)
    if match is None:
        raise ArchiveError(f"{what} {name!r} does not follow the official naming ({pattern})")
    date = datetime.datetime.strptime(match["date"], "%Y%m%d").date()
    return PatchName(match["satellite"], date, match["tile"], int(match["column"]), int(match["row"]))
