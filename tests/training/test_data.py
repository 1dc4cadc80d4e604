import numpy as np
import pytest
import torch

from mosaic.methods import get_method
from mosaic.training.data import KnownLabels, ScenePicker, StepBatches, random_of, view_generator

TRAIN = np.arange(100, 200)
LABELLED = np.arange(100, 105)


def picker(name, labelled=LABELLED, batch=16, share=0.25, seed=0):
    return ScenePicker(get_method(name), TRAIN, labelled, batch, share, seed)


def test_epoch_shows_every_scene_at_most_once_and_batches_never_repeat_one():
    batches = [picker("iai").rows(step) for step in range(100 // 16)]
    seen = np.concatenate(batches)
    assert len(seen) == len(set(seen.tolist())) == 96
    assert set(seen) <= set(TRAIN)


def test_next_epoch_is_in_another_order():
    one = picker("iai", batch=100)
    assert not np.array_equal(one.rows(0), one.rows(1))
    assert np.array_equal(np.sort(one.rows(0)), np.sort(one.rows(1)))


def test_order_depends_on_seed_and_step_alone():
    fresh = picker("mosaic").rows(7)
    used = picker("mosaic")
    for step in range(7):
        used.rows(step)
    assert np.array_equal(fresh, used.rows(7))
    assert not np.array_equal(fresh, picker("mosaic", seed=1).rows(7))


@pytest.mark.parametrize("labelled, expected", [(LABELLED, 4), (LABELLED[:2], 2)])
def test_scarce_labels_fill_their_share_without_repeats(labelled, expected):
    for step in range(20):
        rows = picker("mosaic", labelled).rows(step)
        assert np.isin(rows, labelled).sum() == expected
        assert len(set(rows.tolist())) == 16


def test_plentiful_labels_are_drawn_as_they_come():
    counts = {np.isin(picker("mosaic", TRAIN[:60]).rows(s), TRAIN[:60]).sum() for s in range(20)}
    assert len(counts) > 1


def test_self_supervised_methods_ignore_the_budget():
    assert np.array_equal(picker("iai").rows(3), picker("iai", TRAIN).rows(3))


def test_supervised_methods_see_labelled_scenes_alone():
    rows = picker("supervised_late").rows(0)
    values, counts = np.unique(rows, return_counts=True)
    assert len(rows) == 16
    assert np.array_equal(values, LABELLED)
    assert counts.max() - counts.min() <= 1


def test_generators_differ_by_purpose_and_place_and_repeat_otherwise():
    def draw(*arguments):
        return random_of(*arguments).integers(2**62)

    assert draw(0, "a", 1) == draw(0, "a", 1)
    assert len({draw(0, "a", 1), draw(0, "a", 2), draw(0, "b", 1), draw(1, "a", 1)}) == 4
    cpu = torch.device("cpu")
    assert view_generator(cpu, 0, "a").initial_seed() == view_generator(cpu, 0, "a").initial_seed()


def test_labels_of_other_rows_are_not_even_held(store):
    rows = store.split_rows("train")[:10]
    known = KnownLabels(store, rows)
    assert known.labels.sum() == store.labels[rows].sum() == known.class_counts.sum()
    assert known.labelled.sum() == known.total == 10
    assert np.array_equal(known.labels[rows].numpy(), store.labels[rows])


def batches(store, name, first, last, part=(0, 1)):
    train = store.split_rows("train")
    one = ScenePicker(get_method(name), train, train, 8, 0.25, 0)
    known = KnownLabels(store, train)
    return list(StepBatches(store, one, known, get_method(name), first, last, "cpu", part))


def test_batches_begin_at_any_step_and_carry_what_the_store_holds(store):
    some, rest = batches(store, "mosaic", 0, 5), batches(store, "mosaic", 3, 5)
    assert [batch.step for batch in rest] == [3, 4]
    for a, b in zip(some[3:], rest, strict=True):
        assert np.array_equal(a.rows, b.rows)
        stored = store.read(a.rows)
        assert all(np.array_equal(a.records[name], stored[name]) for name in stored)
        assert a.second is a.records
        assert np.array_equal(a.labels, store.labels[a.rows])


def test_methods_of_one_sensor_carry_that_sensor_only(store):
    assert set(batches(store, "simclr_s1", 0, 1)[0].records) == {"s1"}
    assert set(batches(store, "simclr_s2", 0, 1)[0].records) == {"s2_24", "s2_12"}
    assert set(batches(store, "supervised_early", 0, 1)[0].records) == {"s1", "s2_24", "s2_12"}


def test_temporal_second_view_is_another_date_of_the_same_place(store):
    (batch,) = batches(store, "mosaic_temporal", 0, 1)
    partners = batch.rows ^ 1  # patches 2k and 2k + 1 are two dates of one place
    assert np.array_equal(batch.second["s1"], store.read(partners)["s1"])
    assert np.array_equal(batch.records["s1"], store.read(batch.rows)["s1"])
    assert np.isin(partners, store.split_rows("train")).all()


@pytest.mark.parametrize("name", ["mosaic", "mosaic_temporal"])
def test_parts_make_up_the_batch_and_read_nothing_else(store, monkeypatch, name):
    (whole,) = batches(store, name, 3, 4)
    read, original = [], type(store).read

    def reading(self, rows, out=None):
        read.append(rows)
        return original(self, rows, out)

    monkeypatch.setattr(type(store), "read", reading)
    parts = [batches(store, name, 3, 4, (number, 4))[0] for number in range(4)]
    temporal = get_method(name).temporal
    assert [len(rows) for rows in read] == [4 if temporal else 2] * 4
    for number, part in enumerate(parts):
        assert part.part == (number, 4)
        own = slice(2 * number, 2 * number + 2)
        assert np.array_equal(part.rows, whole.rows[own])
        assert torch.equal(part.labels, whole.labels[own]) and torch.equal(part.labelled, whole.labelled[own])
        for name in whole.records:
            assert torch.equal(part.records[name], whole.records[name][own])
            assert torch.equal(part.second[name], whole.second[name][own])


def test_rare_labels_are_drawn_more_often(store):
    train = store.split_rows("train")
    known = KnownLabels(store, train)
    chances = known.rarity()
    labels = store.labels[train]
    frequency = labels.mean(0)
    by_hand = np.array([1 / min(frequency[row == 1]) if row.any() else 1.0 for row in labels])
    np.testing.assert_allclose(chances, by_hand / by_hand.sum(), rtol=1e-6)
    picker = ScenePicker(get_method("macl"), train, train, 16, 0.25, 0, chances)
    drawn = np.concatenate([picker.rows(step) for step in range(300)])
    rare = frequency.argmin()
    expected = chances[labels[:, rare] == 1].sum()
    assert store.labels[drawn][:, rare].mean() == pytest.approx(expected, abs=0.02)
    assert expected > frequency[rare]


def test_with_few_labels_the_rest_of_a_batch_is_unlabelled(store):
    train = store.split_rows("train")
    known = KnownLabels(store, train[::10])
    picker = ScenePicker(get_method("macl"), train, train[::10], 16, 0.25, 0, known.rarity())
    rows = picker.rows(0)
    assert np.isin(rows, train[::10]).sum() == 4
    assert len(rows) == 16
