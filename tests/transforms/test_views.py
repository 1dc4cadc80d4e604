import importlib
import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch
from torch.nn import functional

from mosaic.datasets.sensors import Augmentation
from mosaic.transforms import torch_sampling
from mosaic.transforms import views as module
from mosaic.transforms.views import CLIP, Views
from mosaic.utils.errors import SettingsError

PLAIN = {"crop_scale": 1.0, "dihedral": False}  # no crops, flips or turns


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def with_radiometry(layout, **strengths):
    """The layout with only these strengths of augmentation: ``s1={"gain": 1.5}``."""
    chosen = {name: Augmentation(**strengths.get(name, {})) for name in layout.sensor_names}
    return replace(layout, sensors=tuple(replace(s, augmentation=chosen[s.name]) for s in layout.sensors))


def random_records(layout, batch=4):
    return {
        group.name: torch.randint(-3000, 5000, (batch, *group.shape), generator=seeded(i)).short()
        for i, group in enumerate(layout.groups)
    }


def without_normalisation(layout, scale=1.0):
    return replace(layout, statistics={band: {"mean": 0.0, "std": scale} for band in layout.statistics})


def moments(layout, sensor):
    rows = [layout.statistics[band] for band in layout.sensor(sensor).bands]
    return [torch.tensor([row[key] for row in rows]).view(-1, 1, 1) for key in ("mean", "std")]


def channels(layout, *bands):
    return [layout.sensor("s2").bands.index(band) for band in bands]


def ramps(layout, axis):
    """Records whose stored values are the position in the patch, 0 to 20000 from edge to edge."""
    records = {}
    for group in layout.groups:
        position = ((torch.arange(group.size) + 0.5) / group.size * 20000).round().short()
        ramp = position.expand(group.size, -1) if axis == "x" else position[:, None].expand(-1, group.size)
        records[group.name] = ramp.expand(16, len(group.bands), -1, -1)
    flat = without_normalisation(with_radiometry(layout), 20000.0)
    return records, replace(flat, sensors=tuple(replace(s, scale=1.0) for s in flat.sensors))


@pytest.mark.parametrize("axis", ["x", "y"])
def test_all_resolutions_and_sensors_show_the_same_place(layout, axis):
    records, flat = ramps(layout, axis)
    view = Views(flat, 64, crop_scale=0.3)(records, seeded())
    position = torch.cat([view["s1"], view["s2"]], dim=1)
    fine = view["s2"][:, channels(flat, "B02")]
    # within half a coarse pixel of the border the ramp is extrapolated flat
    inside = ((fine > 1 / 40) & (fine < 1 - 1 / 40)).expand_as(position)
    assert inside.float().mean() > 0.9
    disagreement = (position - fine)[inside].abs().max().item()
    assert disagreement < 0.02 / 120  # a fiftieth of a 10 m pixel


def test_independent_geometry_moves_the_sensors_apart(layout):
    records, flat = ramps(layout, "x")
    view = Views(flat, 64, shared_geometry=False, crop_scale=0.3)(records, seeded())
    fine, coarse = view["s2"][:, channels(flat, "B02", "B01")].unbind(1)
    assert ((view["s1"][:, 0] - fine).abs().mean(dim=(1, 2)) > 0.01).sum() >= 14
    assert (coarse - fine).abs().mean() < 0.01  # the bands of one sensor stay together


@pytest.mark.parametrize("shared", [True, False])
def test_radiometry_leaves_the_geometry_of_every_view_as_it_is(layout, shared):
    drawn = []
    for radiometry in (0.0, 1.0):
        make = Views(layout, 16, shared_geometry=shared, radiometry=radiometry)
        affine, columns = make.draw(["s1", "s2"], 8, seeded(), views=2)["affine"], (6, 4, 6, 24)
        drawn.append(torch.cat(affine.split(2 * columns, 1)[::2], 1))
    assert torch.equal(*drawn)


def test_crops_are_inside_the_patch_and_of_the_stated_area(layout):
    make = Views(layout, 32, crop_scale=0.4, dihedral=False)
    theta = make.draw(["s1"], 5000, seeded())["affine"][:, :6].view(-1, 2, 3)
    half, centre = theta[:, :, :2].diagonal(dim1=1, dim2=2), theta[:, :, 2]
    assert (centre.abs() + half <= 1 + 1e-6).all()
    area, aspect = half.prod(1), half[:, 0] / half[:, 1]
    assert area.min() > 0.35 and area.max() <= 1  # a long crop is cut to the patch
    assert aspect.min() >= 0.74 and aspect.max() <= 1.34
    assert area.mean() == pytest.approx(0.69, abs=0.03)


