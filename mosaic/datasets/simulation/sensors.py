"""Simulated images of Sentinel-1 and Sentinel-2 over simulated land.

Medians and spreads of B02, B03, B04, B08, VV and VH are those of 120 real pairs, class by class; the other
bands follow from them by mixing ratios that reproduce the official band means. The spread is split between
scene, biome and season, parcel and texture, so that much of what tells two patches apart is nuisance.
Strengths were set by hand so that, in 120 pairs, labels explain as much of the statistics of Sentinel-1 as in
real pairs and trees are ahead of logistic regression as there, looking at random features, band statistics
and supervised late fusion only.
"""

from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from mosaic.datasets.bigearthnet_layout import S2_SIZE
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.reference import real_quantiles
from mosaic.datasets.simulation.landscape import COVERS, SNOW, TABLE, Landscape

#: Variance shares within a class: the scene, the class in its biome and season, the parcel and the texture.
_SCENE, _BIOME, _PARCEL, _TEXTURE = 0.35, 0.30, 0.23, 0.12
#: What a slope of one standard deviation in hilly land adds: standard deviations of brightness, and dB.
_SHADE, _SLOPE = 0.4, 1.6
#: Share of the variance of backscatter within a class that is not the scene's, and the standard deviations
#: that the pattern of a cover adds to it.
_BACKSCATTER, _ECHO = 0.5, 0.3
#: Bands that are simulated by class; the others follow from the optical ones.
_BY_CLASS = ("B02", "B03", "B04", "B08", "VV", "VH")
#: Equivalent number of looks of Sentinel-1 GRD in high resolution.
LOOKS = 4.4
#: Covers that Europe's labels do not name, by hand: DN of the ground in four bands, dB of VV and VH.
_BEYOND_EUROPE = {
    "Snow and ice": {"B02": 7500, "B03": 7600, "B04": 7500, "B08": 6800, "VV": -12.0, "VH": -19.0},
    "Rock and desert": {"B02": 1300, "B03": 1850, "B04": 2450, "B08": 3000, "VV": -14.0, "VH": -22.5},
}
#: A row a band, by hand: path radiance (DN) of a clear sky, transmittance of the atmosphere, and radiance of
#: the haze in units of that in B02.
_BANDS = pd.read_csv(Path(__file__).with_name("bands.csv"), index_col="band")


class Conditions(NamedTuple):
    """What all patches of one scene share."""

    brightness: float  # illumination and season, standard deviations
    greenness: float  # state of the vegetation, standard deviations
    haze: float  # path radiance added to B02, DN; B01 gets more, longer wavelengths less
    moisture: float  # of the soil, dB
    incidence: float  # slope of backscatter across the tile, dB a column
    relief: float  # how hilly the biome is, 0 to 1
    tints: NDArray[np.float64]  # (6, 21): how each cover differs in each of _BY_CLASS, standard deviations

    @classmethod
    def draw(cls, random: np.random.Generator, day_of_year: int, biome: int) -> "Conditions":
        """Draw the conditions of a scene; each cover has its looks in a biome, and its seasons."""
        fixed = np.random.default_rng([7, biome])  # the same biomes in every archive
        tints = 0.75 * _tied(fixed) + 0.6 * _tied(random)
        peak = 190 + TABLE["greenest"].to_numpy() + fixed.normal(0, 20, len(COVERS))
        green = TABLE["season"].to_numpy() * np.cos((day_of_year - peak) / 365 * 2 * np.pi)
        green += 1.3 * TABLE["ploughed"].to_numpy() * random.choice([-1, 1], len(COVERS))  # or under crops
        # ripe and bare ground: red rises where near infrared falls
        tints += np.outer([0.2, 0.2, -0.6, 1.0, 0.3, 0.6], green)
        season = np.cos((day_of_year - 190) / 365 * 2 * np.pi)
        return cls(
            brightness=float(_weather(random)),
            greenness=float(0.7 * season + 0.7 * random.normal()),
            haze=float(70 * np.exp(1.1 * random.normal())),
            moisture=float(2.0 * _weather(random)),
            incidence=float(random.normal(0, 0.02)),
            relief=float(fixed.uniform(0.2, 1.0)),
            tints=tints,
        )


