import numpy as np
import pandas as pd

from mosaic.analysis import tables


def test_interval_table_has_a_row_a_method_in_order_and_a_column_a_fraction(result):
    rows = [result("mosaic", fraction=f, label_budget="shared") for f in (100.0, 5.0, 20.0)]
    frame = pd.DataFrame([*rows, result("random", fraction=5.0)])
    table = tables.interval_table(frame, ["method", "label_budget"], "fraction")
    assert table.columns.tolist() == ["method", "label_budget", "5 %", "20 %", "100 %"]
    assert table.index.tolist() == [0, 1]  # another index would be shown as a column
    assert table.iloc[1].tolist() == ["MoSAiC", "shared", *[(0.5, 0.4, 0.6)] * 3]
    assert table["method"][0] == "Random features" and np.isnan(table["20 %"][0])
    named = tables.interval_table(frame[:2], ["method"], "fraction", [100.0])
    assert named.columns.tolist() == ["method", "100 %"]
