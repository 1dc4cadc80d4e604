import threading

import numpy as np
import pytest
import torch

from mosaic.store.prefetch import RecordTable, read_ahead, read_tensors

ROWS = np.array([3, 1, 19, 8, 0, 5])


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mosaic-prefetch")]


def test_results_come_in_order_and_two_are_computed_ahead():
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield taken[-1]

    iterator = read_ahead(lambda item: item * 10, endless())
    assert [next(iterator) for _ in range(2)] == [0, 10] and len(taken) == 4
    iterator.close()
    assert not readers()
    assert list(read_ahead(str, [])) == []


def broken_sampler():
    yield 0
    raise ValueError("sampler broke")


@pytest.mark.parametrize(
    ("items", "message"), [([0, "x"], "invalid literal"), (broken_sampler(), "sampler broke")]
)
def test_errors_reach_the_consumer_after_a_good_item(items, message):
    iterator = read_ahead(int, items)
    with pytest.raises(ValueError, match=message):
        list(iterator)
    assert not readers()


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU"))]


@pytest.mark.parametrize("device", DEVICES)
def test_tensors_and_tables_hold_the_stored_records(store, device, monkeypatch):
    expected, tensors = store.read(ROWS), read_tensors(store, ROWS, device)
    assert tensors.keys() == expected.keys()
    for name, tensor in tensors.items():
        assert tensor.dtype == torch.int16 and tensor.is_pinned() == (device == "cuda")
        assert np.array_equal(tensor.numpy(), expected[name])
    monkeypatch.setattr("mosaic.store.prefetch._CHUNK", 4)
    table = RecordTable.load(store, np.sort(ROWS), ["s1"], device)
    assert list(table.groups) == ["s1"] and table.positions(ROWS).tolist() == [2, 1, 5, 4, 0, 3]
    found = table.groups["s1"][table.positions(ROWS).to(device)].cpu()
    assert np.array_equal(found.numpy(), expected["s1"])
