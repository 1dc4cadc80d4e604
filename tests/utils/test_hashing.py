import pytest

from mosaic.utils.hashing import hash_json


def test_known_value_and_length():
    # sha256 of b'{"a":1}'
    assert (
        hash_json({"a": 1}, length=64) == "015abd7f5cc57a2dd94b7590f04ad8084273905ee33ec5cebeae62276a97f862"
    )
    assert hash_json({"a": 1}) == "015abd7f5cc57a2d"


def test_keys_may_come_in_any_order_values_may_not():
    assert hash_json({"a": 1, "b": [1, 2]}) == hash_json({"b": [1, 2], "a": 1})
    assert hash_json([1, 2]) != hash_json([2, 1])
    assert hash_json({"a": 1}) != hash_json({"a": 1.5})


def test_what_json_cannot_hold_is_refused():
    with pytest.raises(ValueError, match="not JSON compliant"):
        hash_json(float("nan"))
