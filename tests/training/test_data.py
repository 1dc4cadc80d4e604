from types import SimpleNamespace

import numpy as np
import pytest
import torch

from mosaic.settings import TrialSettings
from mosaic.training import data
from mosaic.training.data import KnownLabels, ScenePicker, groups_of, record_table
from mosaic.transforms.views import Views

TRAIN = np.arange(100, 200)
LABELLED = np.arange(100, 105)


def picker(method, labelled=LABELLED, batch_scenes=16, seed=0):
    trial = TrialSettings(method=method, batch_scenes=batch_scenes, seed=seed)
    return ScenePicker(trial, TRAIN, SimpleNamespace(rows=labelled))


def test_epoch_shows_every_scene_at_most_once_and_the_next_in_another_order():
    seen = np.concatenate([picker("iai").rows(step) for step in range(100 // 16)])
    assert len(seen) == len(set(seen.tolist())) == 96
    assert set(seen) <= set(TRAIN)
    first, second = (picker("iai", batch_scenes=100).rows(step) for step in (0, 1))
    assert not np.array_equal(first, second)
    assert np.array_equal(np.sort(first), np.sort(second))
    assert not np.array_equal(first, picker("iai", batch_scenes=100, seed=1).rows(0))


@pytest.mark.parametrize("labelled, expected", [(LABELLED, 4), (LABELLED[:2], 2)])
def test_scarce_labels_fill_their_share_without_repeats(labelled, expected):
    for step in range(20):
        rows = picker("mosaic", labelled).rows(step)
        assert np.isin(rows, labelled).sum() == expected
        assert len(set(rows.tolist())) == 16


def test_self_supervised_methods_ignore_the_budget_and_supervised_ones_see_nothing_else():
    assert np.array_equal(picker("iai").rows(3), picker("iai", TRAIN).rows(3))
    values, counts = np.unique(picker("supervised_late").rows(0), return_counts=True)
    assert np.array_equal(values, LABELLED)
    assert counts.sum() == 16 and counts.max() - counts.min() <= 1


def batches(store, method, steps, shard=(0, 1), table=None):
    train = store.split_rows("train")
    known = KnownLabels(store, train)
    scenes = ScenePicker(TrialSettings(method=method, batch_scenes=8), train, known)
    views = Views(store.layout, 24)
    return list(data.StepBatches(store, scenes, known, views, steps, shard=shard, table=table))


def groups_in(batch):
    """The records of a batch: group name -> (V, B, bands, size, size)."""
    return {name: tensor for name, tensor in batch.tensors.items() if tensor.dtype == torch.int16}


def test_batches_begin_at_any_step_and_carry_what_the_store_holds(store):
    every, rest = batches(store, "mosaic", range(5)), batches(store, "mosaic", range(3, 5))
    assert [batch.step for batch in rest] == [3, 4]
    for a, b in zip(every[3:], rest, strict=True):
        assert np.array_equal(a.rows, b.rows)
        stored = store.read(a.rows[0])
        assert all(np.array_equal(groups_in(a)[name][0], stored[name]) for name in stored)
        assert a.rows.shape == (1, 8)
        assert np.array_equal(a.tensors["labels"], store.labels[a.rows[0]])


@pytest.mark.parametrize(
    "method, sensors", [("simclr_s1", "s1"), ("simclr_s2", "s2"), ("supervised_early", "s")]
)
def test_only_sensors_of_the_method_are_carried(store, method, sensors):
    expected = {group.name for group in store.layout.groups if group.sensor.startswith(sensors)}
    assert set(groups_in(batches(store, method, range(1))[0])) == expected


def test_temporal_second_view_is_another_date_of_the_same_place(store):
    (batch,) = batches(store, "mosaic_temporal", range(1))
    assert np.array_equal(batch.rows[1], batch.rows[0] ^ 1)  # patches 2k, 2k + 1: two dates of one place
    for shown, rows in zip(groups_in(batch)["s1"], batch.rows, strict=True):
        assert np.array_equal(shown, store.read(rows)["s1"])
    assert np.isin(batch.rows, store.split_rows("train")).all()


@pytest.mark.parametrize("method", ["mosaic", "mosaic_temporal"])
def test_a_process_reads_its_shard_of_the_batch_alone(store, monkeypatch, method):
    """tests/training/test_two_processes.py computes with the shards."""
    (whole,) = batches(store, method, range(3, 4))
    read, original = [], type(store).read
    monkeypatch.setattr(
        type(store), "read", lambda self, rows, out=None: read.append(rows) or original(self, rows, out)
    )
    (shard,) = batches(store, method, range(3, 4), (1, 4))
    assert np.array_equal(shard.rows, whole.rows[:, 2:4])
    assert np.array_equal(*read, shard.rows.ravel())


@pytest.mark.parametrize("method", ["mosaic", "mosaic_temporal", "simclr_s2", "macl"])
def test_records_gathered_on_the_device_are_those_that_are_read(store, method):
    train, trial = store.split_rows("train"), TrialSettings(method=method, batch_scenes=8, steps=20)
    scenes = ScenePicker(trial, train, KnownLabels(store, train))
    table = record_table(store, scenes, trial, "cpu", 2**30)
    groups = groups_of(scenes.method, store.layout)
    assert set(table.groups) == set(groups)
    pairs = zip(batches(store, method, range(3)), batches(store, method, range(3), table=table), strict=True)
    for read, kept in pairs:
        assert not groups_in(kept)
        ways = [data.records_of_views(batch.tensors, groups, t) for batch, t in ((read, None), (kept, table))]
        for first, second in zip(*ways, strict=True):
            assert all(torch.equal(first[name], second[name]) for name in groups)
        for name in kept.tensors.keys() - {"index"}:
            assert torch.equal(read.tensors[name], kept.tensors[name])


def test_records_are_kept_where_they_fit_and_are_read_more_than_once(store):
    train, trial = store.split_rows("train"), TrialSettings(method="iai", batch_scenes=9, steps=10)
    scenes = ScenePicker(trial, train, KnownLabels(store, train[:0]))
    needed = len(train) * 2 * sum(group.elements for group in store.layout.groups)
    assert record_table(store, scenes, trial, "cpu", 2 * needed) is not None
    assert record_table(store, scenes, trial, "cpu", 2 * needed - 2) is None
    assert record_table(store, scenes, trial.replace(steps=9), "cpu", 2 * needed) is None
    assert record_table(store, scenes, trial.replace(gpu_records=0.0), "cpu", 2**40) is None


def test_rare_labels_are_drawn_more_often(store):
    train = store.split_rows("train")
    known, trial = KnownLabels(store, train), TrialSettings(method="macl", batch_scenes=16)
    labels = store.labels[train]
    frequency = labels.mean(0)
    by_hand = np.array([1 / min(frequency[row == 1]) if row.any() else 1.0 for row in labels])
    np.testing.assert_allclose(known.rarity(), by_hand / by_hand.sum(), rtol=1e-6)
    drawn = np.concatenate([ScenePicker(trial, train, known).rows(step) for step in range(300)])
    rare = frequency.argmin()
    expected = known.rarity()[labels[:, rare] == 1].sum()
    assert store.labels[drawn][:, rare].mean() == pytest.approx(expected, abs=0.02)
    assert expected > frequency[rare]
    # with few labels the rest of a batch is unlabelled
    rows = ScenePicker(trial, train, KnownLabels(store, train[::10])).rows(0)
    assert len(rows) == 16 and np.isin(rows, train[::10]).sum() == 4
