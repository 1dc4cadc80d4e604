import threading

import numpy as np
import pytest
import torch

from mosaic.store.prefetch import prefetch

BATCHES = [np.array([3, 1]), np.array([19, 8, 0]), np.array([5])]


def readers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mosaic-prefetch")]


def test_same_batches_in_the_same_order(store):
    found = list(prefetch(store, BATCHES))
    assert [rows.tolist() for rows, _ in found] == [rows.tolist() for rows in BATCHES]
    for rows, groups in found:
        expected = store.read(rows)
        assert groups.keys() == expected.keys()
        for name, tensor in groups.items():
            assert tensor.dtype == torch.int16
            assert np.array_equal(tensor.numpy(), expected[name])
    assert not readers()
    assert list(prefetch(store, [])) == []


def broken_sampler():
    yield from BATCHES
    raise ValueError("sampler broke")


@pytest.mark.parametrize(
    ("batches", "message"),
    [([BATCHES[0], np.array([20])], "asked for"), (broken_sampler(), "sampler broke")],
)
def test_errors_reach_the_consumer_after_a_good_batch(store, batches, message):
    iterator = prefetch(store, batches)
    assert next(iterator)[0].tolist() == [3, 1]
    with pytest.raises(ValueError, match=message):
        list(iterator)
    assert not readers()


def test_reads_two_batches_ahead_and_the_consumer_may_stop_early(store):
    taken = []

    def endless():
        while True:
            taken.append(0)
            yield np.array([0])

    iterator = prefetch(store, endless())
    next(iterator)
    assert len(taken) == 3
    iterator.close()
    assert not readers()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a CUDA device")
def test_pinned_for_cuda(store):
    for rows, groups in prefetch(store, BATCHES, "cuda"):
        assert all(tensor.is_pinned() for tensor in groups.values())
        assert np.array_equal(groups["s1"].to("cuda", non_blocking=True).cpu(), store.read(rows)["s1"])
