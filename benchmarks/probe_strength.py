"""What it is worth to choose the strength of linear probes with validation labels, which small budgets lack.

For every encoder of a run and every share of labels, a probe on its main input is fitted twice: with the
strength that is best on validation, and with that of cross-validation within the budget. Printed is the mean
gain in macro average precision on the test split of the former over the latter, by share of labels.

    python -m mosaic run --out bars -p patches=900 -p seeds=3 -p 'methods=["random","band_statistics"]'
    python benchmarks/probe_strength.py bars
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from mosaic.evaluation.metrics import macro_ap
from mosaic.evaluation.probes import STRENGTHS, cross_validated_strength, linear_probe
from mosaic.experiments.grid import draw_budgets
from mosaic.experiments.predict import evaluated_fractions
from mosaic.experiments.predictions import main_input
from mosaic.experiments.probe import encode, split_rows
from mosaic.experiments.study import Study, reports_folder
from mosaic.settings import StudySettings


def gains(out: str) -> pd.DataFrame:
    """Return a row an encoder and label fraction of a run, with both scores and strengths."""
    study = Study("03_finetune_low_label", StudySettings(out=out), reports_folder(out))
    store, grid = study.store(), study.earlier("02_pretrain").settings.grid
    rows, budgets, table = split_rows(store), draw_budgets(store, grid), []
    validation, test = (store.labels[rows[split]] for split in ("validation", "test"))
    for encoder in study.read("encoders").to_dict("records"):
        inputs = encode(store, Path(encoder["folder"]), rows)
        x = {split: each[main_input(encoder["method"])] for split, each in inputs.items()}
        for _, fraction in evaluated_fractions(encoder["budget"], grid.label_fractions):
            labelled = budgets[encoder["seed"]][fraction]
            train, labels = x["train"][np.searchsorted(rows["train"], labelled)], store.labels[labelled]
            within = cross_validated_strength(train, labels, store.scenes[labelled])
            row = {"method": encoder["method"], "seed": encoder["seed"], "fraction": fraction}
            for name, strengths in (("validation", STRENGTHS), ("budget", [within])):
                scores, probe = linear_probe(
                    train, labels, x["validation"], validation, {"test": x["test"]}, strengths
                )
                row[f"strength, {name}"] = probe.strength
                row[name] = macro_ap(test, scores["test"])
            table.append({**row, "labels": len(labelled)})
    return pd.DataFrame(table).assign(gain=lambda frame: frame["validation"] - frame["budget"])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", help="name of a run that trained its encoders")
    table = gains(parser.parse_args().out)
    by_fraction = table.groupby("fraction")
    summary = by_fraction[["labels", "budget", "validation", "gain"]].mean()
    print(summary.assign(deviation=by_fraction["gain"].std(), fits=by_fraction.size()).round(4).to_string())
