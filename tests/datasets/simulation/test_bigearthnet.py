import numpy as np
import pytest

from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.reference import real_quantiles
from mosaic.datasets.simulation.landscape import draw_landscape
from mosaic.datasets.simulation.sensors import Conditions, observe
from mosaic.evaluation.uncertainty import LEAST_SCENES


@pytest.fixture
def archive(simulated):
    return BigEarthNetArchive(simulated("bigearthnet"))


def test_some_places_are_seen_twice_with_the_same_labels_and_never_across_splits(archive):
    index = archive.index
    assert index.split.value_counts().to_dict() == {"train": 12, "validation": 6, "test": 6}
    places = index.groupby("location")
    assert (places.size() == 2).sum() >= 3
    assert (places.split.nunique() == 1).all()
    assert (index.labels.str.join("|").groupby(index.location).nunique() == 1).all()
    assert index.groupby("tile").split.nunique().max() == 1
    assert index[index.split == "test"].scene.nunique() >= LEAST_SCENES  # six patches have intervals


def test_pure_patches_look_like_the_real_class():
    """Medians over many scenes stay near the real ones for the commonest covers."""
    real = real_quantiles().set_index("cls")
    for name in ("Arable land", "Coniferous forest"):
        labels = (np.array(CORINE.classes) == name).astype(np.uint8)
        medians = []
        for seed in range(30):
            random = np.random.default_rng(seed)
            scenes = [Conditions.draw(random, int(random.integers(365)), 30 + seed % 6) for _ in range(2)]
            images = observe(draw_landscape(labels, random), *scenes, 45, random)
            medians.append([np.median(images["B03"]), np.median(images["VH"])])
        green, backscatter = np.median(medians, 0)
        assert real.B03_p50[name] / 1.25 < green < real.B03_p50[name] * 1.25
        assert backscatter == pytest.approx(real.VH_p50[name], abs=1)
