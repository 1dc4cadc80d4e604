"""Classes, CORINE codes, colours and bands of BigEarthNet v2.

Sources: the 19-class nomenclature of BigEarthNet (Sumbul et al. 2021, arXiv:2105.07921), CORINE Land Cover's
level-3 codes and official colours (Copernicus Land Monitoring Service), reBEN (Clasen et al. 2024,
arXiv:2407.03653) for names and layout.
"""

import numpy as np

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
#: Class index of pixels without a class: no data, or a code that no class covers.
IGNORE = 255
#: CORINE code -> class index, uint8 (1000,).
CLASS_OF_CODE = np.full(1000, IGNORE, np.uint8)
CLASS_OF_CODE[list(CORINE_TO_CLASS)] = list(CORINE_TO_CLASS.values())

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
