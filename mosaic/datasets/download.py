"""Downloading real archives: addresses and checksums are TorchGeo's, resuming and unpacking are ours.

TorchGeo begins a broken download of 60 GB again from its first byte, and writes every archive a second time
before it unpacks it.
"""

import hashlib
import shutil
import sys
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from mosaic.utils.errors import ArchiveError, suggest
from mosaic.utils.files import lock, require_free_space
from mosaic.utils.progress import log, progress

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


@dataclass(frozen=True)
class Part:
    """One file to download.

    Attributes:
        name: file name.
        url: where it is.
        md5: of its content.
    """

    name: str
    url: str
    md5: str


@dataclass(frozen=True)
class Source:
    """An archive to fetch.

    Attributes:
        title: for people.
        bundles: folder or file that results -> the parts that make it, in order.
        unpacked: bytes on disk once unpacked, about; 0 where nobody has said.
        note: what the user should know of the result.
    """

    title: str
    bundles: dict[str, tuple[Part, ...]]
    unpacked: int
    note: str


def source(name: str) -> Source:
    """Return what TorchGeo knows of an archive.

    Raises:
        ArchiveError: for an unknown name.
    """
    if name == "bigearthnet":
        from torchgeo.datasets import BigEarthNetV2

        bundles = {
            BigEarthNetV2.dir_file_names[key]: tuple(
                Part(file, BigEarthNetV2.url.format(file), md5) for file, md5 in entry["files"].items()
            )
            for key, entry in BigEarthNetV2.metadata_locs.items()
        }
        # 8.2 million files of whole 4 KiB blocks
        return Source(
            "BigEarthNet v2.0 (480,038 pairs, CDLA-Permissive-1.0)",
            bundles,
            unpacked=180_000_000_000,
            note="in the official layout: give the folder to `make study ARCHIVE=...`",
        )
    if name == "copernicus-bench":
        from torchgeo.datasets import CopernicusBenchBigEarthNetS1 as Bench

        return Source(
            "5 % of BigEarthNet v2.0 (Copernicus-Bench)",
            {Bench.directory: (Part(Bench.zipfile, Bench.url, Bench.md5),)},
            unpacked=0,
            note="in the layout of Copernicus-Bench (stacked bands, labels in CSV), for TorchGeo's classes "
            "CopernicusBenchBigEarthNetS1 and S2; `mosaic run` reads the official layout of BigEarthNet only",
        )
    names = ("bigearthnet", "copernicus-bench")
    raise ArchiveError(f"no archive {name!r} to fetch{suggest(name, names)}")


def fetch(name: str, root: Path, yes: bool = False) -> Path:
    """Download an archive and unpack it; what is there already is kept, a broken download goes on.

    Args:
        name: ``"bigearthnet"`` or ``"copernicus-bench"``.
        root: folder for it.
        yes: do not ask before downloading.

    Returns:
        ``root``.

    Raises:
        ArchiveError: when the download fails or its checksum differs, or nobody agreed to it.
        RunError: when there is no space, or another process fetches into ``root``.
    """
    what = source(name)
    missing = {made: parts for made, parts in what.bundles.items() if not (root / made).exists()}
    if not missing:
        log(f"{what.title}: already in {root}")
        return root
    wanted = [part for parts in missing.values() for part in parts]
    absent = sum(_size(part) for part in wanted if not (root / part.name).exists())
    begun = sum(path.stat().st_size for path in root.glob("*.partial"))
    unpacked = f"about {what.unpacked / 1e9:.0f} GB" if what.unpacked else "size not known beforehand"
    log(
        f"{what.title}: {max(0, absent - begun) / 1e9:.2f} GB to download into {root}; unpacked: {unpacked}; "
        f"{what.note}"
    )
    _agree(yes)
    require_free_space(root, max(0, absent - begun) + what.unpacked)
    with lock(root):
        for made, parts in missing.items():
            files = [_download(part, root) for part in parts]
            if files != [root / made]:
                _unpack(files, root, made)
                for file in files:
                    file.unlink()
    return root


