import math

from mosaic.utils.words import count, effect


def test_a_noun_is_plural_but_for_one():
    assert [count(number, "seed") for number in (0, 1, 3)] == ["0 seeds", "1 seed", "3 seeds"]
    assert [count(2000, noun) for noun in ("class", "patch")] == ["2,000 classes", "2,000 patches"]


def test_an_effect_has_its_interval_or_stands_alone():
    assert effect(0.0123, -0.003, 0.0271) == "+0.012 [-0.003, +0.027]"
    assert effect(-0.5, math.nan, math.nan) == "-0.500"
