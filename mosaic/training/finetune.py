"""End-to-end scores: of an encoder's own classifier, and of one fine-tuned on a label budget."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mosaic.evaluation.features import Features, encode_splits, extract_features, fuse
from mosaic.evaluation.probes import Scores, fit_classifier
from mosaic.methods import METHODS
from mosaic.models.checkpoint import CARD, WEIGHTS, load_encoder, read_card, save_encoder
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.pretrain import pretrain
from mosaic.utils.cached import read_if_sound, read_npz
from mosaic.utils.errors import CheckpointError
from mosaic.utils.files import atomic_path

SCORES = "scores.npz"

#: Split or any other name -> input -> (N, C) in [0, 1].
InputScores = dict[str, dict[str, Scores]]


def classifier_scores(checkpoint: Path, splits: Mapping[str, Features]) -> InputScores:
    """Score features, by split and input, with the classifier that was trained with their encoder.

    Inputs of one stream among several are left out; CheckpointError when the checkpoint has no classifier.
    """
    encoder = load_encoder(checkpoint)
    width = sum(encoder.encoder.feature_dims.values())
    return {
        name: {i: encoder.classify(f) for i, f in inputs.items() if f.shape[1] == width}
        for name, inputs in splits.items()
    }


def finetune(
    store: PackedStore,
    checkpoint: Path,
    labelled_rows: Rows,
    evaluation: Mapping[str, Rows],
    folder: Path,
    trial: TrialSettings,
) -> InputScores:
    """Train the whole encoder on a label budget, and score the rows of ``evaluation``, by name.

    It is supervised training that starts from the checkpoint and from a linear probe on its features: an
    untrained classifier would first distort them (Kumar et al. 2022, arXiv:2202.10054). Batch normalisation
    keeps the statistics of the checkpoint. A study fine-tunes hundreds of times, so ``folder`` keeps only
    ``scores.npz`` and ``log.csv``; scores that lie there are returned at once. Method, encoder and size of a
    view are the checkpoint's, not the trial's, whose learning rate should be far below that of pretraining. A
    folder is for one set of rows, and one process at a time.

    CheckpointError when the checkpoint is damaged, or no supervised method has its streams.
    """
    if (kept := read_if_sound(folder / SCORES, read_npz)) is not None:
        found: InputScores = {name: {} for name in evaluation}
        for key, values in kept.items():
            name, source = key.split("/")
            found[name][source] = values
        return found
    loaded, start = load_encoder(checkpoint), folder / "start"
    if read_if_sound(start / CARD, lambda path: read_card(path.parent)) is None:
        features = fuse(extract_features(store, checkpoint, labelled_rows))
        card = {key: loaded.card[key] for key in ("method", "layout")} | {"class_names": store.class_names}
        save_encoder(start, loaded.encoder, card, fit_classifier(features, store.labels[labelled_rows]))
    trial = trial.replace(
        method=supervised_method(tuple(loaded.encoder.in_channels)),
        encoder=loaded.encoder.name,
        image_size=loaded.encoder.image_size,
        initial=str(start),
        monitor_every=0,
    )
    pretrain(store, trial, labelled_rows, folder)
    splits = encode_splits(store, folder, {**evaluation, "train": labelled_rows})
    scores = classifier_scores(folder, {name: splits[name] for name in evaluation})
    arrays: dict[str, Any] = {f"{name}/{i}": each for name in scores for i, each in scores[name].items()}
    with atomic_path(folder / SCORES) as partial:
        np.savez(partial, **arrays)
    shutil.rmtree(start)
    for name in (CARD, WEIGHTS):
        (folder / name).unlink()
    return scores


def supervised_method(streams: tuple[str, ...]) -> str:
    """Return the method that fine-tunes an encoder with these streams."""
    for method in METHODS.values():
        if method.only_classifies and method.streams == streams:
            return method.name
    raise CheckpointError(f"no supervised method tunes an encoder with the streams {', '.join(streams)}")
