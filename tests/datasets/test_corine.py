import datetime

import numpy as np
import pytest

from mosaic.datasets import corine as facts
from mosaic.utils.errors import ArchiveError


def test_classes_are_torchgeos_in_torchgeos_order():
    from torchgeo.datasets import BigEarthNetV2

    assert list(facts.CLASSES) == list(BigEarthNetV2.class_set)
    assert BigEarthNetV2.clc_codes == facts.CORINE_TO_CLASS


def test_codes_without_a_class_are_ignored():
    table = facts.corine_lut()
    assert table[0] == table[999] == table[122] == 255
    assert [table[code] for code in (112, 211, 523)] == [0, 2, 18]
    assert not set(facts.UNLABELLED_CODES) & set(facts.CORINE_TO_CLASS)


def test_groups_cover_every_class_once():
    grouped = [name for names in facts.LEVEL1.values() for name in names]
    assert grouped == list(facts.CLASSES)
    assert all(set(names) <= set(facts.CLASSES) for names in facts.CONFUSABLE.values())


def test_label_vector_and_unknown_label():
    vector = facts.labels_to_vector(["Pastures", "Marine waters"])
    np.testing.assert_array_equal(np.flatnonzero(vector), [4, 18])
    with pytest.raises(ArchiveError, match="'Pasture'; did you mean 'Pastures'"):
        facts.labels_to_vector(["Pasture"])


def test_names_are_parsed_as_numbers():
    optical = facts.parse_patch_id("S2A_MSIL2A_20170613T101031_N9999_R022_T33UUP_05_43")
    radar = facts.parse_s1_name("S1A_IW_GRDH_1SDV_20170614T165043_33UUP_5_43")
    assert optical == facts.PatchName("S2A", datetime.date(2017, 6, 13), "33UUP", 5, 43)
    assert (optical.scene, optical.location) == ("33UUP_20170613", "33UUP_5_43")
    assert radar.location == optical.location
    with pytest.raises(ArchiveError, match="does not follow the official naming"):
        facts.parse_patch_id("S2A_33UUP_5_43")
