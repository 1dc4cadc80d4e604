"""BigEarthNet v2 in its official layout, read through TorchGeo and mended where a study needs it exact.

What ``torchgeo.datasets.BigEarthNetV2`` (0.8) does and this class does not: cast SAR to integers (whole dB,
NaN to 0 dB); return VH before VV; leave CORINE codes outside the nomenclature raw and turn no data into urban
fabric; take whatever files a glob finds; accept any image size; trust ``s1_name`` to name the same place.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import rasterio
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets import BigEarthNetV2

from mosaic.archives import nomenclature as facts
from mosaic.archives.patches import PatchError
from mosaic.common.errors import ArchiveError, suggest
from mosaic.packed.fingerprint import digest

_COLUMNS = (
    "patch_id", "labels", "split", "country", "s1_name", "contains_seasonal_snow", "contains_cloud_or_shadow"
)  # fmt: skip
_SNOW_CLOUD = "metadata_for_patches_with_snow_cloud_or_shadow.parquet"
#: Largest magnitude of SAR backscatter that hundredths of a dB in 16 bits can hold.
_MOST_DB = 327.0
_MOST_DN = 32767
_MOST_LISTED = 10


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with one patch."""

    patch_id: str
    kind: str
    detail: str
    path: Path | None = None


class BigEarthNetArchive(BigEarthNetV2):
    """A folder in the official layout of BigEarthNet v2, of any size.

    Args:
        root: folder with ``metadata.parquet``, ``BigEarthNet-S1``, ``BigEarthNet-S2`` and, optionally,
            ``Reference_Maps``.
        bands: ``"all"`` twelve, the four ``"10m"`` ones, or names. Sentinel-1 always gives VV and VH.
        include_snow_cloud: keep patches officially flagged as seasonal snow, cloud or shadow, and add those
            of the official second metadata file where it is there.

    Attributes:
        index: one row a pair, sorted by ``patch_id``: the official columns and satellite date, ``s1_date``,
            ``tile``, ``column``, ``row``, ``scene`` (tile and date) and ``location`` (tile, column, row).

    Raises:
        ArchiveError: when the folder is not such an archive, or its metadata contradicts itself.
    """

    name = "bigearthnet_v2"
    class_names = facts.CLASSES
    class_colors = facts.CLASS_COLORS
    level1 = facts.LEVEL1
    confusable = facts.CONFUSABLE
    s1_bands = facts.S1_BANDS
    root: Path

    def __init__(
        self,
        root: Path,
        bands: Literal["all", "10m"] | Sequence[str] = "all",
        include_snow_cloud: bool = False,
    ) -> None:
        # TorchGeo's constructor loads one split and insists on reference maps: only its paths, class table
        # and sample protocol are of use here.
        self.root = Path(root)
        self.transforms = None
        self.bands = "all"
        self.num_classes = len(facts.CLASSES)
        self._verify()
        self.s2_bands = _chosen(bands)
        self.band_sizes = {
            **dict.fromkeys(facts.S1_BANDS, 120),
            **{b: facts.S2_SIZE[b] for b in self.s2_bands},
        }
        self.index = _index(self.root, include_snow_cloud)
        self.metadata_df = self.index
        self.has_maps = (self.root / self.dir_file_names["maps"]).is_dir()
        self._lut = facts.corine_lut()
        self._require_folders()
        self._require_bands()

    def _verify(self) -> None:
        """Check that the folder holds an extracted archive. Maps are optional.

        Raises:
            ArchiveError: naming what is missing and the remedy.
        """
        if not self.root.is_dir():
            raise ArchiveError(f"no archive at {self.root}: no such folder")
        wanted = [self.dir_file_names[key] for key in ("metadata", "s1", "s2")]
        missing = [name for name in wanted if not (self.root / name).exists()]
        if missing:
            packed = sorted(p.name for p in self.root.glob("*.tar*")) + sorted(
                p.name for p in self.root.glob("*.zst")
            )
            remedy = (
                f"extract {', '.join(packed)} there first"
                if packed
                else "name the folder that holds BigEarthNet-S1, BigEarthNet-S2 and metadata.parquet, "
                "or get one with `python -m mosaic fetch` or `python -m mosaic simulate`"
            )
            raise ArchiveError(
                f"{self.root} is not a BigEarthNet v2 archive, {', '.join(missing)} missing: {remedy}"
            )

    def _require_folders(self) -> None:
        """Every metadata row has its folders; asked of the disk folder by folder, not file by file."""
        for key, field, cut in (("s1", "s1_name", 3), ("s2", "patch_id", 2)):
            base = self.root / self.dir_file_names[key]
            parents = self.index[field].str.rsplit("_", n=cut).str[0]
            there = {
                p: {e.name for e in (base / p).iterdir()} if (base / p).is_dir() else set()
                for p in set(parents)
            }
            absent = [n for n, p in zip(self.index[field], parents, strict=True) if n not in there[p]]
            if absent:
                raise ArchiveError(
                    f"{len(absent)} of {len(self.index)} patches of metadata.parquet have no folder under "
                    f"{base}: {_listing(absent)}. Extract the missing part, or remove these rows"
                )

    def _require_bands(self) -> None:
        """The first patch tells which bands this archive carries, so that a wrong request fails at once."""
        folder = self.path(0, self.s2_bands[0]).parent
        there = [band for band in facts.S2_BANDS if self.path(0, band).exists()]
        absent = [band for band in self.s2_bands if band not in there]
        if absent:
            remedy = "bands=10m" if set(facts.TEN_METRE) <= set(there) else f"bands={','.join(there)}"
            raise ArchiveError(
                f"bands {', '.join(absent)} are not in {folder}, which holds {', '.join(there) or 'none'}: "
                f"ask for {remedy}, or add the missing files"
            )

    def __len__(self) -> int:
        """Return the number of pairs, over all splits."""
        return len(self.index)

    def path(self, i: int, band: str) -> Path:
        """Return the file of one band of pair ``i``; ``band`` may be ``"map"``."""
        row = self.index.iloc[i]
        key, name, cut = {
            "VV": ("s1", row.s1_name, 3), "VH": ("s1", row.s1_name, 3), "map": ("maps", row.patch_id, 2)
        }.get(band, ("s2", row.patch_id, 2))  # fmt: skip
        suffix = "reference_map" if band == "map" else band
        return self.root / self.dir_file_names[key] / name.rsplit("_", cut)[0] / name / f"{name}_{suffix}.tif"

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Read pair ``i`` at native resolution.

        Returns:
            Band -> (size, size): Sentinel-2 uint16 DN (reflectance x 1e4), Sentinel-1 float32 dB.

        Raises:
            PatchError: for a missing, damaged or misplaced file, a wrong size or type, values that are not
                finite or out of range, or an image without a single value.
        """
        patch_id = str(self.index.patch_id.iloc[i])
        origin = self._origin(i)
        arrays = {}
        for band in (*self.s1_bands, *self.s2_bands):
            path = self.path(i, band)
            array, corner = _open(patch_id, path)
            size, kind = self.band_sizes[band], np.float32 if band in self.s1_bands else np.uint16
            if array.shape != (size, size):
                raise PatchError(
                    patch_id, path, f"{array.shape[0]}x{array.shape[1]} pixels instead of {size}x{size}"
                )
            if array.dtype != kind:
                raise PatchError(patch_id, path, f"{array.dtype} values instead of {np.dtype(kind).name}")
            if corner != origin:
                raise PatchError(patch_id, path, f"upper left corner at {corner}, its name says {origin}")
            _check_values(patch_id, path, array)
            arrays[band] = array
        if not any(arrays[band].any() for band in self.s2_bands):
            raise PatchError(patch_id, self.path(i, self.s2_bands[0]).parent, "all bands are zero everywhere")
        for band in self.s1_bands:
            if (arrays[band] == arrays[band].flat[0]).all():
                raise PatchError(patch_id, self.path(i, band), f"every pixel is {arrays[band].flat[0]:g} dB")
        return arrays

    def _origin(self, i: int) -> tuple[float, float]:
        """Where the patch's upper-left corner must lie, by its name and its tile's other patches."""
        row = self.index.iloc[i]
        x, y = self._tile_origin(row.tile)
        return x + facts.PATCH_METRES * row.column, y - facts.PATCH_METRES * row.row

    @cache  # noqa: B019 - one archive lives as long as its process
    def _tile_origin(self, tile: str) -> tuple[float, float]:
        """Return the tile's upper-left corner: what most of its first patches agree on."""
        found: list[tuple[float, float]] = []
        for i in np.flatnonzero(self.index.tile == tile)[:5]:
            row = self.index.iloc[int(i)]
            try:
                _, (x, y) = _open(row.patch_id, self.path(int(i), self.s2_bands[0]))
            except PatchError:
                continue  # the patch itself is reported when it is read
            found.append((x - facts.PATCH_METRES * row.column, y + facts.PATCH_METRES * row.row))
        return max(found, key=found.count) if found else (np.nan, np.nan)

    def read_map(self, i: int) -> NDArray[np.uint8] | None:
        """Return the reference map of pair ``i`` as class indices (120, 120), 255 where no class applies.

        ``None`` when the archive has no maps.

        Raises:
            PatchError: when the file is missing or damaged.
        """
        if not self.has_maps:
            return None
        codes, _ = _open(str(self.index.patch_id.iloc[i]), self.path(i, "map"))
        return self._lut[np.minimum(codes, 999)]

    def check(self, i: int) -> list[Problem]:
        """Return all that is wrong with pair ``i``: its files, its place, its labels against its map."""
        patch_id = str(self.index.patch_id.iloc[i])
        problems = []
        try:
            self.read(i)
        except PatchError as error:
            problems.append(Problem(patch_id, "pixels", error.reason, error.path))
        stray = {p.name for p in self.path(i, "B02").parent.glob("*.tif")}
        stray -= {self.path(i, band).name for band in facts.S2_BANDS}
        problems += [
            Problem(patch_id, "stray file", "not an official band", Path(name)) for name in sorted(stray)
        ]
        try:
            classes = self.read_map(i)
        except PatchError as error:
            return [*problems, Problem(patch_id, "map", error.reason, error.path)]
        if classes is None:
            return problems
        shown = {facts.CLASSES[c] for c in np.unique(classes) if c != facts.IGNORE}
        labels = set(self.index.labels.iloc[i])
        if shown != labels:
            detail = (
                f"only in the map: {sorted(shown - labels)}; only in the labels: {sorted(labels - shown)}"
            )
            problems.append(Problem(patch_id, "labels", detail, self.path(i, "map")))
        return problems

    def fingerprint(self) -> str:
        """Short name of the content: metadata, and name, size and time of change of every patch's folders."""
        rows = self.index[["patch_id", "s1_name", "split"]].to_numpy().tolist()
        labels = ["|".join(names) for names in self.index.labels]
        stats = []
        for i in range(len(self)):
            for band in ("VV", self.s2_bands[0]):
                stat = self.path(i, band).parent.stat()
                stats.append(stat.st_mtime_ns)
        return digest([rows, labels, stats])

    # TorchGeo's sample protocol, for galleries: float32 images, bands in the documented order.

    def _load_image(self, index: int, sensor: str) -> Tensor:
        arrays = self.read(index)
        bands = self.s1_bands if sensor == "s1" else self.s2_bands
        images = [torch.from_numpy(arrays[band].astype(np.float32))[None, None] for band in bands]
        resized = [torch.nn.functional.interpolate(image, 120, mode="bilinear") for image in images]
        return torch.cat(resized)[:, 0]

    def _load_map(self, index: int) -> Tensor:
        classes = self.read_map(index)
        if classes is None:
            classes = np.full((120, 120), facts.IGNORE, np.uint8)
        return torch.from_numpy(classes)[None].long()

    def _load_target(self, index: int) -> Tensor:
        return torch.from_numpy(facts.labels_to_vector(self.index.labels.iloc[index])).long()