def _agree(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise ArchiveError("nobody is there to agree to the download: add --yes")
    if input("Download? [y/N] ").strip().lower() not in ("y", "yes"):
        raise ArchiveError("not downloaded")


def _download(part: Part, root: Path) -> Path:
    """Download one part under its final name, going on where an earlier download broke off."""
    path, partial = root / part.name, root / f"{part.name}.partial"
    if not path.exists():
        try:
            _receive(part, partial)
        except (urllib.error.URLError, OSError) as error:
            raise _unreachable(part, error) from error
        partial.rename(path)
    log(f"{part.name}: checking")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "md5").hexdigest()
    if found != part.md5:
        path.rename(partial.with_suffix(".damaged"))
        raise ArchiveError(
            f"{path} has MD5 {found}, expected {part.md5}: it was set aside as "
            f"{partial.with_suffix('.damaged').name}; run the same command again"
        )
    return path


def _size(part: Part) -> int:
    """Ask the server how many bytes a part has."""
    try:
        with urllib.request.urlopen(
            urllib.request.Request(part.url, method="HEAD"), timeout=_TIMEOUT
        ) as answer:
            return int(answer.headers.get("Content-Length") or 0)
    except (urllib.error.URLError, OSError) as error:
        raise _unreachable(part, error) from error


def _unreachable(part: Part, error: Exception) -> ArchiveError:
    return ArchiveError(
        f"{part.url} could not be downloaded ({getattr(error, 'reason', error)}): run the same command again "
        f"to go on, or put the file into the folder by hand as {part.name}"
    )


def _receive(part: Part, partial: Path) -> None:
    """Append to ``partial`` what it lacks, or write it anew where the server cannot go on."""
    start = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(part.url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code == 416 and start:  # nothing lies beyond what we have
            return
        raise
    with answer:
        goes_on = start > 0 and answer.status == 206
        length = answer.headers.get("Content-Length")
        if start and goes_on:
            log(f"{part.name}: going on after {start / 1e9:.2f} GB")
        chunks = -(-int(length) // _CHUNK) if length else None
        with open(partial, "ab" if goes_on else "wb") as file:
            for chunk in progress(_chunks(answer), part.name, total=chunks):
                file.write(chunk)
            received = file.tell() - (start if goes_on else 0)
        if length and received < int(length):
            raise OSError(f"the connection broke after {received:,} of {int(length):,} bytes")


def _chunks(stream: BinaryIO) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


class _Joined:
    """Several files read as one, so that a split archive needs no second copy."""

    def __init__(self, paths: Sequence[Path]) -> None:
        self._paths = list(paths)
        self._file: BinaryIO | None = None

    def read(self, size: int) -> bytes:
        """Return up to ``size`` bytes; nothing at the end of the last file."""
        while self._file is not None or self._paths:
            if self._file is None:
                self._file = self._paths.pop(0).open("rb")
            if chunk := self._file.read(size):
                return chunk
            self._file.close()
            self._file = None
        return b""


def _unpack(files: Sequence[Path], root: Path, made: str) -> None:
    """Unpack into a folder aside, and move the result to its name once it is whole."""
    log(f"{made}: unpacking")
    aside = root / f".{made}.partial"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        if zipfile.is_zipfile(files[0]):
            with zipfile.ZipFile(files[0]) as archive:
                members = archive.infolist()
                require_free_space(root, sum(member.file_size for member in members))
                for member in progress(members, made, total=len(members)):
                    archive.extract(member, aside)
        else:
            with tarfile.open(fileobj=_Joined(files), mode="r|gz") as stream:  # type: ignore[call-overload]
                for entry in progress(stream, made):
                    stream.extract(entry, aside, filter="data")
        if not (aside / made).is_dir():
            raise OSError(f"it holds no folder {made}")
        (aside / made).rename(root / made)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise ArchiveError(f"{files[0]} could not be unpacked: {error}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
