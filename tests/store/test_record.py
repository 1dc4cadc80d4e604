import numpy as np
import pytest

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.store.record import averaged, averaging_block, to_record
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError

LAYOUT = BandLayout((sentinel1(), sentinel2(("B01", "B02"))), {"VV": 120, "VH": 120, "B01": 20, "B02": 120})


@pytest.fixture
def sample():
    rng = np.random.default_rng(0)
    return {
        "B01": rng.integers(1, 9000, (20, 20), dtype=np.uint16),
        "B02": rng.integers(1, 9000, (120, 120), dtype=np.uint16),
        "VV": rng.uniform(-55, 25, (120, 120)).astype(np.float32),
        "VH": rng.uniform(-55, 25, (120, 120)).astype(np.float32),
    }


def packed(sample):
    """What is known of the record, and what is in it."""
    out = bytearray(LAYOUT.record_bytes)
    return to_record(sample, LAYOUT, memoryview(out)), np.frombuffer(out, LAYOUT.dtype)[0]


def with_value(band, value, dtype=None):
    """Return what puts a value into one pixel of a band, perhaps of another type."""

    def change(sample):
        image = sample[band].astype(dtype or sample[band].dtype)
        image[3, 4] = value
        return sample | {band: image}

    return change


@pytest.mark.parametrize(
    ("value", "integer"), [(-12.344, -1234), (-12.346, -1235), (327.67, 32767), (-327.67, -32767)]
)
def test_decibels_are_rounded_not_cut(sample, value, integer):
    assert packed(with_value("VH", value)(sample))[1]["s1"][1, 3, 4] == integer


@pytest.mark.parametrize("dtype", ["int16", "int32", "uint64"])
def test_integers_of_any_width_are_kept_up_to_the_largest(sample, dtype):
    sample = with_value("B02", 32767, dtype)(sample)
    assert np.array_equal(packed(sample)[1]["s2_120"][0], sample["B02"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (with_value("VV", np.nan), "VV has 1 values that are NaN or infinite"),
        (with_value("VH", -np.inf), "VH has 1 values that are NaN or infinite"),
        (with_value("VV", 327.68), r"VV spans -5\d.* to 327.68 dB, expected -327.67 to 327.67"),
        (with_value("VV", -500), "VV spans -500"),
        (with_value("B02", 32768), "B02 spans 1 to 32768 DN, expected 0 to 32767"),
        (with_value("B02", -1, "int16"), "B02 spans -1 to .* DN, expected 0 to 32767"),
        (with_value("B02", 65536 + 5, "int32"), "B02 spans 1 to 65541 DN"),
        (with_value("B02", 2**40, "uint64"), r"B02 spans 1 to .* DN"),
        (lambda s: s | {"B01": s["B02"]}, r"B01 has shape \(120, 120\), expected \(20, 20\)"),
        (lambda s: s | {"B02": s["B02"] / 1e4}, "B02 has type float64, expected integer DN"),
        (lambda s: {band: s[band] for band in ("VV", "B01", "B02")}, "VH is missing"),
    ],
)
def test_what_a_cast_would_hide_is_refused(sample, change, message):
    with pytest.raises(ValueError, match=message):
        packed(change(sample))


@pytest.mark.parametrize(("bands", "sensor"), [(("B01", "B02"), "Sentinel-2"), (("VV", "VH"), "Sentinel-1")])
def test_all_zero_sensor_is_refused_a_single_band_is_flagged(sample, bands, sensor):
    sample[bands[0]][:] = 0
    assert packed(sample)[0].constant_bands == bands[0]
    sample[bands[1]][:] = 0
    with pytest.raises(ValueError, match=f"all {sensor} values are zero"):
        packed(sample)


def test_flags_and_moments(sample):
    sample["B02"][:60] = 0
    record, _ = packed(sample)
    assert record.constant_bands == ""
    assert record.nodata_share == 60 * 120 / (120 * 120 + 20 * 20)
    values = sample["B01"].astype(int)
    assert record.moments["B01"] == [400, values.sum(), (values**2).sum()]


def test_blocks_are_averaged_over_what_has_data(sample):
    sample["B02"][:3], empty = 0, np.zeros((120, 120), bool)
    empty[:3] = True
    small = averaged(sample | {"VV": np.ma.MaskedArray(sample["VV"], empty)}, LAYOUT, 2)
    assert (small["B02"][0] == 0).all() and (small["VV"].mask[:, 0] == [True] + [False] * 59).all()
    for y, rows in ((1, slice(3, 4)), (2, slice(4, 6))):
        for x in range(60):
            pixels = (rows, slice(2 * x, 2 * x + 2))
            assert abs(small["B02"][y, x] - sample["B02"][pixels].mean()) <= 0.5
            power = (10 ** (sample["VV"][pixels].astype(float) / 10)).mean()
            assert small["VV"][y, x] == pytest.approx(10 * np.log10(power))


def test_blocks_divide_every_size():
    sizes = {"B02": 120, "B05": 60, "B01": 20}
    blocks = {most: averaging_block(sizes, most) for most in (None, 120, 60, 30, 29)}
    assert blocks == {None: 1, 120: 1, 60: 2, 30: 4, 29: 5}
    with pytest.raises(PackError, match="20, 60, 120 pixels cannot be averaged in whole blocks to at most 5"):
        averaging_block(sizes, 5)