def _weather(random: np.random.Generator, shape: tuple[int, ...] = ()) -> Any:
    """Draw numbers of about unit variance, more of them extreme than normal ones; within 3 either way."""
    return np.clip(random.standard_t(3, shape) / np.sqrt(3), -3, 3)


def _tied(random: np.random.Generator) -> NDArray[np.float64]:
    """Draw standard normal numbers (6, 21); half of their variance is common to all bands of a sensor."""
    common = random.standard_normal((2, len(COVERS)))[[0, 0, 0, 0, 1, 1]]
    return np.sqrt(0.5) * (common + _weather(random, common.shape))


@cache
def signatures() -> dict[str, NDArray[np.float64]]:
    """Return per cover (21,): logarithms of the optical medians, their spreads, and dB of VV and VH."""
    table = real_quantiles().set_index("cls").reindex(CORINE.classes)
    # two rare classes were not among the 120 pairs: take their neighbours in the nomenclature
    table.loc["Beaches, dunes, sands"] = table.loc["Natural grassland and sparsely vegetated areas"]
    table.loc["Coastal wetlands"] = table.loc["Inland wetlands"]
    result = {}
    for band in ("B02", "B03", "B04", "B08"):
        low, middle, high = np.maximum(table[[f"{band}_{q}" for q in ("p5", "p50", "p95")]].to_numpy().T, 5)
        result[band] = np.log(middle)
        # 1.645 standard deviations on either side; the narrower side, since tails hold other covers
        spread = np.minimum(np.log(high / middle), np.log(middle / low)) / 1.645
        result[f"{band}_std"] = np.clip(spread, 0.12, 0.6)
    sand = CORINE.classes.index("Beaches, dunes, sands")
    for band, factor in (("B02", 1.25), ("B03", 1.15), ("B04", 1.1), ("B08", 0.95)):
        result[band][sand] += np.log(factor)
    for band in ("VV", "VH"):
        result[band] = table[f"{band}_p50"].to_numpy(float, copy=True)
        speckle = 10 / np.log(10) / np.sqrt(LOOKS)
        spread = np.sqrt(np.maximum(table[f"{band}_std"].to_numpy(float) ** 2 - speckle**2, 0.5))
        result[f"{band}_std"] = np.minimum(spread, 2.5)
    result["VV"][CORINE.classes.index("Coastal wetlands")] -= 3.0
    for cover in _BEYOND_EUROPE.values():
        for band, level in cover.items():
            optical = band.startswith("B")
            result[band] = np.append(result[band], np.log(level) if optical else level)
            result[f"{band}_std"] = np.append(result[f"{band}_std"], 0.2 if optical else 2.0)
    return result


def _parcel_factor(land: Landscape, random: np.random.Generator) -> NDArray[np.float64]:
    """Return one standard normal number a parcel, spread over its pixels."""
    parcels, index = np.unique(land.parcels, return_inverse=True)
    return random.standard_normal(len(parcels))[index].reshape(land.truth.shape)


