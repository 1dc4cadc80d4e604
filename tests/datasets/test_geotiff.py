"""The fast reader against rasterio: the same bits of what it reads, and nothing of what it does not know."""

import itertools
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
from rasterio import shutil as raster_files
from rasterio.errors import NotGeoreferencedWarning

from mosaic.datasets.archive import PatchError
from mosaic.datasets.geotiff import read_header, read_raster, read_strips, to_degrees
from mosaic.datasets.simulation.produce import write_geotiff


def pixels(bands=1, size=(41, 33), dtype="uint16"):
    random = np.random.default_rng(0)
    if dtype == "float32":
        return random.normal(-12, 5, (bands, *size)).astype(dtype)
    return random.integers(0, np.iinfo(dtype).max, (bands, *size), dtype=dtype, endpoint=True)


def write(path, layers, **options):
    write_geotiff(path, layers, (3e5, 5e6), 32633, **options)
    return path


def by_rasterio(path):
    with rasterio.open(path) as file:
        return file.read(), read_header(file)


def assert_same(path):
    """Check pixels, bit by bit, and header against rasterio's; return the pixels."""
    for _ in range(2):  # when this kind of file is first met, and from then on
        values, header = read_strips(path)
        expected, expected_header = by_rasterio(path)
        assert values.dtype == expected.dtype
        assert values.shape == expected.shape
        assert values.tobytes() == expected.tobytes()
        assert header == expected_header
    return values


TAKEN = {
    "optical band": (pixels(), {"nodata": 0}),
    "radar band": (pixels(dtype="float32"), {}),
    "one strip": (pixels(size=(20, 20)), {}),
    "rows of strips": (pixels(size=(41, 33)), {"blockysize": 7}),
    "map": (pixels(), {"compress": "deflate", "nodata": 0}),
    "map of several strips": (pixels(dtype="uint8"), {"compress": "deflate", "blockysize": 5}),
    "thirteen bands by pixel": (pixels(13), {"interleave": "pixel"}),
    "thirteen bands by band": (pixels(13), {"interleave": "band"}),
    "radar bands by pixel": (pixels(2, dtype="float32"), {}),
    "radar bands by band": (pixels(2, dtype="float32"), {"interleave": "band", "blockysize": 9}),
    "land cover, as colours": (pixels(4, dtype="uint8"), {"photometric": "RGB"}),
    "deflated bands by band": (pixels(4), {"interleave": "band", "compress": "deflate", "blockysize": 9}),
}
LEFT = {
    "tiles": (pixels(size=(64, 64)), {"tiled": True, "blockxsize": 16, "blockysize": 16}),
    "differences": (pixels(), {"compress": "deflate", "predictor": 2}),
    "differences of floats": (pixels(dtype="float32"), {"compress": "deflate", "predictor": 3}),
    "another compression": (pixels(), {"compress": "lzw"}),
    "64-bit offsets": (pixels(), {"BIGTIFF": "YES"}),
    "the other byte order": (pixels(), {"ENDIANNESS": "BIG"}),
    "fewer bits": (pixels(dtype="uint16") >> 4, {"NBITS": 12}),
    "a turned image": (pixels(), {"transform": rasterio.Affine(8, 6, 3e5, 6, -8, 5e6)}),
}


@pytest.mark.parametrize("name", TAKEN)
def test_official_forms_are_read_bit_by_bit(tmp_path, name):
    layers, options = TAKEN[name]
    path = write(tmp_path / "band.tif", layers, **options)
    assert np.array_equal(assert_same(path), layers)
    other = layers[:, ::-1] // 2
    later = write(
        tmp_path / "later.tif", other, transform=rasterio.Affine(10, 0, 4e5, 0, -10, 6e6), **options
    )
    assert np.array_equal(assert_same(later), other)


@pytest.mark.parametrize("name", LEFT)
def test_all_else_is_left_to_rasterio(tmp_path, name):
    layers, options = LEFT[name]
    path = write(tmp_path / "band.tif", layers, **options)
    assert read_strips(path) is None
    values, header = read_raster(path, "patch", layers.shape, [layers.dtype.name])
    assert np.array_equal(values, layers)
    assert header.epsg == 32633


def test_a_constant_first_file_does_not_hide_that_later_ones_are_coded(tmp_path):
    options = {"compress": "deflate", "predictor": 2}
    for name, layers in (("first", pixels() * 0), ("later", pixels())):
        path = write(tmp_path / f"{name}.tif", layers, **options)
        assert read_strips(path) is None


