import hashlib

import numpy as np
import pandas as pd
import pytest
import rasterio

from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.corine import S2_SIZE
from mosaic.datasets.simulation.bigearthnet import simulate
from mosaic.datasets.simulation.sensors import real_quantiles
from mosaic.utils.errors import ArchiveError


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    return simulate(tmp_path_factory.mktemp("simulated") / "archive", patches=60, seed=3)


def content(root):
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.tif")):
        digest.update(path.relative_to(root).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def test_the_reader_finds_nothing_wrong(simulated):
    archive = BigEarthNetArchive(simulated)
    assert len(archive) == 60
    assert [p for i in range(60) for p in archive.check(i)] == []
    assert archive.index.split.value_counts().to_dict() == {"train": 30, "validation": 15, "test": 15}


def test_files_are_in_the_true_format(simulated):
    archive = BigEarthNetArchive(simulated)
    for band, side in {**S2_SIZE, "VV": 120, "VH": 120, "map": 120}.items():
        with rasterio.open(archive.path(0, band)) as file:
            assert (file.count, file.width, file.height) == (1, side, side)
            assert file.dtypes[0] == ("float32" if band in ("VV", "VH") else "uint16")
            assert file.res == (1200 / side, 1200 / side)
            assert file.crs.to_epsg() == 32600 + int(archive.index.tile[0][:2])
            assert file.compression == (rasterio.enums.Compression.deflate if band == "map" else None)


def test_some_places_are_seen_twice_with_the_same_labels_and_never_across_splits(simulated):
    index = BigEarthNetArchive(simulated).index
    places = index.groupby("location")
    assert (places.size() == 2).sum() >= 5
    assert (places.split.nunique() == 1).all()
    assert (index.labels.str.join("|").groupby(index.location).nunique() == 1).all()
    assert index.groupby("tile").split.nunique().max() == 1


def test_a_seed_gives_the_same_files_whatever_the_number_of_processes(tmp_path):
    one = simulate(tmp_path / "one", patches=12, seed=5, workers=1)
    two = simulate(tmp_path / "two", patches=12, seed=5, workers=2)
    other = simulate(tmp_path / "other", patches=12, seed=6, workers=2)
    assert content(one) == content(two) != content(other)
    pd.testing.assert_frame_equal(
        pd.read_parquet(one / "metadata.parquet"), pd.read_parquet(two / "metadata.parquet")
    )


def test_a_finished_archive_is_reused_and_a_foreign_folder_left_alone(simulated, tmp_path):
    before = content(simulated)
    assert simulate(simulated, patches=60, seed=3) == simulated
    assert content(simulated) == before
    with pytest.raises(ArchiveError, match="holds something else"):
        simulate(simulated, patches=60, seed=4)
    with pytest.raises(ArchiveError, match="too few"):
        simulate(tmp_path / "tiny", patches=3)


def test_pure_patches_look_like_the_real_class(simulated):
    """Medians under the map stay near the real ones for the commonest covers."""
    archive = BigEarthNetArchive(simulated)
    real = real_quantiles().set_index("cls")
    for name in ("Arable land", "Coniferous forest"):
        index = archive.class_names.index(name)
        pixels = {"B03": [], "VH": []}
        for i in np.flatnonzero([name in labels for labels in archive.index.labels]):
            inside = archive.read_map(int(i)) == index
            images = archive.read(int(i))
            for band in pixels:
                pixels[band].append(images[band][inside])
        green = np.median(np.concatenate(pixels["B03"]))
        assert real.B03_p50[name] / 1.6 < green < real.B03_p50[name] * 1.6
        assert np.median(np.concatenate(pixels["VH"])) == pytest.approx(real.VH_p50[name], abs=2.5)