def _chosen(bands: Literal["all", "10m"] | Sequence[str]) -> tuple[str, ...]:
    """Return a band set in canonical order."""
    if bands == "all":
        return facts.S2_BANDS
    if bands == "10m":
        return facts.TEN_METRE
    names = [bands] if isinstance(bands, str) else list(bands)
    for name in names:
        if name not in facts.S2_BANDS:
            raise ArchiveError(f"unknown Sentinel-2 band {name!r}{suggest(name, facts.S2_BANDS)}")
    if not names:
        raise ArchiveError("no Sentinel-2 band is asked for: name some, or 'all', or '10m'")
    return tuple(band for band in facts.S2_BANDS if band in names)


def _index(root: Path, include_snow_cloud: bool) -> pd.DataFrame:
    """Read and check the metadata; see ``BigEarthNetArchive.index``."""
    path = root / "metadata.parquet"
    try:
        index = pd.read_parquet(path)
        if include_snow_cloud and (root / _SNOW_CLOUD).exists():
            index = pd.concat([index, pd.read_parquet(root / _SNOW_CLOUD)]).drop_duplicates("patch_id")
    except (OSError, ValueError) as error:
        raise ArchiveError(f"{path} cannot be read ({error}): fetch it again") from error
    absent = [column for column in _COLUMNS if column not in index]
    if absent:
        raise ArchiveError(f"{path} lacks the columns {absent}: it is not the official metadata table")
    if not include_snow_cloud:
        index = index[~(index.contains_seasonal_snow | index.contains_cloud_or_shadow)]
    index = index.sort_values("patch_id").reset_index(drop=True)
    if index.empty:
        raise ArchiveError(f"{path} has no patches left: ask for include_snow_cloud, or another archive")
    optical = _parsed(index.patch_id, facts.PATCH_PATTERN, path)
    radar = _parsed(index.s1_name, facts.S1_PATTERN, path)
    places = ["tile", "column", "row"]
    wrong = (optical[places].to_numpy() != radar[places].to_numpy()).any(axis=1)
    _refuse(path, index.patch_id[wrong], "name another place than their s1_name")
    index = index.assign(**{name: optical[name] for name in ("date", *places)}, s1_date=radar.date)
    index["scene"] = index.tile + "_" + index.date.str.replace("-", "")
    index["location"] = index.tile + "_" + index.column.astype(str) + "_" + index.row.astype(str)
    index["labels"] = [list(names) for names in index.labels]
    _refuse(path, index.patch_id[index.patch_id.duplicated()], "appear twice")
    _refuse(path, index.patch_id[index.labels.str.len() == 0], "have no labels")
    unknown = index.patch_id[[bool(set(names) - set(facts.CLASSES)) for names in index.labels]]
    strange = sorted(set().union(*index.labels) - set(facts.CLASSES))
    _refuse(path, unknown, f"have labels outside the nomenclature ({', '.join(strange)})")
    _refuse(
        path, index.patch_id[~index.split.isin(facts.SPLITS)], f"have a split that is none of {facts.SPLITS}"
    )
    crossing = index.groupby("location").split.transform("nunique") > 1
    _refuse(path, index.patch_id[crossing], "show a place that is also in another split")
    return index


