from mosaic.datasets.nomenclature import CORINE, IGBP


def test_classes_are_torchgeos_in_torchgeos_order():
    from torchgeo.datasets import BigEarthNetV2

    assert list(CORINE.classes) == list(BigEarthNetV2.class_set)
    assert BigEarthNetV2.clc_codes == {
        code: i for i, codes in enumerate(CORINE.codes.values()) for code in codes
    }


def test_codes_without_a_class_are_ignored():
    table = CORINE.class_of_code
    assert table[0] == table[999] == table[122] == 255
    assert [table[code] for code in (112, 211, 523)] == [0, 2, 18]


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
