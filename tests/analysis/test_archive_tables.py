from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import ExtraTreesClassifier

from mosaic.analysis import archive_tables as tables
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.reference import Reference
from mosaic.datasets.registry import open_archive
from mosaic.store.writer import pack

RANDOM = np.random.default_rng(0)
MAPS = np.repeat(np.repeat(RANDOM.integers(0, 3, (60, 6, 6)), 20, 1), 20, 2).astype(np.uint8)
STATISTICS = {"mean_labels": 3.0, "p_share": 0.5, "p_identical": 0.02, "mean_jaccard": 0.16}


class Mapped:
    """A band of 20 m shows the class of its map, radar shows noise."""

    class_names, layout = CORINE.classes[:6], SimpleNamespace(bands=("VV", "B11"))
    index = pd.DataFrame({"patch_id": [f"p{i}" for i in range(60)]})

    def __len__(self):
        return 60

    def read_bands(self, rows, bands):
        radar = RANDOM.normal(-12, 2, (len(rows), 120, 120))
        return {"VV": radar, "B11": 100 * MAPS[rows][:, ::2, ::2].astype(np.float32)}


def test_quantiles_are_those_of_the_pixels_under_the_map_at_every_resolution():
    archive = SimpleNamespace(index=Mapped.index, read_map=lambda i: MAPS[i])
    table = tables.class_quantiles(archive, Mapped(), patches=20)
    coarse = table.query("band == 'B11'").set_index("class")
    for label, name in enumerate(CORINE.classes[:3]):
        assert coarse.loc[name, ["p5", "p50", "p95"]].tolist() == [100.0 * label] * 3
    radar = table.query("band == 'VV'")
    assert radar["wavelength"].isna().all()
    assert radar["p50"].between(-12.3, -11.7).all()
    archive.read_map = lambda i: None
    assert tables.class_quantiles(archive, Mapped(), patches=3).empty


class Levels:
    """Four bits a patch, the levels of B04, B08, VV and VH, with noise; labels are made of the bits."""

    layout = SimpleNamespace(bands=("B04", "B08", "VV", "VH"))

    def __init__(self, labels_of, noise=0.1, scenes=24):
        bits, random = RANDOM.integers(0, 2, (240, 4)), np.random.default_rng(0)
        self.labels = np.stack(labels_of(bits), 1).astype(np.uint8)
        self.scenes = np.array([f"s{i % scenes}" for i in range(240)])
        self.level = bits + noise * random.normal(size=bits.shape)

    def read_bands(self, rows, bands):
        ramp = np.arange(16.0).reshape(4, 4) / 100  # so that no statistic is constant
        column = self.layout.bands.index
        return {band: self.level[rows, column(band), None, None] * (1 + ramp) for band in bands}


@pytest.fixture
def few_trees(monkeypatch):
    """A tenth of the trees: there are few bits to learn."""
    few = "mosaic.evaluation.probes.ExtraTreesClassifier"
    monkeypatch.setattr(few, lambda _, **options: ExtraTreesClassifier(30, **options))


@pytest.mark.usefixtures("few_trees")
def test_trees_exceed_a_linear_model_where_labels_are_of_two_bands_together_and_not_elsewhere():
    def over_linear(labels_of):
        table = tables.reference_classifier(Levels(labels_of), pairs=[120], draws=1)
        return table.set_index("input").loc["both", "over_linear"]

    assert over_linear(lambda bits: [bits[:, 0] ^ bits[:, 1], bits[:, 2] ^ bits[:, 3]]) > 0.3
    assert over_linear(lambda bits: [bits[:, 0], bits[:, 3]]) == pytest.approx(0, abs=0.02)


@pytest.mark.usefixtures("few_trees")
def test_labels_explain_the_share_of_radar_that_was_planted():
    # a bit has variance 1/4, noise of the same variance halves the share that the bit explains
    levels = Levels(lambda bits: [bits[:, 2], bits[:, 3]], noise=0.5)
    table = tables.reference_classifier(levels, pairs=[240, 60, 500], draws=1).set_index(["pairs", "input"])
    assert table.loc[(240, "S1"), "explained"] == pytest.approx(0.5, abs=0.07)
    assert sorted(set(table.index.get_level_values("pairs"))) == [60, 240]  # no more than there are
    unrelated = Levels(lambda bits: [bits[:, 0], bits[:, 1]], noise=0.5)
    table = tables.reference_classifier(unrelated, pairs=[240], draws=1).set_index("input")
    assert table.loc["S1", "explained"] == pytest.approx(0, abs=0.05)
    chance = unrelated.labels.mean()
    assert table.loc["S1", "ap_macro"] == pytest.approx(chance, abs=0.15)
    assert table.loc["S2, 10 m bands", "ap_macro"] > chance + 0.1


