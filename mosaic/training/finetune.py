"""End-to-end scores: of an encoder's own classifier, and of one fine-tuned on a label budget."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mosaic.evaluation.features import encode_splits, extract_features, fuse
from mosaic.evaluation.probes import Scores, fit_classifier
from mosaic.methods import METHODS, get_method
from mosaic.models.checkpoint import CARD, WEIGHTS, load_encoder, read_card, save_encoder
from mosaic.models.encoders import Encoder
from mosaic.settings import TrialSettings
from mosaic.store.reader import PackedStore, Rows
from mosaic.training.pretrain import pretrain
from mosaic.utils.errors import CheckpointError, RunError
from mosaic.utils.files import atomic_path

SCORES = "scores.npz"

#: Split or any other name -> input -> (N, C) in [0, 1].
InputScores = dict[str, dict[str, Scores]]


def classifier_scores(
    store: PackedStore, checkpoint: Path, training_rows: Rows, evaluation: Mapping[str, Rows]
) -> InputScores:
    """Score patches with the classifier that was trained with the encoder.

    Args:
        store: packed data.
        checkpoint: of a supervised or fine-tuned method.
        training_rows: those whose mean features stand in for a missing sensor.
        evaluation: name -> rows.

    Returns:
        Name -> input -> scores. Inputs are ``"s1"`` or ``"s2"`` for an encoder of one sensor, otherwise
        ``"fused"``, ``"fused_without_s1"`` and ``"fused_without_s2"``.

    Raises:
        CheckpointError: when the checkpoint has no classifier.
    """
    encoder = load_encoder(checkpoint)
    width = sum(encoder.encoder.feature_dims.values())
    splits = encode_splits(store, checkpoint, {**evaluation, "train": training_rows})
    return {
        name: {i: encoder.classify(f) for i, f in splits[name].items() if f.shape[1] == width}
        for name in evaluation
    }


def finetune(
    store: PackedStore,
    checkpoint: Path,
    labelled_rows: Rows,
    evaluation: Mapping[str, Rows],
    folder: Path,
    trial: TrialSettings,
    source: str = "fused",
) -> InputScores:
    """Train the whole encoder on a label budget, and score patches.

    It is supervised training that starts from the checkpoint and from a linear probe on its features: a
    classifier that knows nothing would first distort them (Kumar et al. 2022, arXiv:2202.10054). Batch
    normalisation keeps the statistics of the checkpoint. Only the scores and the log are kept: a study
    fine-tunes hundreds of times.

    Args:
        store: packed data.
        checkpoint: encoder to start from.
        labelled_rows: training rows whose labels may be used.
        evaluation: name -> rows.
        folder: where ``scores.npz`` and ``log.csv`` go; found there, they are returned at once.
        trial: steps, batch, optimiser, precision and seed; method, encoder and size of a view are the
            checkpoint's. The learning rate should be far below that of pretraining: the start is good.
        source: ``"s1"`` or ``"s2"`` to tune that stream alone, ``"fused"`` for the whole encoder.

    Returns:
        As :func:`classifier_scores`.

    Raises:
        CheckpointError: when the checkpoint is damaged or has no such stream.
        RunError: when the folder holds scores for other patches.
    """
    names = {name: np.asarray(rows, dtype=np.int64) for name, rows in evaluation.items()}
    if (folder / SCORES).is_file():
        return _read(folder / SCORES, names)
    card = read_card(checkpoint)
    method = supervised_method(tuple(card["in_channels"]), source)
    start = folder / "start"
    if not (start / CARD).exists():
        _start(store, checkpoint, get_method(method).streams, labelled_rows, start)
    trial = trial.replace(
        method=method,
        encoder=card["encoder"],
        image_size=card["image_size"],
        initial=str(start),
        monitor_every=0,
    )
    pretrain(store, trial, labelled_rows, folder)
    scores = classifier_scores(store, folder, labelled_rows, names)
    flat = {f"{name}/{i}": value for name, inputs in scores.items() for i, value in inputs.items()}
    with atomic_path(folder / SCORES) as partial:
        np.savez(partial, **flat, **{f"{name}/rows": rows for name, rows in names.items()})  # type: ignore[arg-type]
    for used in (folder, start):
        (used / CARD).unlink()
        (used / WEIGHTS).unlink()
    start.rmdir()
    return scores


def _start(store: PackedStore, checkpoint: Path, streams: Sequence[str], rows: Rows, folder: Path) -> None:
    """Write a checkpoint of some streams of another and a linear probe on their features."""
    loaded = load_encoder(checkpoint)
    features = extract_features(store, checkpoint, rows)
    classifier = fit_classifier(fuse({stream: features[stream] for stream in streams}), store.labels[rows])
    channels = {stream: loaded.encoder.in_channels[stream] for stream in streams}
    encoder = Encoder(loaded.encoder.name, channels, loaded.encoder.image_size)
    for stream in streams:
        encoder.backbones[stream].load_state_dict(loaded.encoder.backbones[stream].state_dict())
    card = {key: loaded.card[key] for key in ("method", "class_names", "layout")}
    save_encoder(folder, encoder, card, classifier)


def _read(path: Path, names: Mapping[str, Rows]) -> InputScores:
    scores: InputScores = {}
    with np.load(path) as kept:
        for key in kept.files:
            name, source = key.split("/")
            if source != "rows":
                scores.setdefault(name, {})[source] = kept[key]
        found = {key.split("/")[0]: kept[key].tolist() for key in kept.files if key.endswith("/rows")}
    if found != {name: rows.tolist() for name, rows in names.items()}:
        raise RunError(f"{path} holds the scores of other patches: choose another folder, or delete it")
    return scores


def supervised_method(streams: tuple[str, ...], source: str) -> str:
    """Return the method that fine-tunes an encoder with these streams for an input.

    Raises:
        CheckpointError: when the encoder does not offer that input.
    """
    wanted = streams if source == "fused" else (source,)
    for method in METHODS.values():
        if method.only_classifies and method.streams == wanted and set(wanted) <= set(streams):
            return method.name
    raise CheckpointError(f"an encoder with the streams {', '.join(streams)} cannot be tuned for {source!r}")
