import json
from dataclasses import replace

import pytest

from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError

TEN, TWENTY, SIXTY = (
    ("B02", "B03", "B04", "B08"),
    ("B05", "B06", "B07", "B8A", "B11", "B12"),
    ("B01", "B09"),
)
SIZES = dict.fromkeys(("VV", "VH", *TEN), 120) | dict.fromkeys(TWENTY, 60) | dict.fromkeys(SIXTY, 20)
ALL = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B11", "B12")


def test_twelve_bands_by_hand():
    layout = BandLayout.of(("VV", "VH"), ALL, SIZES)
    found = [(g.name, g.sensor, g.bands, g.size, g.offset, g.scale) for g in layout.groups]
    assert found == [
        ("s2_10m", "s2", TEN, 120, 0, 1.0),
        ("s2_20m", "s2", TWENTY, 60, 57_600, 1.0),  # 4 x 120 x 120
        ("s2_60m", "s2", SIXTY, 20, 79_200, 1.0),  # + 6 x 60 x 60
        ("s1", "s1", ("VV", "VH"), 120, 80_000, 0.01),  # + 2 x 20 x 20
    ]
    assert layout.record_bytes == 217_600
    assert layout.s2_bands == ALL


def test_four_bands_by_hand():
    layout = BandLayout.of(("VV", "VH"), TEN, SIZES)
    assert [(g.name, g.offset) for g in layout.groups] == [("s2_10m", 0), ("s1", 57_600)]
    assert layout.record_bytes == 172_800


def test_numpy_type_has_the_same_places():
    layout = BandLayout.of(("VV", "VH"), ALL, SIZES)
    assert layout.dtype.itemsize == layout.record_bytes
    for group in layout.groups:
        field, offset = layout.dtype.fields[group.name][:2]
        assert (field.base.str, field.shape, offset) == ("<i2", group.shape, 2 * group.offset)


def test_survives_json():
    layout = replace(BandLayout.of(("VV",), ALL, SIZES), statistics={"VV": {"mean": -12.5, "std": 4.0}})
    assert BandLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


def test_group_of_names_what_is_packed():
    layout = BandLayout.of(("VV", "VH"), ALL, SIZES)
    group, place = layout.group_of("B8A")
    assert (group.name, place) == ("s2_20m", 3)
    with pytest.raises(PackError, match=r"'B10' is not packed; packed are VV, VH, B01"):
        layout.group_of("B10")


def test_no_bands_and_unequal_sar_are_refused():
    with pytest.raises(PackError, match="no band"):
        BandLayout.of((), (), {})
    with pytest.raises(PackError, match="different sizes"):
        BandLayout.of(("VV", "VH"), (), {"VV": 120, "VH": 60})


def test_selected_bands_keep_their_order_and_lie_without_gaps():
    layout = BandLayout.of(("VV", "VH"), ALL, SIZES)
    part = layout.select({"VH", "B11", "B02", "B08"})
    assert (part.s1_bands, part.s2_bands) == (("VH",), ("B02", "B08", "B11"))
    assert [(group.name, group.bands) for group in part.groups] == [
        ("s2_10m", ("B02", "B08")),
        ("s2_20m", ("B11",)),
        ("s1", ("VH",)),
    ]
    assert [group.offset for group in part.groups] == [0, 2 * 120**2, 2 * 120**2 + 60**2]
    assert part.record_bytes == 2 * (2 * 120**2 + 60**2 + 120**2)
    with pytest.raises(PackError, match="'B10' is not packed"):
        layout.select({"B10"})
