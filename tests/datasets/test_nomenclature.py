from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets.nomenclature import CORINE, IGBP


def test_classes_are_torchgeos_and_codes_without_a_class_are_ignored():
    assert list(CORINE.classes) == list(BigEarthNetV2.class_set)
    known = {code: index for code, index in enumerate(CORINE.class_of_code) if index != 255}
    assert known == BigEarthNetV2.clc_codes


def test_groups_cover_every_class_once():
    grouped = [name for names in CORINE.level1.values() for name in names]
    assert grouped == list(CORINE.classes)
    assert all(set(names) <= set(CORINE.classes) for names in CORINE.confusable.values())


def test_coarse_classes_have_the_same_names_in_both_archives_and_each_class_at_most_one():
    assert list(CORINE.coarse) == list(IGBP.coarse)
    for nomenclature, left in ((CORINE, set()), (IGBP, {"Snow and ice"})):
        members = [name for names in nomenclature.coarse.values() for name in names]
        assert len(members) == len(set(members))
        assert set(nomenclature.classes) - set(members) == left


def test_the_simplified_scheme_is_the_published_one():
    scheme = {
        "Forest": {1, 2, 3, 4, 5}, "Shrubland": {6, 7}, "Savanna": {8, 9}, "Grassland": {10},
        "Wetlands": {11}, "Croplands": {12, 14}, "Urban and built-up": {13}, "Snow and ice": {15},
        "Barren": {16}, "Water": {17},
    }  # fmt: skip
    assert {name: set(codes) for name, codes in IGBP.codes.items()} == scheme
