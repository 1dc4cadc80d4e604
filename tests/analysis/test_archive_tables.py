from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from mosaic.analysis import archive_tables as tables
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.reference import Reference
from mosaic.datasets.registry import open_archive
from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.store.record_format import BandLayout
from mosaic.store.writer import pack

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
    table = tables.reference_classifier(Store(), pairs=[60], draws=1).set_index("input")
    chance = LABELS.mean(0).mean()
    assert table.loc["S1", "ap_macro"] == pytest.approx(chance, abs=0.15)
    assert table.loc["S2, 10 m bands", "ap_macro"] > chance + 0.1
    assert table["pairs"].unique().tolist() == [60]


class Levels(Store):
    """Four bits a patch: the level of B04, of B08 and of VV, and noise; labels are made of them."""

    def __init__(self, labels_of, noise=0.1):
        super().__init__()
        self.bits, random = RANDOM.integers(0, 2, (240, 4)), np.random.default_rng(0)
        self.scenes = np.array([f"s{i % 24}" for i in range(240)])
        self.labels = np.stack(labels_of(self.bits), 1).astype(np.uint8)
        self.noise = noise * random.normal(size=(240, 4))

    def read_bands(self, rows, bands):
        level = self.bits + self.noise
        column = {"B04": 0, "B08": 1, "VV": 2, "VH": 3}
        ramp = np.arange(16.0).reshape(4, 4) / 100  # so that no statistic is constant
        return {band: level[rows, column[band], None, None] * (1 + ramp) for band in bands}


def test_trees_exceed_a_linear_model_where_labels_are_of_two_bands_together_and_not_elsewhere():
    def over_linear(labels_of):
        table = tables.reference_classifier(Levels(labels_of), pairs=[120], draws=1)
        return table.set_index("input").loc["both", "over_linear"]

    assert over_linear(lambda bits: [bits[:, 0] ^ bits[:, 1], bits[:, 2] ^ bits[:, 3]]) > 0.3
    assert over_linear(lambda bits: [bits[:, 0], bits[:, 3]]) == pytest.approx(0, abs=0.02)


def test_labels_explain_the_share_of_radar_that_was_planted():
    # a bit has variance 1/4, noise of the same variance halves the share that the bit explains
    levels = Levels(lambda bits: [bits[:, 2], bits[:, 3]], noise=0.5)
    table = tables.reference_classifier(levels, pairs=[240, 60, 500], draws=1).set_index(["pairs", "input"])
    assert table.loc[(240, "S1"), "explained"] == pytest.approx(0.5, abs=0.07)
    assert sorted(set(table.index.get_level_values("pairs"))) == [60, 240]  # no more than there are
    unrelated = Levels(lambda bits: [bits[:, 0], bits[:, 1]], noise=0.5)
    table = tables.reference_classifier(unrelated, pairs=[240], draws=1).set_index("input")
    assert table.loc["S1", "explained"] == pytest.approx(0, abs=0.05)


def test_macro_average_is_over_all_the_classes_that_were_kept(monkeypatch):
    """The real one is; that of the study leaves out classes of fewer than ten positives."""
    store = Store()
    store.labels = LABELS.copy()
    store.labels[6:, 0] = 0  # at most six
    store.labels[:6, 0] = 1
    monkeypatch.setattr(
        tables, "tree_scores", lambda x, y, rows, seed: {"test": np.ones((len(rows["test"]), 6))}
    )
    table = tables.reference_classifier(store, pairs=[60], draws=1)
    # where all scores are the same, average precision is the share of positives
    assert table["ap_macro"].to_numpy() == pytest.approx(store.labels.mean(0).mean())


def test_values_of_the_56_real_pairs_are_what_the_function_gives_on_them(real_data, tmp_path):
    archive = open_archive("bigearthnet", real_data / "ben_v2_mini", bands="10m")
    table = tables.reference_classifier(pack(archive, tmp_path / "packed"), draws=1).set_index("input")
    known = archive.reference().scores
    assert table["pairs"].unique().tolist() == [56]
    explained, over_linear = "S1 explained by labels, 56 pairs", "AP, trees over linear, 56 pairs"
    assert table.loc["S1", "explained"] == pytest.approx(known[explained], abs=5e-4)
    assert table.loc["both", "over_linear"] == pytest.approx(known[over_linear], abs=0.01)  # one draw of five


@pytest.mark.parametrize(("scenes", "least"), [(1, 5), (12, PAIRS)])
def test_one_scene_or_too_few_positives_leave_no_reference_classifier(scenes, least):
    store = Store()
    store.scenes = np.array([f"s{i % scenes}" for i in range(PAIRS)])
    scores = tables.reference_classifier(store, draws=1, least_positives=least)
    assert scores.empty
    statistics = {"mean_labels": 3.0, "p_share": 0.5, "p_identical": 0.02, "mean_jaccard": 0.16}
    assert len(tables.statistics_card(statistics, scores, Reference("none"))) == 8


def test_draws_are_spread_over_scenes():
    scenes = np.repeat(["a", "b", "c"], [50, 5, 5])
    chosen = tables._spread(scenes, 9, np.random.default_rng(0))
    assert [int((scenes[chosen] == s).sum()) for s in "abc"] == [3, 3, 3]


def test_card_sets_every_statistic_beside_the_real_one():
    statistics = {"mean_labels": 3.0, "p_share": 0.5, "p_identical": 0.02, "mean_jaccard": 0.16}
    scores = pd.DataFrame({"input": ["S1", "S1", "both", "both"], "ap_macro": [0.4, 0.5, 0.4, 0.5]})
    scores["ap_micro"] = scores["ap_macro"] + 0.1
    scores[["over_linear", "explained", "pairs"]] = 0.05, 0.4, 120
    known = Reference(
        "real",
        labels={"P(share a label)": 0.512},
        scores={"macro AP, S1": 0.41, "AP, trees over linear, 120 pairs": 0.049},
    )
    table = tables.statistics_card(statistics, scores, known).set_index(["source", "statistic"])["value"]
    assert table[:, "P(share a label)"].to_dict() == {"real": 0.512, "simulated": 0.5}
    assert table[:, "macro AP, S1"].to_dict() == pytest.approx({"real": 0.41, "simulated": 0.45})
    assert table[:, "AP, trees over linear, 120 pairs"].tolist() == pytest.approx([0.049, 0.05])
    assert table["simulated", "S1 explained by labels, 120 pairs"] == pytest.approx(0.4)
    assert np.isnan(table["real", "macro AP, both"])
    assert len(table) == 20


def test_classes_that_a_figure_leaves_out_are_named():
    first, second = pd.DataFrame({"class": ["a", "b"]}), pd.DataFrame({"class": ["b", "c"]})
    assert tables.without_pixels(["a", "b"], first) == ""
    assert tables.without_pixels(["a", "b", "c"], first, second) == " Left out, without pixels: a, c."
