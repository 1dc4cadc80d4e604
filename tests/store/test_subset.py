import pickle

import numpy as np
import pytest
import torch

from mosaic.store.prefetch import prefetch
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import PackError


def test_chosen_bands_are_those_of_the_whole(store):
    part = PackedStore(store.folder, ["VH", "B05", "B02"])
    assert part.layout.sensor("s1").bands == ("VH",)
    assert part.layout.sensor("s2").bands == ("B02", "B05")
    assert set(part.layout.statistics) == {"VH", "B02", "B05"}
    rows = [3, 17, 3, 9]
    whole, read = store.read(rows), part.read(rows)
    assert list(read) == [group.name for group in part.layout.groups]
    np.testing.assert_array_equal(read["s1"], whole["s1"][:, 1:])
    for group in part.layout.groups:
        assert read[group.name].shape == (4, *group.shape)
    bands = part.read_bands(rows, ["VH", "B05"])
    for band, values in store.read_bands(rows, ["VH", "B05"]).items():
        np.testing.assert_array_equal(bands[band], values)


def test_batches_are_read_ahead_like_those_of_the_whole(store):
    part = PackedStore(store.folder, ["VV", "B02"])
    ((rows, records),) = list(prefetch(part, [np.array([5, 2])]))
    assert rows.tolist() == [5, 2]
    torch.testing.assert_close(records["s1"][:, 0], torch.from_numpy(store.read([5, 2])["s1"][:, 0]))


def test_what_is_left_out_is_in_neither_training_nor_validation_and_the_test_split_is_whole(store):
    part = PackedStore(store.folder, leave_out=("scene", "T33UUP_1"))
    for split in ("train", "validation"):
        rows = part.split_rows(split)
        assert set(rows) < set(store.split_rows(split))
        assert "T33UUP_1" not in set(part.scenes[rows])
        left = np.setdiff1d(store.split_rows(split), rows)
        assert set(store.scenes[left]) == {"T33UUP_1"}
    np.testing.assert_array_equal(part.split_rows("test"), store.split_rows("test"))


def test_a_part_that_is_the_whole_has_its_fingerprint_and_any_other_its_own(store):
    everything = store.layout.bands
    assert PackedStore(store.folder).fingerprint == store.fingerprint
    assert PackedStore(store.folder, everything).fingerprint == store.fingerprint
    parts = [
        PackedStore(store.folder, ["VV", "B02"]),
        PackedStore(store.folder, ["VH", "B02"]),
        PackedStore(store.folder, leave_out=("scene", "T33UUP_1")),
        PackedStore(store.folder, leave_out=("scene", "T33UUP_2")),
    ]
    assert len({store.fingerprint, *(part.fingerprint for part in parts)}) == 5


def test_a_part_travels_to_another_process(store):
    part = PackedStore(store.folder, ["VV", "B02"], ("scene", "T33UUP_1"))
    again = pickle.loads(pickle.dumps(part))
    assert again.fingerprint == part.fingerprint
    np.testing.assert_array_equal(again.read([1])["s1"], part.read([1])["s1"])


def test_unknown_bands_columns_and_empty_splits_are_refused(store):
    with pytest.raises(PackError, match="'B11' is not packed"):
        PackedStore(store.folder, ["B11"])
    with pytest.raises(PackError, match="no column 'country'"):
        PackedStore(store.folder, leave_out=("country", "Finland"))
    index = store.index.assign(everywhere="here")
    part = PackedStore(store.folder, leave_out=("scene", "x"))
    part.index, part.leave_out = index, ("everywhere", "here")
    with pytest.raises(PackError, match="without everywhere 'here' the split 'train'"):
        part.split_rows("train")
