from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import archive_tables as tables
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.reference import Reference
from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.store.record_format import BandLayout

RANDOM = np.random.default_rng(0)
PAIRS = 60
LABELS = (RANDOM.random((PAIRS, 6)) < 0.4).astype(np.uint8)
MAPS = np.repeat(np.repeat(RANDOM.integers(0, 3, (PAIRS, 6, 6)), 20, 1), 20, 2).astype(np.uint8)


class Store:
    """Optical bands show the first three classes, radar shows nothing."""

    def __init__(self):
        self.labels, self.class_names = LABELS, CORINE.classes[:6]
        self.scenes = np.array([f"s{i % 12}" for i in range(PAIRS)])
        sensors = sentinel1(), sentinel2(("B04", "B08", "B11"))
        self.layout = BandLayout(sensors, {"VV": 120, "VH": 120, "B04": 120, "B08": 120, "B11": 60})
        self.index = pd.DataFrame({"patch_id": [f"p{i}" for i in range(PAIRS)]})

    def __len__(self):
        return PAIRS

    def read_bands(self, rows, bands):
        def image(band):
            if band == "B11":
                return 100 * MAPS[rows][:, ::2, ::2].astype(np.float32)
            level = (
                1000.0 * LABELS[rows, int(band == "B08")]
                if band in ("B04", "B08")
                else -12 * np.ones(len(rows))
            )
            return level[:, None, None] + RANDOM.normal(0, 2, (len(rows), 120, 120))

        return {band: image(band) for band in bands}


ARCHIVE = SimpleNamespace(index=Store().index, read_map=lambda i: MAPS[i])


def test_quantiles_are_those_of_the_pixels_under_the_map_at_every_resolution():
    table = tables.class_quantiles(ARCHIVE, Store(), patches=20)
    coarse = table.query("band == 'B11'").set_index("class")
    for label, name in enumerate(CORINE.classes[:3]):
        assert coarse.loc[name, ["p5", "p50", "p95"]].tolist() == [100.0 * label] * 3
    radar = table[table["band"].isin(["VV", "VH"])]
    assert radar["wavelength"].isna().all()
    assert radar["p50"].between(-12.3, -11.7).all()
    bare = SimpleNamespace(index=ARCHIVE.index, read_map=lambda i: None)
    assert tables.class_quantiles(bare, Store(), patches=3).empty


def test_reference_classifier_sees_what_is_there_and_nothing_where_nothing_is():
    table = tables.reference_classifier(Store(), pairs=60, draws=1).set_index("input")
    chance = LABELS.mean(0).mean()
    assert table.loc["S1", "ap_macro"] == pytest.approx(chance, abs=0.15)
    assert table.loc["S2, 10 m bands", "ap_macro"] > chance + 0.1
    assert table["pairs"].unique().tolist() == [60]


def test_draws_are_spread_over_scenes():
    scenes = np.repeat(["a", "b", "c"], [50, 5, 5])
    chosen = tables._spread(scenes, 9, np.random.default_rng(0))
    assert [int((scenes[chosen] == s).sum()) for s in "abc"] == [3, 3, 3]


def test_card_sets_every_statistic_beside_the_real_one():
    statistics = {"mean_labels": 3.0, "p_share": 0.5, "p_identical": 0.02, "mean_jaccard": 0.16}
    scores = pd.DataFrame({"input": ["S1", "S1", "both", "both"], "ap_macro": [0.4, 0.5, 0.4, 0.5]})
    scores["ap_micro"] = scores["ap_macro"] + 0.1
    known = Reference("real", labels={"P(share a label)": 0.512}, scores={"S1": (0.41, 0.49)})
    table = tables.statistics_card(statistics, scores, known).set_index(["source", "statistic"])["value"]
    assert table[:, "P(share a label)"].to_dict() == {"real": 0.512, "simulated": 0.5}
    assert table[:, "macro AP, S1"].to_dict() == pytest.approx({"real": 0.41, "simulated": 0.45})
    assert np.isnan(table["real", "macro AP, both"])
    assert len(table) == 16


def test_classes_that_a_figure_leaves_out_are_named():
    first, second = pd.DataFrame({"class": ["a", "b"]}), pd.DataFrame({"class": ["b", "c"]})
    assert tables.without_pixels(["a", "b"], first) == ""
    assert tables.without_pixels(["a", "b", "c"], first, second) == " Left out, without pixels: a, c."