def observe(
    land: Landscape, optical: Conditions, radar: Conditions, column: int, random: np.random.Generator
) -> dict[str, NDArray]:
    """Return images of one patch of BigEarthNet at native size: uint16 DN of the surface, float32 dB.

    ``column`` is the position of the patch in its tile, which determines the incidence angle.
    """
    ground, biomass = _ground(land, optical, random)
    result = {}
    for band, size in S2_SIZE.items():
        path = _BANDS["haze"][band] * (optical.haze - 80)
        result[band] = _measured(ground[band] + path, max(S2_SIZE.values()) // size, random)
    return {**result, **_radar(land, radar, column, biomass, random)}


def observe_above_atmosphere(
    land: Landscape, optical: Conditions, radar: Conditions, random: np.random.Generator
) -> dict[str, NDArray]:
    """Return images (side, side) as SEN12MS has them: uint16 DN at the top of the atmosphere, float32 dB.

    Bands of 20 and 60 m are repeated to 10 m, so 6 must divide the side of the ground.
    """
    ground, biomass = _ground(land, optical, random)
    side = len(land.truth)
    # snow absorbs in the short-wave infrared, which the mixing ratios ignore
    for band in ("B11", "B12"):
        ground[band] = np.where(land.truth == SNOW, 0.1 * ground[band], ground[band])
    ground["B10"] = np.zeros((side, side))
    result = {}
    for band, radiance, transmittance, haze in _BANDS.itertuples():
        step = 120 // S2_SIZE.get(band, 20)
        path = radiance * (1 + 0.5 * haze * (optical.haze - 80) / 80)
        native = _measured(path + transmittance * ground[band], step, random)
        result[band] = native.repeat(step, 0).repeat(step, 1)
    return {**result, **_radar(land, radar, 45, biomass, random)}


def _ground(
    land: Landscape, optical: Conditions, random: np.random.Generator
) -> tuple[dict[str, NDArray], NDArray]:
    """Return reflectance at the ground, DN of twelve bands at 10 m, and the biomass of every pixel."""
    table, truth = signatures(), land.truth
    # biomass drives near infrared and, half as much, backscatter: what the sensors share beyond the class
    biomass, tone = _parcel_factor(land, random), _parcel_factor(land, random)
    tints, texture = np.sqrt(_BIOME) * optical.tints[:, truth], np.sqrt(_TEXTURE) * land.texture
    light = np.sqrt(_SCENE) * optical.brightness + np.sqrt(_PARCEL) * tone + texture
    light += _SHADE * optical.relief * land.slopes[0]
    green = np.sqrt(_SCENE) * optical.greenness + np.sqrt(_PARCEL) * biomass + texture
    levels = np.stack([light, light, 0.8 * light - 0.6 * green, green]) + tints[:4]
    ten = {
        b: np.exp(table[b][truth] + table[f"{b}_std"][truth] * x)
        for b, x in zip(_BY_CLASS[:4], levels, strict=True)
    }
    red, infrared = ten["B04"], ten["B08"]
    rise = infrared - red
    derived = {
        "B01": 0.83 * ten["B02"],
        "B05": red + 0.22 * rise,
        "B06": red + 0.735 * rise,
        "B07": red + 0.91 * rise,
        "B8A": red + 1.03 * rise,
        "B09": red + 1.03 * rise,
        "B11": np.maximum(0.55 * infrared + 0.62 * red, 2),
        "B12": np.maximum(0.22 * infrared + 0.88 * red, 2),
    }
    return {**ten, **derived}, biomass


def _measured(image: NDArray, step: int, random: np.random.Generator) -> NDArray[np.uint16]:
    """Blur by the optics, average blocks of ``step`` pixels, add the detector's noise."""
    size = len(image) // step
    blurred = gaussian_filter(image, 0.6, mode="reflect")
    native = blurred.reshape(size, step, size, step).mean((1, 3))
    noisy = native * (1 + 0.01 * random.standard_normal(native.shape)) + random.normal(0, 4, native.shape)
    return np.clip(np.rint(noisy), 1, 16000).astype(np.uint16)


def _radar(
    land: Landscape, scene: Conditions, column: int, biomass: NDArray, random: np.random.Generator
) -> dict[str, NDArray]:
    """Return backscatter in dB: class, parcel, moisture and incidence, then gamma speckle in linear power."""
    table, truth = signatures(), land.truth
    water = np.isin(truth, (17, 18))
    common = np.where(water, 3.0 * scene.brightness, scene.moisture + scene.incidence * (column - 45))
    roughness = _parcel_factor(land, random)
    result = {}
    for band, tint in zip(_BY_CLASS[4:], scene.tints[4:], strict=True):
        spread = np.sqrt(_BACKSCATTER) * table[f"{band}_std"][truth]
        factor = 0.5 * biomass + 0.6 * roughness + _ECHO * land.texture + 0.8 * tint[truth]
        level = table[band][truth] + common + spread * factor + _SLOPE * scene.relief * land.slopes[1]
        # speckle is independent in the two polarisations; its mean power is 1
        power = gaussian_filter(10 ** (level / 10), 0.5, mode="reflect")
        power = power * random.gamma(LOOKS, 1 / LOOKS, size=power.shape)
        result[band] = np.clip(10 * np.log10(power + 1e-6), -60, 30).astype(np.float32)
    return result
