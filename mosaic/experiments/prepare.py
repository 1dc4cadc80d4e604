"""From an archive folder to packed data: what ``01_explore_data`` prepares for all that follows."""

from pathlib import Path
from typing import Any

from mosaic.datasets.archive import Problem
from mosaic.datasets.registry import DEFAULT_DATASET, open_archive, simulate_archive
from mosaic.datasets.simulation.bigearthnet import training_labels
from mosaic.datasets.simulation.produce import SIMULATION_NOTE
from mosaic.experiments.study import data_folder
from mosaic.settings import DataSettings, StudySettings
from mosaic.store.label_budgets import budget_sizes
from mosaic.store.reader import PackedStore, label_matrix
from mosaic.store.record import averaging_block
from mosaic.store.writer import pack
from mosaic.utils.errors import ArchiveError, BudgetError
from mosaic.utils.files import hash_json, require_regular
from mosaic.utils.plugins import plugin_hashes
from mosaic.utils.progress import log
from mosaic.utils.words import count

_LEAST_TRAIN = 2


def simulated_root(dataset: str, patches: int, seed: int) -> Path:
    """Return where a simulated archive lies unless its maker says otherwise."""
    layout = "" if dataset == DEFAULT_DATASET else f"{dataset}-"
    return data_folder() / "archives" / f"simulated-{layout}{patches}-seed{seed}"


def prepare(settings: DataSettings) -> tuple[Any, PackedStore]:
    """Open the archive, simulated if asked for, and pack it, or reuse what was packed from the same files.

    Return the archive (for galleries and reference maps) and the packed store (for everything else).

    Raises:
        ArchiveError: when the archive is missing, incomplete or inconsistent, or a split has no patches.
        PackError: when patches are damaged (and ``on_bad_patch`` is ``"stop"``) or there is no space.
    """
    root = Path(settings.archive).expanduser().resolve()
    if settings.archive == "simulated":
        root = simulated_root(settings.dataset, settings.patches, settings.archive_seed)
        root = simulate_archive(settings.dataset, root, settings.patches, settings.archive_seed)
    left_out: list[Problem] | None = [] if settings.on_bad_patch == "skip" else None
    opened = settings.bands, settings.include_snow_cloud, left_out, settings.most_nodata
    archive = open_archive(settings.dataset, root, *opened)
    counts = archive.index["split"].value_counts()
    for split in {"train", "validation", "test"} - set(counts.index):
        raise ArchiveError(
            f"{archive.root} has no patch in split {split!r}, only {counts.to_dict()}: the study trains on "
            "'train', chooses on 'validation' and reports 'test'; assign some, or add scenes"
        )
    bands = [sensor.bands for sensor in archive.sensors]
    key: dict[str, Any] = {"source": archive.fingerprint(), "bands": bands, "bad": settings.on_bad_patch}
    if counts["train"] < _LEAST_TRAIN:
        raise ArchiveError(
            f"{archive.root} has {count(counts['train'], 'patch')} in split 'train', which contrast needs "
            f"pairs of: give it {_LEAST_TRAIN} or more"
        )
    if plugins := plugin_hashes(type(archive)):  # a dataset of a user reads otherwise when its file changes
        key["plugins"] = plugins
    reduced = averaging_block(archive.band_sizes, settings.most_pixels)
    name = hash_json({**key, "reduced": reduced} if reduced > 1 else key)
    folder = data_folder() / "packed" / f"{archive.root.name}-{name}"
    options = {"on_bad_patch": settings.on_bad_patch, "most_pixels": settings.most_pixels}
    store = pack(archive, folder, left_out=left_out or (), **options)  # type: ignore[arg-type]
    log(f"data: {count(len(store), 'pair')} packed in {folder}")
    return archive, store


def check_fractions(settings: StudySettings) -> int:
    """Return the number of pairs, before anything is computed, and refuse label fractions that are too small.

    Labels of a simulated SEN12MS, which come of its maps, are not known yet, and what ``label_budget_files``
    list is checked once the archive is packed.

    Raises:
        ArchiveError: when the archive is missing or incomplete.
        BudgetError: when a fraction has fewer patches than there are classes, or its list is missing.
    """
    for file in settings.grid.label_budget_files:
        require_regular(Path(file), BudgetError, "give a file of patch ids, one a line")
    data, grid = settings.data, settings.grid
    patches, labels = data.patches, None
    if data.archive != "simulated":
        archive = open_archive(data.dataset, data.archive, data.bands, data.include_snow_cloud, [])
        train = archive.index["labels"][archive.index["split"] == "train"]
        patches, labels = len(archive), label_matrix(train, archive.class_names)
    elif data.dataset in ("bigearthnet", "copernicus_bench"):
        labels = training_labels(patches, data.archive_seed)
    if labels is not None and not grid.label_budget_files:
        budget_sizes(labels, grid.label_fractions)
    return patches


def origin(archive: Any, store: PackedStore, simulated: bool = False) -> str:
    """Return ``"simulated"`` or ``"real (56 pairs)"``; a simulation is known by its note, too."""
    simulated |= (archive.root / SIMULATION_NOTE).exists()
    return "simulated" if simulated else f"real ({count(len(store), 'pair')})"
