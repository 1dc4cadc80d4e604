"""Tables and pictures of an archive, and its realism card: is it as varied, and as hard, as the real one?

``01_explore_data`` shows them.
"""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from mosaic.datasets.reference import Reference
from mosaic.datasets.sensors import TEN_METRE, WAVELENGTH
from mosaic.evaluation.metrics import macro_ap, per_class_ap
from mosaic.evaluation.probes import linear_probe, tree_scores
from mosaic.store.reader import PackedStore
from mosaic.utils.errors import PackError
from mosaic.utils.progress import progress

TRUE_COLOUR = ("B04", "B03", "B02")
#: Pairs in a draw of the reference classifier: as many as the real ones that its values come from.
PAIRS = (120, 56)
_LABEL_STATISTICS = ("labels a patch", "P(share a label)", "P(identical)", "mean Jaccard")
_RADAR = ("VV", "VH")
_QUANTILES = ("p5", "p50", "p95")
_PIXELS_A_CLASS = 400  # drawn from each patch and class: a large parcel counts no more than many small ones


def without_pixels(class_names: Sequence[str], *frames: pd.DataFrame) -> str:
    """Return a sentence that names the classes which one of the frames lacks; empty when none is lacking."""
    absent = [name for name in class_names if not all((frame["class"] == name).any() for frame in frames)]
    return f" Left out, without pixels: {'; '.join(absent)}." if absent else ""


def display_bands(store: PackedStore) -> list[str]:
    """Return the bands shown as red, green and blue: true colour, or the first of the finest optical ones.

    ``PackError`` when no optical band was packed.
    """
    optical = [band for sensor in store.layout.sensors if sensor.unit != "dB" for band in sensor.bands]
    if set(TRUE_COLOUR) <= set(optical):
        return list(TRUE_COLOUR)
    if not optical:
        raise PackError(f"{store.folder} holds no optical band: pack at least one")
    sizes = {band: store.layout.group_of(band)[0].size for band in optical}
    finest = [band for band in optical if sizes[band] == max(sizes.values())]
    return (finest * 3)[:3]


def pair_images(archive: Any, store: PackedStore, patches: int) -> dict[str, Any]:
    """Return ``patches`` pairs drawn at random, as ``plots.imagery.gallery`` takes them."""
    rows = np.random.default_rng(0).choice(len(store), size=min(patches, len(store)), replace=False)
    chosen, optical = store.index.iloc[rows], display_bands(store)
    images = store.read_bands(rows, [*optical, *_RADAR])
    map_index = {name: i for i, name in enumerate(archive.index["patch_id"])}
    maps = [archive.read_map(map_index[name]) for name in chosen["patch_id"]]
    return {
        "optical": np.stack([images[band] for band in optical], axis=-1),
        "sar": np.stack([images[band] for band in _RADAR], axis=1),
        "maps": None if maps[0] is None else np.stack(maps),
        "titles": (chosen["tile"].astype(str) + " " + chosen["date"].astype(str)).tolist(),
        "class_names": store.class_names,
        "colors": store.manifest.class_colors,
    }


