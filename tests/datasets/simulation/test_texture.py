import numpy as np
import pytest
from scipy.stats import kstest

from mosaic.datasets.simulation.landscape import TABLE
from mosaic.datasets.simulation.texture import draw_relief, draw_texture

SIDE = 120
WHOLE = np.zeros((SIDE, SIDE), np.int64)


def drawn(pattern: str, seed: int = 0) -> np.ndarray:
    return draw_texture(np.full((SIDE, SIDE), pattern), WHOLE, np.random.default_rng(seed))


@pytest.mark.parametrize("pattern", sorted(set(TABLE["pattern"])))
def test_every_pattern_has_the_same_distribution_of_values(pattern):
    assert kstest(drawn(pattern).ravel(), "norm").pvalue > 0.99


def test_patterns_differ_in_space_where_their_values_do_not():
    def correlation(field):  # of neighbours two pixels apart, on both axes
        pairs = (field[2:], field[:-2]), (field[:, 2:], field[:, :-2])
        return np.mean([np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs])

    grain, smooth = correlation(drawn("grain")), correlation(drawn("smooth"))
    assert grain < 0.4 and smooth > 0.8


def test_rows_of_a_parcel_run_one_way_and_those_of_two_parcels_two_ways():
    def direction(field):  # of the strongest wave, radians
        power = np.abs(np.fft.fft2(field - field.mean()))[: SIDE // 2]
        power[:3, :3] = 0
        down, right = np.unravel_index(power.argmax(), power.shape)
        return np.arctan2(down, right if right < SIDE // 2 else right - SIDE)

    parcels = WHOLE.copy()
    parcels[:, SIDE // 2 :] = 1
    field = draw_texture(np.full((SIDE, SIDE), "streets"), parcels, np.random.default_rng(3))
    left, right = direction(field[:, : SIDE // 2]), direction(field[:, SIDE // 2 :])
    assert abs(np.sin(left - right)) > 0.1


def test_slopes_have_unit_variance_within_a_patch_and_a_mean_that_differs_between_patches():
    slopes = np.array([draw_relief(np.random.default_rng(seed), SIDE) for seed in range(60)])
    assert slopes.std((-2, -1)) == pytest.approx(1)
    assert 0.7 < slopes.mean((-2, -1)).std() < 1.3
