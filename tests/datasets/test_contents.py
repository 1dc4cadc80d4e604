from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
import rasterio

from mosaic.datasets.bigearthnet import BigEarthNetArchive
from mosaic.datasets.bigearthnet_layout import S2_SIZE
from mosaic.datasets.contents import contents_of, whole_archive_problems
from mosaic.datasets.registry import open_archive
from mosaic.datasets.sensors import TEN_METRE
from mosaic.datasets.verify import verify
from mosaic.store.writer import pack
from mosaic.utils.errors import PackError


def problems_of(archive, samples):
    contents = [contents_of(archive.sensors, sample) for sample in samples]
    return whole_archive_problems(archive.sensors, archive.index.iloc[: len(samples)], contents)


def changed(samples, bands, change):
    return [s | {b: change(np.asarray(v)) for b, v in s.items() if b in bands} for s in samples]


def percentile_stretch(values):
    low, high = np.quantile(values, [0.02, 0.98])
    return (255 * ((values - low) / max(high - low, 1)).clip(0, 1)).astype(np.uint16)


UNITS = {  # what was done -> bands, change, kind, part of the message
    "8 bits of 10,000": (TEN_METRE, lambda x: x // 40, "unit", "look like 8 bits"),
    "8 bits of 3,000": (TEN_METRE, lambda x: x.clip(0, 3000) // 12, "unit", "look like 8 bits"),
    "8 bits by image": (TEN_METRE, percentile_stretch, "unit", "look like 8 bits"),
    "offset": (TEN_METRE, lambda x: x + 1000 * (x > 0).astype(np.uint16), "offset", "below 1000 DN in "),
    "other sign": (["VV", "VH"], np.negative, "unit", "VV is positive in most pixels of 100 % of the "),
    "sign of a band": (["VH"], np.abs, "unit", "VH is positive in most pixels of 100 % of the "),
}


@pytest.fixture(scope="module")
def real(real_data):
    """The real pairs with 10 m bands, and their samples."""
    archive = open_archive("bigearthnet", real_data / "ben_v2_mini", "10m")
    return archive, [archive.read(i) for i in range(len(archive))]


def test_real_pairs_are_as_expected_all_or_one_and_of_water_or_snow_alone(real):
    archive, samples = real
    assert problems_of(archive, samples) == []
    for sample in samples:
        assert problems_of(archive, [sample]) == []
    waters, labels = {"Marine waters", "Inland waters"}, archive.index["labels"]
    water = [sample for sample, names in zip(samples, labels, strict=True) if waters >= {*names}]
    assert len(water) == 5 and problems_of(archive, water) == []
    random = np.random.default_rng(0)
    for level, spread in ((6500, 900), (3400, 500)):  # DN of fresh snow, and of old
        drawn = partial(random.normal, level, spread)
        snow = changed(samples, TEN_METRE, lambda x, drawn=drawn: drawn(x.shape).astype(np.uint16))
        assert problems_of(archive, snow) == []


@pytest.mark.parametrize("case", UNITS)
def test_other_units_of_the_real_pairs_are_found(real, case):
    bands, change, kind, message = UNITS[case]
    (problem,) = problems_of(real[0], changed(real[1], bands, change))
    assert (problem.kind, problem.patch_id, problem.note) == (kind, "", kind == "offset")
    assert message in problem.detail


def rewrite(path, change):
    with rasterio.open(path, "r+") as file:
        file.write(change(file.read(1)), 1)


def positive(values):
    values = -values
    values[0, 0] = -3  # was a bright target: not every pixel is positive now
    return values


@pytest.mark.parametrize(
    ("kind", "bands", "change", "message"),
    [
        ("unit", ["VV"], positive, "VV is positive .* its sign was lost"),
        ("offset", S2_SIZE, lambda x: x // 2 + 1000, "no Sentinel-2 band falls below 1000 DN in 100 % of"),
    ],
)
def test_units_are_told_by_verify_and_pack(official_archive, tmp_path, capsys, kind, bands, change, message):
    archive = BigEarthNetArchive(official_archive(tmp_path / "ben", patches=4))
    for i in range(4):
        for band in bands:
            rewrite(archive.path(i, band), change)
    (found,) = verify(archive.root, workers=1).to_dict("records")
    assert (found["kind"], found["patch_id"], found["note"]) == (kind, "", kind == "offset")
    with pytest.raises(PackError, match=message) if kind == "unit" else nullcontext():
        pack(archive, tmp_path / "packed", workers=1)
        assert message in capsys.readouterr().err


@pytest.mark.parametrize(("sensor", "title"), [("s1", "Sentinel-1 "), ("s2", "Sentinel-2 "), ("", "")])
def test_a_record_or_one_sensor_of_it_under_another_name(official_archive, tmp_path, sensor, title):
    """Both patches are named; a copied image of one sensor may stand beside another one of the other."""
    archive = BigEarthNetArchive(official_archive(tmp_path / "ben", patches=6))
    (one, split), (other, other_split) = archive.index[["patch_id", "split"]].to_numpy()[:2]
    sample = archive.read(0)
    for band in [band for s in archive.sensors if sensor in s.name for band in s.bands]:
        rewrite(archive.path(1, band), lambda _, band=band: sample[band])
    (same,) = verify(archive.root, workers=1).to_dict("records")
    assert (same["kind"], same["patch_id"], same["note"]) == ("same pixels", other, split == other_split)
    assert same["detail"] == f"({other_split}) has the {title}pixels of {one} ({split})"


def test_images_of_one_value_a_band_are_no_copies(official_archive, tmp_path):
    archive = BigEarthNetArchive(official_archive(tmp_path / "ben", patches=2))
    sample = archive.read(0)
    flat = {b: np.full_like(v, k) for k, (b, v) in enumerate(sample.items())}
    empty = {b: np.ma.MaskedArray(np.zeros_like(sample[b]), True) for b in ("VV", "VH")}
    for same in (flat, flat | empty):
        assert contents_of(archive.sensors, same).pixels == {}
        assert "same pixels" not in [problem.kind for problem in problems_of(archive, [same, same])]
    assert "same pixels" in [problem.kind for problem in problems_of(archive, [sample, sample])]