def class_quantiles(archive: Any, store: PackedStore, patches: int = 300) -> pd.DataFrame:
    """Return pixel quantiles (DN or dB) of every class and band under the maps of ``patches`` drawn patches.

    Wavelengths are in nm, NaN for radar. Empty where the archive has no reference maps.
    """
    random = np.random.default_rng(0)
    rows = np.sort(random.choice(len(store), size=min(patches, len(store)), replace=False))
    map_index = {name: i for i, name in enumerate(archive.index["patch_id"])}
    values: dict[tuple[int, str], list[NDArray[np.float32]]] = {}
    for row in progress(rows, "pixels under the reference maps", total=len(rows)):
        classes = archive.read_map(map_index[store.index["patch_id"].iloc[row]])
        if classes is None:
            return pd.DataFrame(columns=["class", "band", "wavelength", *_QUANTILES, "pixels"])
        images = store.read_bands([row], store.layout.bands)
        for label in np.setdiff1d(np.unique(classes), [255]):
            pixels = random.permutation(np.argwhere(classes == label))[:_PIXELS_A_CLASS]
            for band, (image,) in images.items():
                y, x = (pixels // (classes.shape[0] // image.shape[0])).T
                values.setdefault((int(label), band), []).append(image[y, x])
    table = []
    for (label, band), chunks in sorted(values.items()):
        quantiles = np.quantile(np.concatenate(chunks), [0.05, 0.5, 0.95])
        row = {"class": store.class_names[label], "band": band, "wavelength": WAVELENGTH.get(band, np.nan)}
        row |= dict(zip(_QUANTILES, quantiles, strict=True))
        table.append(row | {"pixels": sum(map(len, chunks))})
    return pd.DataFrame(table)


def compare_quantiles(quantiles: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Return quantiles of :func:`class_quantiles` and, if known, of real pairs: six bands, shared classes."""
    if reference.quantiles is None:
        return pd.DataFrame()
    real = reference.quantiles.set_index("cls")
    rows = quantiles[quantiles["band"].isin([*TEN_METRE, *_RADAR]) & quantiles["class"].isin(real.index)]
    simulated = rows[["class", "band", *_QUANTILES]].rename(columns={"band": "quantity"})
    simulated = simulated.assign(unit=np.where(simulated["quantity"].isin(_RADAR), "dB", "DN"))
    pairs = list(zip(simulated["class"], simulated["quantity"], strict=True))
    known = simulated.assign(source="real")
    for quantile in _QUANTILES:
        known[quantile] = np.array([real.at[name, f"{band}_{quantile}"] for name, band in pairs])
    return pd.concat([simulated.assign(source="simulated"), known], ignore_index=True)


def _patch_statistics(store: PackedStore, rows: NDArray[np.int64], bands: Sequence[str]) -> NDArray[Any]:
    """Return mean, deviation and 10, 50, 90 % quantiles of every band, (N, 5 x bands), DN or dB."""
    columns = []
    for image in store.read_bands(rows, bands).values():
        pixels = image.reshape(len(rows), -1)
        columns += [pixels.mean(1), pixels.std(1), *np.quantile(pixels, [0.1, 0.5, 0.9], axis=1)]
    return np.stack(columns, axis=1).astype(np.float32)


def reference_classifier(
    store: PackedStore, pairs: Sequence[int] = PAIRS, draws: int = 5, least_positives: int = 5
) -> pd.DataFrame:
    """Score ExtraTrees on statistics of whole patches, cross-validated by scene, as on the real pairs.

    Average precision depends on the number of pairs, so as many are drawn as there were real ones, a few from
    each scene; classes of fewer than ``least_positives`` positives are left out (14 remained of the real 19).
    ``over_linear`` is the trees' macro AP less that of logistic regression (C = 0.1, standardised
    statistics); ``explained`` is R2 of the statistics in scenes left out, by least squares on the labels of
    those classes, a mean over statistics.
    Empty where no class is left, or all pairs are of one scene.
    """
    ten = [band for band in TEN_METRE if band in store.layout.bands]
    inputs = {"S1": list(_RADAR), "S2, 10 m bands": ten, "both": [*ten, *_RADAR]}
    inputs = {name: bands for name, bands in inputs.items() if bands}  # packed without any 10 m band
    sizes = dict.fromkeys(min(size, len(store.scenes)) for size in pairs)
    rows = []
    for draw, size in progress([*product(range(draws), sizes)], "reference classifier"):
        chosen = _spread(store.scenes, size, np.random.default_rng(draw))
        labels = store.labels[chosen]
        labels = labels[:, (labels.sum(0) >= least_positives) & (labels.sum(0) < len(labels))]
        scenes = store.scenes[chosen]
        if not labels.shape[1] or len(np.unique(scenes)) < 2:
            continue
        folds = list(GroupKFold(min(5, len(np.unique(scenes)))).split(chosen, groups=scenes))
        for name, bands in inputs.items():
            features = _patch_statistics(store, chosen, bands)
            trees, linear = np.zeros((2, *labels.shape), np.float32)
            for train, test in folds:
                fitted, scored = (features[train], labels[train]), {"test": features[test]}
                trees[test] = tree_scores(*fitted, scored, draw)["test"]
                linear[test] = linear_probe(*fitted, *fitted, scored, [0.1])[0]["test"]
            macro = per_class_ap(labels, trees).mean()
            micro = macro_ap(labels.reshape(-1, 1), trees.reshape(-1, 1))
            predicted = cross_val_predict(LinearRegression(), labels, features, cv=folds)
            over_linear = macro - per_class_ap(labels, linear).mean()
            explained = r2_score(features, predicted)
            rows.append((draw, name, macro, micro, over_linear, explained, *labels.shape))
    measures = ["ap_macro", "ap_micro", "over_linear", "explained"]
    return pd.DataFrame(rows, columns=["draw", "input", *measures, "pairs", "classes"])


def _spread(scenes: NDArray[np.str_], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``count`` rows from as many scenes as there are: the first of each scene, then the second, ..."""
    order = random.permutation(len(scenes))
    rank = pd.Series(scenes[order]).groupby(scenes[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(rank, kind="stable")][:count])


def statistics_card(
    label_statistics: Mapping[str, float], scores: pd.DataFrame, reference: Reference
) -> pd.DataFrame:
    """Return label statistics and scores of :func:`reference_classifier`, and the real ones, NaN if unknown.

    Low and high of a simulated score are its range over draws.
    """
    rows = [
        (name, reference.labels.get(name, np.nan), value, np.nan, np.nan)
        for name, value in zip(_LABEL_STATISTICS, label_statistics.values(), strict=True)
    ]
    for (pairs, name), draws in scores.groupby(["pairs", "input"], sort=False):
        largest = pairs == scores["pairs"].max()
        shown = {f"macro AP, {name}": "ap_macro", f"micro AP, {name}": "ap_micro"} if largest else {}
        if name == "S1":
            shown[f"S1 explained by labels, {pairs} pairs"] = "explained"
        if name == "both":
            shown[f"AP, trees over linear, {pairs} pairs"] = "over_linear"
        for title, measure in shown.items():
            values, real = draws[measure], reference.scores.get(title, np.nan)
            rows.append((title, real, values.mean(), values.min(), values.max()))
    table = pd.DataFrame(rows, columns=["statistic", "real", "value", "low", "high"])
    real_rows = table[["statistic"]].assign(source="real", value=table.pop("real"))
    return pd.concat([real_rows, table.assign(source="simulated")], ignore_index=True)