def _parsed(names: "pd.Series[str]", pattern: str, path: Path) -> pd.DataFrame:
    """Split names by a pattern: date as ISO text, tile, column and row as integers."""
    parts = names.str.extract(pattern)
    _refuse(path, names[parts.tile.isna()], "do not follow the official naming")
    date = parts.date.str.slice(0, 4) + "-" + parts.date.str.slice(4, 6) + "-" + parts.date.str.slice(6, 8)
    return parts.assign(date=date, column=parts.column.astype(int), row=parts.row.astype(int))


def _refuse(path: Path, patches: Iterable[str], what: str) -> None:
    found = list(patches)
    if found:
        raise ArchiveError(
            f"{path}: {len(found)} patches {what}: {_listing(found)}. Mend or remove these rows"
        )


def _listing(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return ", ".join(names[:_MOST_LISTED]) + more


def _open(patch_id: str, path: Path) -> tuple[NDArray[Any], tuple[float, float]]:
    """Read one file; returns its only band and its upper-left corner in metres."""
    if not path.exists():
        raise PatchError(patch_id, path, "file is missing")
    try:
        with rasterio.open(path) as file:
            return file.read(1), (file.transform.c, file.transform.f)
    except rasterio.errors.RasterioError as error:
        raise PatchError(patch_id, path, f"cannot be read, is it truncated? ({error})") from error


def _check_values(patch_id: str, path: Path, array: NDArray[Any]) -> None:
    """Refuse values that a 16-bit record cannot hold, before any cast hides them."""
    if array.dtype == np.float32:
        finite = np.isfinite(array)
        if not finite.all():
            raise PatchError(patch_id, path, f"{(~finite).sum()} pixels are NaN or infinite")
        if np.abs(array).max() > _MOST_DB:
            raise PatchError(patch_id, path, f"{np.abs(array).max():.0f} dB is no backscatter: are these dB?")
    elif array.max() > _MOST_DN:
        raise PatchError(patch_id, path, f"DN {array.max()} is above {_MOST_DN}: is this reflectance x 1e4?")
