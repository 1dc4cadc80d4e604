import threading
import time

import numpy as np
import pytest
import torch

from mosaic.store.prefetch import prefetch

BATCHES = [np.array([3, 1]), np.array([19, 8, 0]), np.array([5])]


def readers():
    return [thread for thread in threading.enumerate() if thread.name == "mosaic-prefetch"]


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


def test_batches_of_the_past_are_not_written_over(store):
    iterator = prefetch(store, [np.array([row]) for row in range(6)])
    _, first = next(iterator)
    kept = first["s1"].clone()
    list(iterator)
    assert torch.equal(first["s1"], kept)


def test_errors_reach_the_consumer_after_the_good_batches(store):
    iterator = prefetch(store, [BATCHES[0], np.array([20])])
    assert next(iterator)[0].tolist() == [3, 1]
    with pytest.raises(ValueError, match="asked for"):
        next(iterator)
    assert not readers()


def test_errors_of_the_sampler_reach_the_consumer(store):
    def sampler():
        yield BATCHES[0]
        raise RuntimeError("sampler broke")

    with pytest.raises(RuntimeError, match="sampler broke"):
        list(prefetch(store, sampler()))


def test_consumer_may_stop_early(store):
    taken = 0

    def endless():
        nonlocal taken
        while True:
            taken += 1
            yield np.array([0])

    iterator = prefetch(store, endless())
    next(iterator)
    iterator.close()
    assert not readers()
    assert taken <= 5  # one used, two ready, one in hand, one being asked for


def test_reads_ahead_while_the_consumer_works(store):
    taken = []

    def sampler():
        for row in range(8):
            taken.append(row)
            yield np.array([row])

    iterator = prefetch(store, sampler())
    next(iterator)
    deadline = time.monotonic() + 5
    while len(taken) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(taken) >= 3
    iterator.close()


def test_no_batches(store):
    assert list(prefetch(store, [])) == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a CUDA device")
def test_pinned_for_cuda(store):
    for rows, groups in prefetch(store, BATCHES, "cuda"):
        assert all(tensor.is_pinned() for tensor in groups.values())
        assert np.array_equal(groups["s1"].to("cuda", non_blocking=True).cpu(), store.read(rows)["s1"])