def test_flips_and_turns_are_exact_and_all_eight_occur(layout):
    layout = without_normalisation(with_radiometry(layout), 1000.0)
    records = random_records(layout, batch=64)
    view = Views(layout, 120, crop_scale=1.0)(records, seeded())
    s1, s2 = records["s1"].float() * 0.01 / 1000, records["s2_120"].float() / 1000
    shown = view["s2"][:, channels(layout, "B02", "B03", "B04", "B08")]
    symmetries = [
        lambda x, k=k, t=t: torch.rot90(x.mT if t else x, k, (-2, -1)) for k in range(4) for t in (0, 1)
    ]
    seen = set()
    for i in range(64):
        (same,) = (k for k, turn in enumerate(symmetries) if torch.allclose(shown[i], turn(s2[i]), atol=1e-3))
        torch.testing.assert_close(view["s1"][i], symmetries[same](s1[i]), atol=1e-4, rtol=0)
        seen.add(same)
    assert seen == set(range(8))


@pytest.mark.parametrize("size", [64, 120])
def test_evaluation_is_plain_interpolation_of_the_whole_patch(layout, size):
    statistics = {band: {"mean": 10.0 * i, "std": 2e3 + i} for i, band in enumerate(layout.bands)}
    layout, records = replace(layout, statistics=statistics), random_records(layout)
    view = Views(layout, size).evaluation(records)
    for group in layout.groups:
        places = [layout.sensor(group.sensor).bands.index(band) for band in group.bands]
        value = records[group.name].float() * group.scale
        expected = functional.interpolate(value, size=(size, size), mode="bilinear", align_corners=False)
        mean, std = moments(layout, group.sensor)
        shown = (view[group.sensor] * std + mean)[:, places]
        torch.testing.assert_close(shown, expected, atol=0.02, rtol=1e-4)


EFFECTS = {  # strength -> sensor, value, and the effect from both views and mean and deviation of the bands
    "gain": ("s1", 1.5, lambda a, b, mean, std: (b - a) * std),  # dB
    "offset": ("s2", 0.3, lambda a, b, mean, std: b - a),
    "brightness": ("s2", 0.2, lambda a, b, mean, std: ((b * std + mean) / (a * std + mean)).log()),
}


@pytest.mark.parametrize("strength", EFFECTS)
def test_a_strength_is_the_spread_over_scenes_of_what_all_bands_share(layout, strength):
    sensor, value, effect = EFFECTS[strength]
    records = {g.name: torch.full((400, *g.shape), 900, dtype=torch.int16) for g in layout.groups}
    make = Views(with_radiometry(layout, **{sensor: {strength: value}}), 8, **PLAIN)
    plain, moved = make.evaluation(records)[sensor], make(records, seeded())[sensor]
    found = effect(plain, moved, *moments(layout, sensor)).flatten(1)
    assert found.std(1).max() < 1e-4
    assert found[:, 0].std().item() == pytest.approx(value, rel=0.15)


def test_speckle_is_independent_noise_in_db(layout):
    records = {g.name: torch.full((4, *g.shape), -1500, dtype=torch.int16) for g in layout.groups}
    make = Views(with_radiometry(layout, s1={"speckle": 0.8}), 64, **PLAIN)
    decibel = (make(records, seeded())["s1"] - make.evaluation(records)["s1"]) * moments(layout, "s1")[1]
    assert decibel.std().item() == pytest.approx(0.8, rel=0.03)
    assert decibel.abs().max() < 3.46 * 0.8
    flat = decibel.transpose(0, 1).flatten(1)
    neighbours = torch.cat([flat, flat.roll(1, 1), flat.roll(64, 1)])
    assert (torch.corrcoef(neighbours) - torch.eye(6)).abs().max() < 0.03
    scenes = torch.corrcoef(decibel.flatten(1))
    assert (scenes - torch.eye(4)).abs().max() < 0.06


def test_dropped_bands_are_at_their_mean_and_others_untouched(layout):
    records = random_records(layout, batch=300)
    make = Views(with_radiometry(layout, s2={"band_dropout": 0.25}), 8, **PLAIN)
    plain, view = make.evaluation(records)["s2"], make(records, seeded())["s2"]
    dropped = (view == 0).flatten(2).all(2)
    assert dropped.float().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(view[~dropped], plain[~dropped])
    rough = Views(with_radiometry(layout, s2={"band_dropout": 0.25, "speckle": 100.0}), 8, **PLAIN)
    assert torch.equal((rough(records, seeded())["s2"] == 0).flatten(2).all(2), dropped)


STRENGTHS = {"s1": {"gain": 2, "speckle": 2}, "s2": {"brightness": 1, "offset": 1, "band_dropout": 0.5}}


