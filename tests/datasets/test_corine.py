from mosaic.datasets import corine


def test_classes_are_torchgeos_in_torchgeos_order():
    from torchgeo.datasets import BigEarthNetV2

    assert list(corine.CLASSES) == list(BigEarthNetV2.class_set)
    assert BigEarthNetV2.clc_codes == {
        code: i for i, codes in enumerate(corine.NOMENCLATURE.codes.values()) for code in codes
    }


def test_codes_without_a_class_are_ignored():
    table = corine.NOMENCLATURE.class_of_code
    assert table[0] == table[999] == table[122] == 255
    assert [table[code] for code in (112, 211, 523)] == [0, 2, 18]


def test_groups_cover_every_class_once():
    grouped = [name for names in corine.NOMENCLATURE.level1.values() for name in names]
    assert grouped == list(corine.CLASSES)
    assert all(set(names) <= set(corine.CLASSES) for names in corine.NOMENCLATURE.confusable.values())
