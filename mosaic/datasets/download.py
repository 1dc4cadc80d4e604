"""Download real archives: addresses and checksums are TorchGeo's, the transfer is huggingface_hub's.

TorchGeo begins an interrupted download of 60 GB again from its first byte, and so does ``hf_hub_download``;
``http_get`` below it can resume. TorchGeo also writes every archive a second time before it unpacks it.
"""

import hashlib
import io
import shutil
import sys
import tarfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, get_hf_file_metadata
from huggingface_hub.file_download import http_get

from mosaic.utils.errors import ArchiveError, suggest
from mosaic.utils.files import lock, require_free_space
from mosaic.utils.progress import log, progress


class Part(NamedTuple):
    """One file to download."""

    name: str
    url: str
    md5: str


class Source(NamedTuple):
    """An archive to download."""

    title: str  # with the size that is known beforehand, and what to know about the result
    bundles: dict[str, tuple[Part, ...]]  # folder or file that results -> the parts that make it, in order
    unpacked: Mapping[str, int]  # of these, bytes on disk once unpacked, about, where known


def get_source(name: str) -> Source:
    """Return TorchGeo's addresses and checksums of an archive; an unknown name raises ArchiveError."""
    from torchgeo.datasets import BigEarthNetV2, CopernicusBenchBigEarthNetS1

    def part(name: str, url: str, md5: str) -> Part:
        return Part(name, url.replace("https://hf.co", constants.ENDPOINT), md5)

    if name == "bigearthnet":
        bundles = {
            BigEarthNetV2.dir_file_names[key]: tuple(
                part(file, BigEarthNetV2.url.format(file), md5) for file, md5 in entry["files"].items()
            )
            for key, entry in BigEarthNetV2.metadata_locs.items()
        }
        title = "BigEarthNet v2.0 (480,038 pairs, CDLA-Permissive-1.0, about 180 GB unpacked)"
        blocks = {"s1": 70, "s2": 106, "maps": 4}  # GB of 8.2 million files of whole 4 KiB blocks
        unpacked = {BigEarthNetV2.dir_file_names[key]: size * 10**9 for key, size in blocks.items()}
        return Source(title, bundles, unpacked)
    if name == "copernicus-bench":
        bench = CopernicusBenchBigEarthNetS1
        title = "5 % of BigEarthNet v2.0 (Copernicus-Bench: 24,002 pairs, `--dataset copernicus_bench`)"
        return Source(title, {bench.directory: (part(bench.zipfile, bench.url, bench.md5),)}, {})
    raise ArchiveError(f"no archive {name!r} to fetch{suggest(name, ('bigearthnet', 'copernicus-bench'))}")


def fetch(name: str, root: Path, yes: bool = False) -> Path:
    """Download an archive, unpack it and return ``root``; finished parts are kept, others are resumed.

    ``name`` is ``"bigearthnet"`` or ``"copernicus-bench"``; ``yes`` downloads without asking.

    Raises:
        ArchiveError: when the download fails, is declined, or its checksum differs.
        RunError: when there is no space, or another process fetches into ``root``.
    """
    source = get_source(name)
    missing = {made: parts for made, parts in source.bundles.items() if not (root / made).exists()}
    if not missing:
        log(f"{source.title}: already in {root}")
        return root
    sizes = {}
    for part in (part for parts in missing.values() for part in parts if not (root / part.name).exists()):
        with _explained(part):
            sizes[part] = get_hf_file_metadata(part.url).size or 0
    remaining = max(0, sum(sizes.values()) - sum(path.stat().st_size for path in root.glob("*.partial")))
    log(f"{source.title}: {remaining / 1e9:.2f} GB to download into {root}")
    if not yes:
        if not sys.stdin.isatty():
            raise ArchiveError("nobody is there to agree to the download: add --yes")
        if input("Download? [y/N] ").strip().lower() not in ("y", "yes"):
            raise ArchiveError("not downloaded")
    require_free_space(root, remaining + sum(source.unpacked.get(made, 0) for made in missing))
    with lock(root):
        for made, parts in missing.items():
            files = [_download(part, root, sizes.get(part)) for part in parts]
            if files != [root / made]:
                _unpack(files, root, made)
                for file in files:
                    file.unlink()
    return root


def _download(part: Part, root: Path, size: int | None) -> Path:
    """Download one part, if it is not there, and check it."""
    path, partial = root / part.name, root / f"{part.name}.partial"
    if not path.exists():
        with _explained(part), open(partial, "ab") as file:
            http_get(part.url, file, resume_size=file.tell(), expected_size=size)
        partial.rename(path)
    log(f"{part.name}: checking")
    with open(path, "rb") as file:
        md5 = hashlib.file_digest(file, "md5").hexdigest()
    if md5 != part.md5:
        damaged = path.rename(root / f"{part.name}.damaged")
        raise ArchiveError(f"{damaged} has MD5 {md5}, expected {part.md5}: run the same command again")
    return path


@contextmanager
def _explained(part: Part) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # of the HTTP client, which differs between versions of huggingface_hub
        raise ArchiveError(
            f"{part.url} could not be downloaded ({error}): run the same command again to resume, or put the "
            f"file into the folder by hand as {part.name}"
        ) from error


class _Joined(io.RawIOBase):
    """Several files read as one, so that a split archive needs no second copy."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._files = [open(path, "rb", buffering=0) for path in paths]  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while self._files:
            if count := self._files[0].readinto(buffer):
                return count
            self._files.pop(0).close()
        return 0


def _unpack(files: Sequence[Path], root: Path, made: str) -> None:
    """Unpack into a temporary folder, and rename the result once it is complete."""
    partial = root / f".{made}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    try:
        if zipfile.is_zipfile(files[0]):
            with zipfile.ZipFile(files[0]) as archive:
                require_free_space(root, sum(member.file_size for member in archive.infolist()))
                for member in progress(archive.infolist(), f"unpacking {made}"):
                    archive.extract(member, partial)
        else:
            with tarfile.open(fileobj=_Joined(files), mode="r|gz") as stream:
                # Python 3.11 knows it since 3.11.4
                stream.extraction_filter = getattr(tarfile, "data_filter", lambda entry, path: entry)
                for entry in progress(stream, f"unpacking {made}"):
                    stream.extract(entry, partial)
        (partial / made).rename(root / made)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ArchiveError(f"{files[0]} could not be unpacked: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
