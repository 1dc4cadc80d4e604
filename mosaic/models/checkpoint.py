"""Trained encoders as files: safetensors weights and a JSON card that says everything needed to use them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mosaic.models.encoders import FUSIONS, STATISTICS, Encoder, timm_recipe
from mosaic.models.foundation import FOUNDATION
from mosaic.models.heads import ChoquetClassifier
from mosaic.models.loaded import LoadedEncoder
from mosaic.store.record_format import BandLayout
from mosaic.utils import files
from mosaic.utils.errors import CheckpointError, SettingsError

WEIGHTS = "encoder.safetensors"
CARD = "card.json"
FORMAT = 3


def save_encoder(
    folder: Path, encoder: Encoder, card: Mapping[str, Any], classifier: nn.Module | None = None
) -> None:
    """Write ``encoder.safetensors`` and then ``card.json``, which marks the folder finished.

    The card has ``layout``, ``method`` and ``class_names`` at least; the classifier sees the joined features.
    """
    parts = {"encoder": encoder, **({} if classifier is None else {"classifier": classifier})}
    tensors = nn.ModuleDict(parts).state_dict()
    with files.atomic_path(folder / WEIGHTS) as partial:
        content = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()})
        partial.write_bytes(content)  # OSError where the disk is full; safetensors' own is none
    kind = "choquet" if isinstance(classifier, ChoquetClassifier) else "linear"
    size, timm_model = encoder.image_size, encoder.name not in (*FUSIONS, *FOUNDATION, STATISTICS)
    bands = {s: sum(sensors.values()) for s, sensors in encoder.in_channels.items() if timm_model}
    architecture = {
        "format": FORMAT,
        "encoder": encoder.name,
        "timm": {stream: timm_recipe(encoder.name, number, size) for stream, number in bands.items()},
        "in_channels": encoder.in_channels,
        "image_size": encoder.image_size,
        "feature_dims": encoder.feature_dims,
        "classifier": None if classifier is None else kind,
        "weights": {"file": WEIGHTS, "sha256": files.sha256_file(folder / WEIGHTS)},
    }
    files.write_json(folder / CARD, files.sealed({**architecture, **card}))


def read_card(path: Path | str) -> dict[str, Any]:
    """Return the card of a finished checkpoint; CheckpointError when a file is missing or changed."""
    folder, remedy = Path(path), "train the encoder again, in an empty folder"

    def unchanged(card: dict[str, Any]) -> dict[str, Any]:
        if card["format"] != FORMAT:
            raise ValueError(f"format {card['format']}, this code reads {FORMAT}")
        return files.unsealed(card)

    card: dict[str, Any] = files.read_json(
        folder / CARD, {"format": int}, build=unchanged, error=CheckpointError, remedy=remedy
    )
    weights, expected = folder / WEIGHTS, card["weights"]["sha256"]
    files.require_regular(weights, CheckpointError, remedy)
    if (sha256 := files.sha256_file(weights)) != expected:
        raise CheckpointError(
            f"{weights} is damaged: SHA-256 {sha256[:12]}…, expected {expected[:12]}…: {remedy}"
        )
    return card


def load_encoder(path: Path | str) -> LoadedEncoder:
    """Load a trained encoder from the folder of its checkpoint.

    CheckpointError when it is missing, damaged, or of another architecture than its card says.

    Example:
        >>> encoder = load_encoder("path/of/the/checkpoint")
        >>> embedding = encoder.embed(s1=s1_in_db, s2=s2_in_dn)
    """
    card = read_card(path)
    classifier: nn.Module | None = None
    try:
        encoder = Encoder(card["encoder"], card["in_channels"], card["image_size"])
        widths, classes = encoder.feature_dims, len(card["class_names"])
        if card["classifier"] == "choquet":
            classifier = ChoquetClassifier(widths, classes)
        elif card["classifier"]:
            classifier = nn.Linear(sum(widths.values()), classes)
        loaded = LoadedEncoder(encoder, classifier, card)
        loaded.load_state_dict(load_file(Path(path) / WEIGHTS))
    except (SafetensorError, SettingsError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{Path(path) / WEIGHTS} cannot be read as encoder {card['encoder']!r} ({reason}): train it again"
        ) from error
    return loaded.eval()


def layout_for(encoder: LoadedEncoder, layout: BandLayout) -> BandLayout:
    """Return the layout of other data with the normalisation statistics that the encoder was trained with.

    CheckpointError when the bands are not the encoder's.
    """
    trained = encoder.layout
    if trained.bands != layout.bands:
        raise CheckpointError(
            f"the encoder was trained on {', '.join(trained.bands)}, the data hold "
            f"{', '.join(layout.bands)}: pack the same bands, or train again"
        )
    return replace(layout, statistics=trained.statistics)


def to_timm_state_dict(encoder: LoadedEncoder, stream: str) -> dict[str, Tensor]:
    """Return the weights of one stream, such as ``"s2"``, under timm's own names.

    They load into ``timm.create_model(**encoder.card["timm"][stream])``. CheckpointError for no such stream.
    """
    backbones = encoder.encoder.backbones
    if stream not in backbones:
        raise CheckpointError(f"this encoder has no stream {stream!r}, only {', '.join(backbones)}")
    return {name: value.detach().clone() for name, value in backbones[stream].state_dict().items()}