def test_macro_average_is_over_all_the_classes_that_were_kept(monkeypatch):
    """The real one is; that of the study leaves out classes of fewer than ten positives."""
    levels = Levels(lambda bits: [np.arange(len(bits)) < 6, bits[:, 0]])
    monkeypatch.setattr(
        tables, "tree_scores", lambda x, y, rows, seed: {"test": np.ones((len(rows["test"]), 2))}
    )
    table = tables.reference_classifier(levels, pairs=[240], draws=1)
    # where all scores are the same, average precision is the share of positives
    assert table["ap_macro"].to_numpy() == pytest.approx(levels.labels.mean(0).mean())


def test_values_of_the_56_real_pairs_are_what_the_function_gives_on_them(real_data, tmp_path):
    archive = open_archive("bigearthnet", real_data / "ben_v2_mini", bands="10m")
    table = tables.reference_classifier(pack(archive, tmp_path / "packed"), draws=1).set_index("input")
    known = archive.reference().scores
    assert table["pairs"].unique().tolist() == [56]
    explained, over_linear = "S1 explained by labels, 56 pairs", "AP, trees over linear, 56 pairs"
    assert table.loc["S1", "explained"] == pytest.approx(known[explained], abs=5e-4)
    assert table.loc["both", "over_linear"] == pytest.approx(known[over_linear], abs=0.01)  # one draw of five


@pytest.mark.parametrize(("scenes", "least"), [(1, 5), (12, 240)])
def test_one_scene_or_too_few_positives_leave_no_reference_classifier(scenes, least):
    levels = Levels(lambda bits: [bits[:, 0]], scenes=scenes)
    scores = tables.reference_classifier(levels, draws=1, least_positives=least)
    assert scores.empty
    assert len(tables.statistics_card(STATISTICS, scores, Reference("none"))) == 8


def test_draws_are_spread_over_scenes():
    scenes = np.repeat(["a", "b", "c"], [50, 5, 5])
    chosen = tables._spread(scenes, 9, np.random.default_rng(0))
    assert [int((scenes[chosen] == s).sum()) for s in "abc"] == [3, 3, 3]


def test_card_sets_every_statistic_beside_the_real_one():
    scores = pd.DataFrame({"input": ["S1", "S1", "both", "both"], "ap_macro": [0.4, 0.5, 0.4, 0.5]})
    scores["ap_micro"] = scores["ap_macro"] + 0.1
    scores[["over_linear", "explained", "pairs"]] = 0.05, 0.4, 120
    known = {"macro AP, S1": 0.41, "AP, trees over linear, 120 pairs": 0.049}
    real = Reference("real", labels={"P(share a label)": 0.512}, scores=known)
    table = tables.statistics_card(STATISTICS, scores, real).set_index(["source", "statistic"])["value"]
    assert table[:, "P(share a label)"].to_dict() == {"real": 0.512, "simulated": 0.5}
    assert table[:, "macro AP, S1"].to_dict() == pytest.approx({"real": 0.41, "simulated": 0.45})
    assert table[:, "AP, trees over linear, 120 pairs"].tolist() == pytest.approx([0.049, 0.05])
    assert table["simulated", "S1 explained by labels, 120 pairs"] == pytest.approx(0.4)
    assert np.isnan(table["real", "macro AP, both"])
    assert len(table) == 20


def test_classes_that_a_figure_leaves_out_are_named():
    first, second = pd.DataFrame({"class": ["a", "b"]}), pd.DataFrame({"class": ["b", "c"]})
    assert tables.without_pixels(["a", "b"], first) == ""
    assert tables.without_pixels(["a", "b", "c"], first, second) == " Left out, without pixels: a; c."
