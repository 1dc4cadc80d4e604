import numpy as np
import pytest

from mosaic.evaluation.label_overlap import confusable_pairs, pointwise_mutual_information, strata

NAMES = ("a", "b", "c", "d")
LABELS = np.array(
    [[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1], [0, 0, 0, 1], [0, 1, 0, 0]], dtype=np.uint8
)


def test_strata_by_hand():
    found = {s.name: s for s in strata(LABELS, NAMES, {"ab": ("a", "b"), "cd": ("d", "c")})}
    assert list(found) == ["labels: 1", "labels: 2", "labels: 3-4", "group: ab", "group: cd"]
    assert found["labels: 1"].patches.tolist() == [0, 4, 5]
    assert found["labels: 3-4"].patches.tolist() == [2, 3]
    assert found["labels: 2"].classes.tolist() == [0, 1, 2, 3]
    assert found["group: ab"].patches.tolist() == [0, 1, 2, 3, 5]
    assert found["group: cd"].classes.tolist() == [3, 2]


def test_pairs_need_enough_carriers_of_either_answer():
    labels = np.repeat(LABELS, 10, axis=0)
    # every c also carries b, so that b is no question among c
    assert [of for _, of, _ in confusable_pairs(labels, NAMES, {"bc": ("b", "c")})] == ["c"]
    (pair,) = confusable_pairs(labels, NAMES, {"bc": ("b", "c")}).values()
    assert pair.patches.tolist() == np.flatnonzero(labels[:, 1]).tolist()
    assert pair.classes.tolist() == [2]
    assert not confusable_pairs(labels[1:], NAMES, {"ab": ("b", "a")}, least=11)


def test_mutual_information_is_zero_for_independent_classes_and_positive_for_company():
    random = np.random.default_rng(0)
    alone = random.random((20_000, 2)) < 0.3
    labels = np.column_stack([alone, alone[:, 0]]).astype(np.uint8)
    pmi = pointwise_mutual_information(labels)
    assert np.allclose(pmi, pmi.T)
    assert abs(pmi[0, 1]) < 0.05
    assert pmi[0, 2] == pytest.approx(np.log(1 / 0.3), abs=0.05)
