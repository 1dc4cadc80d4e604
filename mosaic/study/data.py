"""From an archive folder to packed data: what ``01_explore_data`` prepares for all that follows."""

from pathlib import Path
from typing import Any

from mosaic.archives.catalogue import open_archive
from mosaic.common.errors import ArchiveError
from mosaic.common.progress import say
from mosaic.packed.fingerprint import digest
from mosaic.packed.pack import pack
from mosaic.packed.store import PackedStore
from mosaic.settings import ExploreSettings
from mosaic.study.run import data_folder


def archive_root(settings: ExploreSettings) -> Path:
    """Return the archive's folder; the simulated one is made when it is not there yet."""
    if settings.archive != "simulated":
        return Path(settings.archive).expanduser().resolve()
    from mosaic.archives.simulated.write import simulate

    root = data_folder() / "archives" / f"simulated-{settings.patches}-seed{settings.archive_seed}"
    return simulate(root, patches=settings.patches, seed=settings.archive_seed)


def prepare(settings: ExploreSettings) -> tuple[Any, PackedStore]:
    """Open the archive and pack it, or reuse the packed data made from the same files before.

    Returns:
        The archive (for galleries and reference maps) and the packed store (for everything else).

    Raises:
        ArchiveError: when the archive is missing, incomplete or inconsistent, or a split has no patches.
        PackError: when patches are damaged (and ``on_bad_patch`` is ``"stop"``) or there is no space.
    """
    archive = open_archive(
        settings.dataset, archive_root(settings), settings.bands, settings.include_snow_cloud
    )
    counts = archive.index["split"].value_counts()
    for split in ("train", "validation", "test"):
        if split not in counts:
            raise ArchiveError(
                f"{archive.root} has no patch in split {split!r} (found: "
                f"{', '.join(f'{n} {name}' for name, n in counts.items()) or 'none'}): the study trains on "
                "'train', chooses on 'validation' and reports 'test'; assign some in metadata.parquet"
            )
    key = digest({"source": archive.fingerprint(), "bands": archive.s2_bands, "bad": settings.on_bad_patch})
    folder = data_folder() / "packed" / f"{archive.root.name}-{key}"
    store = pack(archive, folder, on_bad_patch=settings.on_bad_patch)
    say(f"data: {len(store)} pairs packed in {folder}")
    return archive, store
