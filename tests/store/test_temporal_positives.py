import numpy as np
import pandas as pd

from mosaic.store.reader import TemporalPositives

INDEX = pd.DataFrame(
    [
        ("A", "2017-06-01", "train", ["x"]),  # 0
        ("B", "2017-06-01", "train", ["x"]),  # 1 seen once
        ("A", "2017-08-01", "train", ["x"]),  # 2
        ("A", "2017-08-01", "train", ["x"]),  # 3 the same day as 2
        ("A", "2017-07-01", "test", ["x"]),  # 4 another split
        ("A", "2018-02-01", "train", ["x", "y"]),  # 5 other labels
        ("C", "2017-08-01", "train", ["y", "x"]),  # 6
        ("C", "2017-06-01", "train", ["x", "y"]),  # 7 the same labels in another order
        ("A", "2017-07-15", "train", ["x"]),  # 8
    ],
    columns=["location", "date", "split", "labels"],
)


def test_by_hand_all_are_drawn_and_equally_often():
    positives = TemporalPositives(INDEX)
    expected = [[2, 3, 8], [], [0, 8], [0, 8], [], [], [7], [6], [0, 2, 3]]
    assert positives.counts.tolist() == [len(rows) for rows in expected]
    first, second = (positives.draw(np.arange(9).repeat(3000), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)
    for row, drawn in enumerate(first.reshape(9, 3000)):
        values, times = np.unique(drawn, return_counts=True)
        assert values.tolist() == (expected[row] or [row])
        assert np.allclose(times / 3000, 1 / len(values), atol=0.04)


def test_invariants_on_random_places():
    rng = np.random.default_rng(0)
    index = pd.DataFrame(
        {
            "location": rng.integers(0, 60, 300).astype(str),
            "date": rng.integers(0, 4, 300).astype(str),
            "split": rng.choice(["train", "test"], 300),
            "labels": [["x"] if even else ["y"] for even in rng.integers(0, 2, 300)],
        }
    )
    place = ["location", "split", "labels"]
    draws = TemporalPositives(index).draw(np.arange(300).repeat(200), np.random.default_rng(0))
    for row, drawn in enumerate(draws.reshape(300, 200)):
        same = (index[place] == index.loc[row, place]).all(axis=1)
        expected = np.flatnonzero(same & (index["date"] != index.loc[row, "date"]))
        assert np.unique(drawn).tolist() == (expected.tolist() or [row])


def test_empty_index():
    assert TemporalPositives(INDEX.iloc[:0]).counts.tolist() == []


def test_store_offers_them(store):
    # in the fake archive rows 2k and 2k + 1 are two dates of a place
    assert store.temporal_positives.counts.tolist() == [1] * 20
