import numpy as np
import pandas as pd

from mosaic.store.reader import TemporalPositives

INDEX = pd.DataFrame(
    [
        ("A", "2017-06-01", "train"),  # 0
        ("B", "2017-06-01", "train"),  # 1 seen once
        ("A", "2017-08-01", "train"),  # 2
        ("A", "2017-08-01", "train"),  # 3 the same day as 2
        ("A", "2017-07-01", "test"),  # 4 another split
        ("A", "2018-02-01", "train"),  # 5
        ("C", "2017-08-01", "train"),  # 6
        ("C", "2017-06-01", "train"),  # 7
        ("A", "2017-07-15", "train"),  # 8
    ],
    columns=["location", "date", "split"],
)


def test_by_hand_all_are_drawn_and_equally_often():
    positives = TemporalPositives(INDEX)
    expected = [[2, 3, 5, 8], [], [0, 5, 8], [0, 5, 8], [], [0, 2, 3, 8], [7], [6], [0, 2, 3, 5]]
    assert positives.counts.tolist() == [len(rows) for rows in expected]
    first, second = (positives.draw(np.arange(9).repeat(3000), np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)
    for row, drawn in enumerate(first.reshape(9, 3000)):
        values, times = np.unique(drawn, return_counts=True)
        assert values.tolist() == (expected[row] or [row])
        assert np.allclose(times / 3000, 1 / len(values), atol=0.04)
