"""Manifest of a folder of packed data."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from mosaic.store.record_format import BandLayout
from mosaic.utils.errors import PackError

#: Increased whenever files of an older version can no longer be read.
VERSION = 4
MANIFEST = "manifest.json"
INDEX = "index.parquet"


@dataclass(frozen=True)
class Shard:
    """One file of contiguous records."""

    file: str
    records: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """Contents of a folder of packed data; written last, so a folder without it is unfinished.

    Attributes:
        source: folder that was packed.
        fingerprint: of the source, as the archive gave it.
        class_names: in the order of the label vector.
        class_colors: hex colour of each class, for maps.
        level1: coarse group -> class names.
        confusable: group of easily confused classes -> class names.
        coarse: class that datasets share -> class names; transfer between datasets is judged by these.
        shards: in order of rows.
        counts: patches per split, in all (``"patches"``) and left out (``"skipped"``).
        skipped: patches left out on request, each with ``patch_id``, ``path`` and ``reason``.
    """

    version: int
    dataset: str
    source: str
    fingerprint: str
    class_names: tuple[str, ...]
    class_colors: tuple[str, ...]
    level1: dict[str, tuple[str, ...]]
    confusable: dict[str, tuple[str, ...]]
    coarse: dict[str, tuple[str, ...]]
    layout: BandLayout
    shards: tuple[Shard, ...]
    index_sha256: str
    counts: dict[str, int]
    skipped: tuple[dict[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as plain JSON content."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Build the manifest from the content that ``to_json`` returned.

        Raises:
            PackError: when the content is of another version or lacks entries.
        """
        if content.get("version") != VERSION:
            raise PackError(
                f"packed data of format version {content.get('version')}, this code reads {VERSION}: "
                "delete the folder and pack it again"
            )
        missing = {f.name for f in fields(cls)} - set(content)
        if missing:
            raise PackError(f"{MANIFEST} lacks {', '.join(sorted(missing))}: delete it and pack again")
        tuples = {key: tuple(content[key]) for key in ("class_names", "class_colors", "skipped")}
        groups = ("level1", "confusable", "coarse")
        mappings = {key: {k: tuple(v) for k, v in content[key].items()} for key in groups}
        layout = BandLayout.from_json(content["layout"])
        shards = tuple(Shard(**shard) for shard in content["shards"])
        return cls(**content | tuples | mappings | {"layout": layout, "shards": shards})
