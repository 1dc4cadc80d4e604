import pytest

from mosaic.datasets.sensors import sentinel1
from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError

TEN, SIXTY = ("B02", "B03", "B04", "B08"), ("B01", "B09")
TWENTY = ("B05", "B06", "B07", "B8A", "B11", "B12")


def test_twelve_bands_by_hand_lie_one_group_after_the_other(layout):
    assert [(g.name, g.sensor, g.bands, g.size, g.scale) for g in layout.groups] == [
        ("s2_120", "s2", TEN, 120, 1.0),
        ("s2_60", "s2", TWENTY, 60, 1.0),
        ("s2_20", "s2", SIXTY, 20, 1.0),
        ("s1", "s1", ("VV", "VH"), 120, 0.01),
    ]
    fields = [layout.dtype.fields[group.name][:2] for group in layout.groups]
    assert [field.base.str for field, _ in fields] == ["<i2"] * 4
    assert [field.shape for field, _ in fields] == [(4, 120, 120), (6, 60, 60), (2, 20, 20), (2, 120, 120)]
    assert [offset // 2 for _, offset in fields] == [0, 57_600, 79_200, 80_000]
    assert layout.record_bytes == 217_600


def test_bands_and_sensors_are_found_by_name(layout):
    group, channel = layout.group_of("B8A")
    assert (group.name, channel) == ("s2_60", 3)
    assert layout.sensor("s1") == sentinel1()
    with pytest.raises(PackError, match=r"'B10' is not packed; packed are VV, VH, B01, B02"):
        layout.group_of("B10")
    with pytest.raises(PackError, match=r"no sensor 'dem' is packed; packed are s1, s2"):
        layout.sensor("dem")
    with pytest.raises(PackError, match="no band"):
        BandLayout((), {})
