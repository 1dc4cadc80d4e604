import pandas as pd

from mosaic.datasets.reference import Reference, bigearthnet_reference

OTHERS = [{"model": "ResNet-50", "input": "S1", "ap_macro": 0.6}]


def test_published_scores_stand_beside_the_very_same_test_patches_only():
    # SHA-256 of "a\nb", by sha256sum
    known = Reference(
        "X",
        published=OTHERS,
        published_source="cards",
        test_patches=2,
        test_sha256="7e18f737311b2dc3b2f269dd78396b0351f14fb66efa879f768cb23181883c78",
    )
    same = known.published_for(["b", "a"])
    assert same == {"rows": OTHERS, "source": "cards", "why": ""}
    for others in (["a"], ["a", "c"], ["a", "b", "c"]):
        found = known.published_for(others)
        assert found["rows"] == []
        assert "official test split of X (2 patches)" in found["why"]


def test_an_archive_without_published_scores_says_so():
    assert Reference("SEN12MS").published_for(["a"])["why"].startswith("no scores on SEN12MS")


def test_the_official_test_split_of_bigearthnet_is_known_by_its_patches(real_data):
    table = pd.read_parquet(real_data / "ben_v2_labels.parquet", columns=["patch_id", "split"])
    ids = table["patch_id"][table["split"] == "test"]
    known = bigearthnet_reference()
    assert len(ids) == known.test_patches
    assert len(known.published_for(ids)["rows"]) == len(known.published) > 0
    assert known.published_for(ids.iloc[1:])["rows"] == []
