"""Any sensors go from an archive to embeddings: a third one, or one alone, needs no code of its own."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from mosaic.datasets.sensors import Augmentation, Sensor
from mosaic.methods import get_method
from mosaic.models.checkpoint import load_encoder, save_encoder
from mosaic.models.encoders import Encoder, channels_of
from mosaic.store.prefetch import read_tensors
from mosaic.store.writer import pack
from mosaic.transforms.views import Views

#: Elevation, in two sizes and decimetres; augmented by an offset and by noise.
TERRAIN = Sensor(
    "dem", ("height", "slope"), "Elevation", "m", 0.1, signed=True, augmentation=Augmentation(2.0, 0.5)
)


@pytest.fixture
def archive(fake_archive, tmp_path):
    """Return an archive of the chosen sensors, with values of its own for the terrain."""

    class Archive(fake_archive):
        sensors = ()

        def read(self, i):
            random = np.random.default_rng(i)
            terrain = {band: random.normal(-3, 80, (self.band_sizes[band],) * 2) for band in TERRAIN.bands}
            return super().read(i) | terrain

    def make(*names):
        made = Archive(tmp_path / "source", 40)
        made.band_sizes = made.band_sizes | {"height": 24, "slope": 12}
        made._signature |= dict.fromkeys(TERRAIN.bands, np.zeros(5))
        made.sensors = tuple(s for s in (*fake_archive.sensors.fget(made), TERRAIN) if s.name in names)
        return made

    return make


@pytest.mark.parametrize("names", [("s1", "s2", "dem"), ("dem",), ("s2",)], ids="-".join)
@pytest.mark.parametrize("fusion", ["late", "early"])
def test_from_the_archive_to_the_embedding(archive, tmp_path, names, fusion):
    source = archive(*names)
    store = pack(source, tmp_path / "packed", workers=1)
    assert store.layout.sensor_names == names
    rows = store.split_rows("test")[:4]
    records = read_tensors(store, rows)

    make = Views(store.layout, 16)
    views, plain = make(records, torch.Generator().manual_seed(0)), make.evaluation(records)
    for sensor in store.layout.sensors:
        assert views[sensor.name].shape == plain[sensor.name].shape == (4, len(sensor.bands), 16, 16)
        assert not torch.allclose(views[sensor.name], plain[sensor.name])

    method = replace(get_method("random"), streams=names if fusion == "late" else ("early",))
    encoder = Encoder("light", channels_of(method, store.layout), 16).eval()
    card = {"layout": asdict(store.layout), "method": "random", "class_names": list(store.class_names)}
    save_encoder(tmp_path / "encoder", encoder, card)
    loaded = load_encoder(tmp_path / "encoder")

    samples = [source.read(row) for row in rows]
    images = {}
    for sensor in store.layout.sensors:
        bands = [torch.from_numpy(np.stack([s[b] for s in samples]).astype(np.float32)) for b in sensor.bands]
        grown = [torch.nn.functional.interpolate(band[:, None], (24, 24), mode="bilinear") for band in bands]
        images[sensor.name] = torch.cat(grown, dim=1)
    embedding = loaded.embed(**images)
    with torch.no_grad():
        expected = encoder.fused(encoder(plain))
    # up-sampled twice here, and not rounded
    assert torch.nn.functional.cosine_similarity(embedding, expected).min() > 0.99


def test_terrain_is_stored_in_its_unit_and_below_zero(archive, tmp_path):
    source = archive("dem", "s1")
    store = pack(source, tmp_path / "packed", workers=1)
    assert [group.name for group in store.layout.groups] == ["dem_24", "dem_12", "s1"]
    np.testing.assert_allclose(
        store.read_bands([3], ["slope"])["slope"][0], source.read(3)["slope"], atol=0.051
    )
    pooled = pack(source, tmp_path / "pooled", workers=1, most_pixels=12)
    expected = source.read(3)["height"].reshape(12, 2, 12, 2).mean((1, 3))
    np.testing.assert_allclose(pooled.read_bands([3], ["height"])["height"][0], expected, atol=0.051)


def test_another_augmentation_of_the_same_pixels_is_not_packed_anew(archive, tmp_path):
    source = archive("dem")
    before = pack(source, tmp_path / "packed", workers=1)
    source.sensors = (replace(TERRAIN, augmentation=Augmentation(gain=9.0)),)
    source.read = None
    after = pack(source, tmp_path / "packed", workers=1)
    assert after.layout.sensor("dem").augmentation.gain == 9
    assert after.fingerprint != before.fingerprint
