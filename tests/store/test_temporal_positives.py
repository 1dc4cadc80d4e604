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
