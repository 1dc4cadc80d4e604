"""How fast are the intervals of a set of predictions on the official test split?

Usage: python benchmarks/bench_scoring.py [--patches 119825] [--scenes 30] [--seconds 2] [--rounds 3]

Average precision of 19 classes on all patches and without each scene: by scikit-learn one at a time, and by
one sorting of the predictions.
"""

import time

import numpy as np
from common import over, parser, rates, ratio, row, save
from sklearn.metrics import average_precision_score

from mosaic.datasets.simulation.landscape import draw_label_sets
from mosaic.evaluation.metrics import scores
from mosaic.evaluation.uncertainty import estimate_ap

SKLEARN, OURS = "scikit-learn, anew without each scene", "mosaic, one sorting"


def main() -> None:
    options = parser(__doc__)
    options.set_defaults(rounds=3)
    options.add_argument("--patches", type=int, default=119_825)
    options.add_argument("--scenes", type=int, default=30)
    args = options.parse_args()
    random = np.random.default_rng(0)
    labels = draw_label_sets(args.patches, random).astype(np.uint8)
    predictions = (0.3 * labels + random.random(labels.shape)).astype(np.float32)
    scene = random.integers(0, args.scenes, args.patches)
    classes = labels.shape[1]

    def one_at_a_time() -> int:
        kept = scene != random.integers(args.scenes)
        average_precision_score(labels[kept], predictions[kept], average="macro")
        return classes

    def one_sorting() -> int:
        estimate_ap(labels, [predictions], scene.astype(str))
        return classes * (1 + args.scenes)

    measured = rates({SKLEARN: one_at_a_time, OURS: one_sorting}, args.seconds, args.rounds)
    start = time.perf_counter()
    for average in ("macro", "micro"):
        estimate_ap(labels, [predictions], scene.astype(str), average=average)
    seconds = time.perf_counter() - start
    start = time.perf_counter()
    scores(labels, predictions)
    plain = time.perf_counter() - start
    group = f"{args.patches:,} x {classes} predictions, {args.scenes} scenes"
    save(
        "scoring",
        "How many average precisions of a class a second, for intervals over scenes?",
        [row(group, name, each, "AP/s", ours=name == OURS) for name, each in measured.items()],
        [
            ratio("average precisions over scikit-learn's, 1 core", over(measured, OURS, SKLEARN), 10),
            ratio("macro and micro average precision with intervals, seconds", seconds, 5, at_most=True),
            ratio("scores without intervals of one set of predictions, seconds", plain, None),
        ],
        args.results,
        packages=("scikit-learn",),
        settings={"patches": args.patches, "scenes": args.scenes, "rounds": args.rounds},
    )


if __name__ == "__main__":
    main()
