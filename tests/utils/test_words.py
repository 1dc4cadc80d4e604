from mosaic.utils.words import count


def test_a_noun_is_plural_but_for_one():
    assert [count(number, "seed") for number in (0, 1, 3)] == ["0 seeds", "1 seed", "3 seeds"]
    assert [count(2000, noun) for noun in ("class", "patch")] == ["2,000 classes", "2,000 patches"]
