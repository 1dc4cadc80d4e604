"""What is known of the real BigEarthNet v2: statistics of its labels, bands, and of 120 real pairs."""

import numpy as np

from mosaic.archives.reference import Reference
from mosaic.archives.simulated.label_sets import label_sets
from mosaic.archives.simulated.sensors import real_quantiles

#: Band -> mean and standard deviation of the official training split at native resolution, DN and dB, as
#: published with ConfigILM 0.7.
_MOMENTS: dict[str, tuple[float, float]] = {
    "B01": (361.08, 575.07), "B02": (438.37, 607.03), "B03": (614.06, 603.30), "B04": (588.41, 684.57),
    "B05": (942.84, 738.43), "B06": (1769.93, 1100.46), "B07": (2049.55, 1275.81), "B08": (2193.29, 1369.37),
    "B8A": (2235.56, 1356.54), "B09": (2241.46, 1316.39), "B11": (1568.23, 1070.16), "B12": (997.73, 813.53),
    "VV": (-12.64, 5.13), "VH": (-19.35, 5.59),
}  # fmt: skip


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
        moments=_MOMENTS,
    )
