"""The real BigEarthNet v2: statistics of its labels and bands, and of 120 real pairs."""

import numpy as np

from mosaic.datasets.reference import PublishedScores, Reference, read_moments
from mosaic.datasets.simulation.label_sets import label_sets
from mosaic.datasets.simulation.sensors import real_quantiles

#: Model, input, then macro and micro AP and macro and micro F1, in percent.
_PUBLISHED: tuple[tuple[str, str, float, float, float, float], ...] = (
    ("ResNet-50", "S1", 62.84, 80.07, 57.61, 70.20),
    ("ResNet-50", "all sensors", 70.33, 86.07, 64.42, 76.66),
    ("ResNet-50, rerun by others", "all sensors", 71.06, 85.93, 65.69, 76.40),
    ("ViT-B/8", "all sensors", 66.76, 84.22, 60.32, 74.58),
    ("ConvNeXtV2-B", "all sensors", 69.20, 85.73, 62.69, 75.96),
    ("RDNet-B", "S2", 68.87, 85.39, 62.31, 75.48),
    ("MobileViT-S", "all sensors", 70.33, 86.36, 63.75, 76.35),
    ("MobileViT-S", "S1", 63.12, 81.18, 56.57, 70.56),
)
#: Of the patch ids of the official test split, sorted, one a line.
_TEST_PATCHES = 119_825
_TEST_SHA256 = "979abdfda82885e7a2271db6af2340a3f0c75c1180fb3d4cc53c334e157768ca"


def bigearthnet_reference() -> Reference:
    """Return label statistics of the 480,038 official patches, and quantiles and scores of 120 real pairs."""
    sets, shares = label_sets()
    number = sets.sum(1)
    return Reference(
        title="BigEarthNet v2",
        pairs=120,
        classes=14,
        labels={
            "labels a patch": 2.95,
            "P(share a label)": 0.512,
            "P(identical)": 0.018,
            "mean Jaccard": 0.16,
        },
        labels_per_patch={int(n): float(shares[number == n].sum()) for n in np.unique(number)},
        scores={"S1": (0.41, 0.49), "S2, 10 m bands": (0.44, 0.59), "both": (0.48, 0.60)},
        quantiles=real_quantiles(),
        moments=read_moments("bigearthnet"),
        published=tuple(
            PublishedScores(model, source, *(value / 100 for value in values))
            for model, source, *values in _PUBLISHED
        ),
        published_source="model cards of reBEN, huggingface.co/BIFOLD-BigEarthNetv2-0",
        test_patches=_TEST_PATCHES,
        test_sha256=_TEST_SHA256,
    )