@pytest.mark.parametrize("sensor", STRENGTHS)
def test_a_sensor_without_augmentation_is_as_in_evaluation(layout, sensor):
    strengths = {name: values for name, values in STRENGTHS.items() if name != sensor}
    records, make = random_records(layout), Views(with_radiometry(layout, **strengths), 16, **PLAIN)
    torch.testing.assert_close(make(records, seeded())[sensor], make.evaluation(records)[sensor])


@pytest.mark.parametrize("seed", [0, 77, -77])
def test_bits_of_the_grain_are_those_of_the_finaliser_in_plain_integers(seed):
    def mixed(x):
        x = (x ^ (x >> 16)) * 0x85EBCA6B % 2**32
        x = (x ^ (x >> 13)) * 0xC2B2AE35 % 2**32
        return x ^ (x >> 16)

    bits = [mixed((seed + place * 0x9E3779B9) % 2**32) for place in range(12)]
    total = [sum(bit >> shift & 255 for shift in (0, 8, 16, 24)) for bit in bits]
    expected = (torch.tensor(total).float() - 510) * torch_sampling.GRAIN_UNIT
    noise = torch_sampling.grain(torch.tensor([seed], dtype=torch.int32), 3, 2)
    torch.testing.assert_close(noise.flatten(), expected, rtol=0, atol=0)


def test_a_seed_gives_a_view_and_leaves_the_global_generator_alone(layout):
    records, make, before = random_records(layout), Views(layout, 32), torch.get_rng_state()
    first, again, other = (make(records, seeded(seed)) for seed in (0, 0, 1))
    for sensor in first:
        assert torch.equal(first[sensor], again[sensor])
        assert not torch.allclose(first[sensor], other[sensor])
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.skipif(find_spec("triton") is None, reason="needs Triton")
def test_the_sampling_of_a_gpu_is_that_of_torch(layout, monkeypatch):
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # on the CPU, one program after another
    sys.modules.pop("mosaic.transforms.gpu_sampling", None)
    fast = importlib.import_module("mosaic.transforms.gpu_sampling").sample
    sys.modules.pop("mosaic.transforms.gpu_sampling")
    records, images = random_records(layout, batch=2), []
    layout = with_radiometry(layout, s1={"speckle": 1.0, "band_dropout": 0.5}, s2=STRENGTHS["s2"])
    for sampler in (torch_sampling.sample, fast):
        monkeypatch.setattr(module, "_sampler", lambda device, chosen=sampler: chosen)
        make = Views(layout, 20, crop_scale=0.2)
        images.append((make(records, seeded()), make.evaluation(records)))
    for plain, compiled in zip(*images, strict=True):
        for sensor, image in compiled.items():
            torch.testing.assert_close(image, plain[sensor], rtol=0, atol=5e-4)


def test_where_nothing_compiles_views_are_made_all_the_same_and_it_is_said(capsys):
    def fail(*arguments):
        raise RuntimeError("no compiler\nof many lines")

    into: list[int] = []
    sample = torch_sampling.guarded(fail, lambda into, value: into.append(value))
    sample(into, 1)
    sample(into, 2)
    assert into == [1, 2]
    assert capsys.readouterr().err.count("Triton failed (no compiler)") == 1


@pytest.mark.parametrize("shards", [2, 4])
def test_a_scene_gets_the_same_view_however_the_batch_is_divided(layout, shards):
    records, make = random_records(layout, batch=8), Views(layout, 16, shared_geometry=False)
    whole = make(records, seeded())
    for index in range(shards):
        rows = slice(index * 8 // shards, (index + 1) * 8 // shards)
        shard = {name: record[rows] for name, record in records.items()}
        drawn = make.draw(make.shown(records), 8 // shards, seeded(), (index, shards))
        for sensor, image in make.apply((shard,), drawn).items():
            assert torch.equal(image, whole[sensor][rows])


def test_second_views_follow_the_first(layout):
    records, make, generator = random_records(layout, batch=3), Views(layout, 16), seeded()
    separate = [make(records, generator) for _ in range(2)]
    both = make.apply((records, records), make.draw(make.shown(records), 3, seeded(), views=2))
    for sensor, images in both.items():
        assert torch.equal(images, torch.cat([view[sensor] for view in separate]))


def test_extremes_are_cut_and_finite_even_where_a_band_never_varied(layout):
    layout = replace(layout, statistics={**layout.statistics, "B01": {"mean": 0.0, "std": 0.0}})
    records = {g.name: torch.full((2, *g.shape), 32767, dtype=torch.int16) for g in layout.groups}
    records["s1"] = -records["s1"]
    for image in Views(layout, 16)(records, seeded()).values():
        assert image.dtype == torch.float32 and image.isfinite().all() and image.abs().max() <= CLIP


def test_radiometry_that_drops_every_band_is_refused(layout):
    with pytest.raises(SettingsError, match="radiometry 10 times band_dropout drops all bands"):
        Views(layout, 16, radiometry=10)