def test_a_second_image_and_a_mask_change_no_pixel(tmp_path):
    path = write(tmp_path / "band.tif", pixels(size=(64, 64)))
    with rasterio.open(path, "r+") as file:
        file.build_overviews([2])
    assert_same(path)
    path = write(tmp_path / "masked.tif", pixels())
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True), rasterio.open(path, "r+") as file:
        file.write_mask(np.eye(41, 33, dtype=bool))
    assert_same(path)


@pytest.mark.parametrize("keep", [0, 7, 8, 100, 300, -1, -700])
@pytest.mark.parametrize("name", ["optical band", "map"])
def test_a_file_cut_short_has_the_error_of_rasterio(tmp_path, name, keep):
    layers, options = TAKEN[name]
    path = write(tmp_path / "band.tif", layers, **options)
    path.write_bytes(path.read_bytes()[:keep])
    assert read_strips(path) is None
    with pytest.raises(PatchError, match="the file is truncated or no TIFF") as caught:
        read_raster(path, "patch", layers.shape, ["uint16"])
    assert caught.value.kind == "unreadable"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "the file is missing: restore"),
        (lambda path: write(path.with_suffix(".TIF"), pixels()), r"missing \(rename band.TIF, which is"),
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),  # which would be waited for
        (lambda path: path.symlink_to(path), "cannot be opened .*symbolic links"),
        (
            lambda path: raster_files.copy(write(path.with_name("x.tif"), pixels()), path, driver="VRT"),
            "no TIFF",  # but names another file, or an address in the network
        ),
    ],
    ids=["missing", "capitals", "folder", "pipe", "loop", "virtual"],
)
def test_what_is_no_file_is_not_opened(tmp_path, make, message):
    make(tmp_path / "band.tif")
    with pytest.raises(PatchError, match=message):
        read_raster(tmp_path / "band.tif", "patch", (1, 41, 33), ["uint16"])


def test_values_without_data_are_masked_or_zero(tmp_path):
    radar, optical = pixels(2, dtype="float32"), pixels()
    for nodata in (-9999, np.nan):
        radar[:, :10], optical[:, :10] = nodata, 65535
        path = write(tmp_path / f"radar{nodata}.tif", radar, nodata=nodata)
        values, _ = read_raster(path, "p", radar.shape, ["float32"], (-327, 327, "dB"))
        assert values.mask[:, :10].all() and not values.mask[:, 10:].any()
        assert values.data[:, 0, 0] == pytest.approx(radar[:, 10:].mean((1, 2)))
    values, _ = read_raster(
        write(tmp_path / "optical.tif", optical, nodata=65535), "p", optical.shape, ["uint16"]
    )
    assert (values == np.where(optical == 65535, 0, optical)).all()


@pytest.mark.parametrize(("rows", "tag", "masked"), [(1, None, 0), (3, None, 3), (1, 0, 1)])
def test_zero_decibels_are_no_data_where_declared_or_in_strips(tmp_path, rows, tag, masked):
    """Up to 58 of 65,536 pixels of a sound patch of SEN12MS are exactly 0, its upper limit."""
    radar = pixels(dtype="float32", size=(200, 200))
    radar[:, :rows] = 0
    path = write(tmp_path / "radar.tif", radar, **({} if tag is None else {"nodata": tag}))
    values, _ = read_raster(path, "p", radar.shape, ["float32"])
    assert np.ma.getmaskarray(values).sum() == 200 * masked


@pytest.mark.parametrize("name", ["map of several strips", "land cover, as colours"])
def test_a_damaged_header_never_gives_other_pixels_than_rasterio(tmp_path, name):
    layers, options = TAKEN[name]
    path = write(tmp_path / "band.tif", layers[:, :12], **options)
    sound, taken = path.read_bytes(), 0
    directory = 10 + 12 * (sound[8] | sound[9] << 8)
    for at, change in itertools.product(range(directory), (1, 128)):
        path.write_bytes(sound[:at] + bytes([sound[at] ^ change]) + sound[at + 1 :])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            if read_strips(path) is not None:
                taken += 1
                assert_same(path)
    assert taken > 10


def test_the_place_is_rasterios_where_the_tie_point_is_the_middle_of_a_pixel(tmp_path):
    path = write(tmp_path / "band.tif", pixels())
    with rasterio.open(path, "r+") as file:
        file.update_tags(AREA_OR_POINT="Point")
    assert read_raster(path, "patch", (1, 41, 33), ["uint16"])[1] == by_rasterio(path)[1]


def test_a_place_without_a_projection_is_unknown():
    assert np.isnan(to_degrees(None, 500_000.0, 0.0)).all()
    assert to_degrees(32633, 500_000.0, 0.0) == pytest.approx((15.0, 0.0))  # central meridian, equator
