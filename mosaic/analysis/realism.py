"""The realism card: does the archive look, and resist, like the real one of its layout?

Up to four comparisons, as far as real values are known: pixel quantiles under the maps, statistics of the
label sets, what one simple classifier reaches, and moments of the bands. ``01_explore_data`` shows them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.model_selection import GroupKFold

from mosaic.datasets.reference import Reference
from mosaic.datasets.sentinel2 import TEN_METRE, WAVELENGTH
from mosaic.evaluation.metrics import per_class_ap
from mosaic.store.reader import PackedStore
from mosaic.utils.progress import progress

#: Pairs in a draw of the reference classifier: as many as there were real ones at hand.
PAIRS = 120
_LABEL_STATISTICS = ("labels a patch", "P(share a label)", "P(identical)", "mean Jaccard")
_RADAR = ("VV", "VH")
_PIXELS_A_CLASS = 400  # drawn from each patch and class: a large parcel counts no more than many small ones


def class_quantiles(archive: Any, store: PackedStore, patches: int = 300, seed: int = 0) -> pd.DataFrame:
    """Return pixel quantiles of every class and band, under the reference maps.

    Args:
        archive: the archive the store was packed from; its maps are read.
        store: packed data.
        patches: at most this many patches are drawn.
        seed: of that draw.

    Returns:
        One row a class and band: class, band, wavelength (nm, NaN for radar), p5, p50, p95 (DN or dB) and
        pixels. Empty where the archive has no reference maps.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.choice(len(store), size=min(patches, len(store)), replace=False))
    place = {name: i for i, name in enumerate(archive.index["patch_id"])}
    bands = [band for sensor in reversed(store.layout.sensors) for band in sensor.bands]
    values: dict[tuple[int, str], list[NDArray[np.float32]]] = {}
    for row in progress(rows, "pixels under the reference maps", total=len(rows)):
        classes = archive.read_map(place[store.index["patch_id"].iloc[row]])
        if classes is None:
            return pd.DataFrame(columns=["class", "band", "wavelength", "p5", "p50", "p95", "pixels"])
        images = {band: image[0] for band, image in store.read_bands([row], bands).items()}
        for label in np.setdiff1d(np.unique(classes), [255]):
            where = np.argwhere(classes == label)
            where = where[random.permutation(len(where))[:_PIXELS_A_CLASS]]
            for band, image in images.items():
                step = classes.shape[0] // image.shape[0]
                values.setdefault((int(label), band), []).append(
                    image[where[:, 0] // step, where[:, 1] // step]
                )
    found = []
    for (label, band), parts in sorted(values.items()):
        pixels = np.concatenate(parts)
        low, middle, high = np.quantile(pixels, [0.05, 0.5, 0.95])
        found.append(
            {
                "class": store.class_names[label],
                "band": band,
                "wavelength": WAVELENGTH.get(band, np.nan),
                "p5": low,
                "p50": middle,
                "p95": high,
                "pixels": len(pixels),
            }
        )
    return pd.DataFrame(found)


def compare_quantiles(quantiles: pd.DataFrame, reference: Reference) -> pd.DataFrame:
    """Set the quantiles of :func:`class_quantiles` beside those of real pairs: six bands, shared classes.

    Returns:
        One row a source (``real``, ``simulated``), class and quantity, with p5, p50, p95 and unit; empty
        where no real quantiles are known.
    """
    if reference.quantiles is None:
        return pd.DataFrame()
    real = reference.quantiles.set_index("cls")
    rows = []
    for row in quantiles.to_dict("records"):
        name, band = row["class"], row["band"]
        if band not in (*TEN_METRE, *_RADAR) or name not in real.index:
            continue
        shared = {"class": name, "quantity": band, "unit": "dB" if band in _RADAR else "DN"}
        rows.append({**shared, "source": "simulated", **{q: row[q] for q in ("p5", "p50", "p95")}})
        rows.append(
            {**shared, "source": "real", **{q: real.at[name, f"{band}_{q}"] for q in ("p5", "p50", "p95")}}
        )
    return pd.DataFrame(rows)


def patch_statistics(
    store: PackedStore, rows: NDArray[np.int64], bands: Sequence[str]
) -> NDArray[np.float32]:
    """Return mean, deviation and 10, 50, 90 % quantiles of every band, (N, 5 x bands), DN or dB."""
    columns = []
    for image in store.read_bands(rows, bands).values():
        pixels = image.reshape(len(rows), -1)
        columns += [pixels.mean(1), pixels.std(1), *np.quantile(pixels, [0.1, 0.5, 0.9], axis=1)]
    return np.stack(columns, axis=1).astype(np.float32)


def reference_classifier(
    store: PackedStore, pairs: int = PAIRS, draws: int = 5, least_positives: int = 5
) -> pd.DataFrame:
    """Score ExtraTrees on statistics of whole patches, cross-validated by scene, as on the real pairs.

    Average precision depends on the number of pairs, so as many are drawn as there were real ones, a few from
    each scene; classes of fewer than ``least_positives`` positives are left out (14 remained of the real 19).

    Args:
        store: packed data.
        pairs: pairs in a draw.
        draws: independent draws, of scenes and of pairs.
        least_positives: patches of a class needed for it to count.

    Returns:
        One row a draw and input: draw, input, ap_macro, ap_micro, pairs, classes.
    """
    ten = [band for band in TEN_METRE if band in store.layout.bands]
    inputs = {"S1": list(_RADAR), "S2, 10 m bands": ten, "both": [*ten, *_RADAR]}
    rows = []
    for draw in progress(range(draws), "reference classifier", total=draws):
        random = np.random.default_rng(draw)
        chosen = _spread(store.scenes, pairs, random)
        labels = store.labels[chosen]
        labels = labels[:, (labels.sum(0) >= least_positives) & (labels.sum(0) < len(labels))]
        scenes = store.scenes[chosen]
        folds = list(GroupKFold(min(5, len(np.unique(scenes)))).split(chosen, groups=scenes))
        for name, bands in inputs.items():
            if not bands:
                continue  # the archive was packed without any 10 m band
            features = patch_statistics(store, chosen, bands)
            predicted = np.zeros(labels.shape, np.float32)
            for fit, held in folds:
                trees = ExtraTreesClassifier(300, min_samples_leaf=2, random_state=draw, n_jobs=1)
                trees.fit(features[fit], labels[fit])
                for c, share in enumerate(trees.predict_proba(features[held])):
                    # a class that the fold never saw, or always saw, has one column
                    predicted[held, c] = share[:, 1] if share.shape[1] == 2 else trees.classes_[c][0]
            ap = per_class_ap(labels, predicted)
            micro = per_class_ap(labels.reshape(-1, 1), predicted.reshape(-1, 1))
            rows.append(
                {
                    "draw": draw,
                    "input": name,
                    "ap_macro": float(np.nanmean(ap)),
                    "ap_micro": float(micro[0]),
                    "pairs": len(chosen),
                    "classes": labels.shape[1],
                }
            )
    return pd.DataFrame(rows)


def _spread(scenes: NDArray[np.str_], count: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Draw ``count`` rows from as many scenes as there are: the first of each scene, then the second, ..."""
    order = random.permutation(len(scenes))
    rank = pd.Series(scenes[order]).groupby(scenes[order]).cumcount().to_numpy()
    return np.sort(order[np.argsort(rank, kind="stable")][:count])


def statistics_card(
    label_statistics: dict[str, float], scores: pd.DataFrame, reference: Reference
) -> pd.DataFrame:
    """Set label statistics and reference scores beside the real values, for ``real_vs_simulated_bars``.

    Args:
        label_statistics: as ``simulated.label_sets.label_statistics`` returns them.
        scores: as :func:`reference_classifier` returns it.
        reference: what is known of the real archive.

    Returns:
        One row a statistic and source: statistic, source, value, and the range over draws as low and high.
        A real value that is not known is NaN.
    """
    rows: list[dict[str, Any]] = []
    for name, value in zip(_LABEL_STATISTICS, label_statistics.values(), strict=True):
        rows += [
            {"statistic": name, "source": "real", "value": reference.labels.get(name, np.nan)},
            {"statistic": name, "source": "simulated", "value": value},
        ]
    for name in scores["input"].unique():
        part = scores[scores["input"] == name]
        real = reference.scores.get(name, (np.nan, np.nan))
        for metric, known in zip(("ap_macro", "ap_micro"), real, strict=True):
            title = f"{metric.removeprefix('ap_')} AP, {name}"
            rows += [
                {"statistic": title, "source": "real", "value": known},
                {
                    "statistic": title,
                    "source": "simulated",
                    "value": part[metric].mean(),
                    "low": part[metric].min(),
                    "high": part[metric].max(),
                },
            ]
    return pd.DataFrame(rows)


def card_table(card: pd.DataFrame) -> pd.DataFrame:
    """Return :func:`statistics_card` as readers see it: this archive beside the real one."""
    wide = card.pivot(index="statistic", columns="source", values="value")
    wide = wide.reindex(card["statistic"].unique())[["simulated", "real"]].dropna(axis=1, how="all")
    return wide.rename(columns={"simulated": "this archive"}).reset_index().rename_axis(columns=None)


def moments_table(store: PackedStore, reference: Reference) -> pd.DataFrame:
    """Set mean and standard deviation of every band beside the published ones of the real archive."""
    rows = []
    for band in (band for sensor in reversed(store.layout.sensors) for band in sensor.bands):
        here, real = store.layout.statistics[band], reference.moments.get(band)
        unit = store.layout.sensor_of(band).unit
        rows.append(
            {
                "band": band,
                "unit": unit,
                "mean": here["mean"],
                "std": here["std"],
                "real mean": real[0] if real else np.nan,
                "real std": real[1] if real else np.nan,
            }
        )
    return pd.DataFrame(rows)
