import pytest

from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError

TEN, TWENTY = ("B02", "B03", "B04", "B08"), ("B05", "B06", "B07", "B8A", "B11", "B12")
SIXTY = ("B01", "B09")
SIZES = dict.fromkeys(("VV", "VH", *TEN), 120) | dict.fromkeys(TWENTY, 60) | dict.fromkeys(SIXTY, 20)
ALL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")
LAYOUT = BandLayout((sentinel1(), sentinel2(ALL)), SIZES)


def test_twelve_bands_by_hand():
    assert [(g.name, g.sensor, g.bands, g.size, g.scale) for g in LAYOUT.groups] == [
        ("s2_120", "s2", TEN, 120, 1.0),
        ("s2_60", "s2", TWENTY, 60, 1.0),
        ("s2_20", "s2", SIXTY, 20, 1.0),
        ("s1", "s1", ("VV", "VH"), 120, 0.01),
    ]
    assert LAYOUT.record_bytes == 217_600
    assert (LAYOUT.bands, LAYOUT.sensor_names) == (("VV", "VH", *ALL), ("s1", "s2"))


def test_groups_lie_one_after_the_other():
    fields = [LAYOUT.dtype.fields[group.name][:2] for group in LAYOUT.groups]
    assert [field.base.str for field, _ in fields] == ["<i2"] * 4
    assert [field.shape for field, _ in fields] == [(4, 120, 120), (6, 60, 60), (2, 20, 20), (2, 120, 120)]
    assert [offset // 2 for _, offset in fields] == [0, 57_600, 79_200, 80_000]


def test_bands_and_sensors_are_found_by_name():
    group, channel = LAYOUT.group_of("B8A")
    assert (group.name, channel) == ("s2_60", 3)
    assert LAYOUT.sensor("s1") == sentinel1()
    with pytest.raises(PackError, match=r"'B10' is not packed; packed are VV, VH, B01"):
        LAYOUT.group_of("B10")
    with pytest.raises(PackError, match=r"no sensor 'dem' is packed; packed are s1, s2"):
        LAYOUT.sensor("dem")
    with pytest.raises(PackError, match="no band"):
        BandLayout((), {})


def test_selected_bands_keep_their_order_and_lie_without_gaps():
    subset = LAYOUT.select({"VH", "B11", "B02", "B08"})
    assert [sensor.bands for sensor in subset.sensors] == [("VH",), ("B02", "B08", "B11")]
    assert [(group.name, group.bands) for group in subset.groups] == [
        ("s2_120", ("B02", "B08")),
        ("s2_60", ("B11",)),
        ("s1", ("VH",)),
    ]
    assert subset.record_bytes == 2 * (2 * 120**2 + 60**2 + 120**2)
    assert LAYOUT.select({"B02"}).sensor_names == ("s2",)
