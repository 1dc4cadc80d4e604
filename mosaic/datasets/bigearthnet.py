"""BigEarthNet v2 in its official layout, read through TorchGeo and corrected where it is wrong.

``torchgeo.datasets.BigEarthNetV2`` (0.8) casts SAR to whole dB (NaN to 0 dB); returns VH before VV; leaves
codes without a class raw and turns no data into urban fabric; takes whatever files a glob finds, of any size;
lets GDAL interpolate in integers; demands maps, accepts empty folders, and trusts ``s1_name``.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets import bigearthnet_layout as layout
from mosaic.datasets.archive import Problem, require_files, sound_rows
from mosaic.datasets.geotiff import Header, file_error, is_near, read_raster, to_degrees
from mosaic.datasets.nomenclature import CORINE, IGNORE
from mosaic.datasets.reference import Reference, bigearthnet_reference
from mosaic.datasets.registry import register_dataset
from mosaic.datasets.sensors import S1_BANDS, TEN_METRE
from mosaic.datasets.sentinel12 import Sentinel12Archive
from mosaic.datasets.simulation.bigearthnet import simulate
from mosaic.utils.errors import ArchiveError

_MAX_DAYS = 6  # between the two satellites, in the official archive
_PROBED = 5  # patches that tell which bands an archive has
#: TorchGeo's key of each folder -> column that names a patch, and number of parts to drop for its parent.
_NAMES = {"s1": ("s1_name", 3), "s2": ("patch_id", 2), "maps": ("patch_id", 2)}
#: Band, or ``"map"`` -> TorchGeo's key of its folder, end of its file's name, side in pixels, type, and least
#: and largest value that is accepted (16-bit records hold hundredths of a dB, and DN).
_FILES: dict[str, tuple[str, str, int, str, tuple[int, int, str]]] = {
    **{band: ("s1", band, 120, "float32", (-327, 327, "dB")) for band in S1_BANDS},
    **{band: ("s2", band, size, "uint16", (0, 32767, "DN")) for band, size in layout.S2_SIZE.items()},
    "map": ("maps", "reference_map", 120, "uint16", (0, 999, "")),
}


class BigEarthNetBase(Sentinel12Archive):
    """Classes of BigEarthNet v2, and what the names of its pairs say: when and where both were seen."""

    class_names, class_colors = CORINE.classes, CORINE.colors
    level1, confusable, coarse = CORINE.level1, CORINE.confusable, CORINE.coarse
    nomenclature = CORINE
    dir_file_names: dict[str, str]  # source -> folder
    _hashed, _map = ("patch_id", "s1_name", "split", "labels"), "map"

    def _set_index(self, index: pd.DataFrame) -> None:
        """Take an index of :func:`.bigearthnet_layout.parse_metadata` without faults."""
        self.index = index
        self._names = {key: index[column].tolist() for key, (column, _) in _NAMES.items()}
        self.ids = self._names["s2"]
        self._corners = [
            (epsg, left + layout.PATCH_METRES * column, top - layout.PATCH_METRES * row)
            for tile, column, row in index[["tile", "column", "row"]].itertuples(index=False)
            for epsg, left, top in [layout.tile_corner(tile)]
        ]

    def _require_place(self, i: int, path: str, header: Header) -> None:
        """Refuse a file of pair ``i`` that lies elsewhere than its name says."""
        (epsg, left, top), metres = self._corners[i], layout.PATCH_METRES / header.shape[1]
        named = (metres, 0.0, float(left), 0.0, -metres, float(top))
        if header.epsg != epsg or not is_near(header.transform, named):
            found = f"projection and geotransform are {header.crs} {header.transform}"
            raise file_error(self.ids[i], path, "place", f"{found}, its name says EPSG:{epsg} {named}")

    def _contradictions(
        self, i: int, arrays: dict[str, NDArray[Any]], headers: dict[str, Header]
    ) -> Iterator[Problem]:
        if "map" in arrays:
            present = np.flatnonzero(np.bincount(CORINE.class_of_code[arrays["map"]].ravel()))
            in_map = {CORINE.classes[c] for c in present if c != IGNORE}
            labels = set(self.index["labels"].iloc[i])
            if in_map != labels:
                reason = (
                    "labels are not the classes of the reference map: only in the labels "
                    f"{sorted(labels - in_map)}, only in the map {sorted(in_map - labels)}"
                )
                yield Problem(self.ids[i], "labels", reason, self.path(i, "map"))

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> list[Problem]:
        patch_id, problems = self.ids[i], []
        days = abs((pd.Timestamp(self.index["date"][i]) - pd.Timestamp(self.index["s1_date"][i])).days)
        if days > _MAX_DAYS:
            detail = f"Sentinel-1 and Sentinel-2 are {days} days apart, officially at most {_MAX_DAYS}"
            problems.append(Problem(patch_id, "days apart", detail, note=True))
        baseline = patch_id.split("_")[3]
        if "N0400" <= baseline < "N9999":
            detail = (
                f"DN of processing baseline {baseline[1:3]}.{baseline[3:]} have an offset of 1000, those of "
                "the official patches (N9999) none: subtract it"
            )
            problems.append(Problem(patch_id, "offset", detail, self.path(i, "s2"), note=True))
        return problems

    def notes(self) -> list[Problem]:
        """Return scenes in several splits, and how many folders (of flagged patches, e.g.) are not listed."""
        problems = [
            Problem("", "scene", f"scene {scene} has patches in {', '.join(sorted(splits))}", note=True)
            for scene, splits in self.index.groupby("scene")["split"].unique().items()
            if len(splits) > 1  # officially 111 of 115; splits keep locations apart
        ]
        for key in ("s1", "s2"):
            base = self._folder(key)
            if unlisted := len(_subfolders(base.iterdir()) - set(self._names[key])):
                detail = f"{unlisted} folders belong to no patch that was checked"
                problems.append(Problem("", "folder", detail, base, note=True))
        return problems

    def _folder(self, key: str) -> Path:
        return self.root / self.dir_file_names[key]

    def centre(self, tile: str) -> tuple[float, float]:
        """Return longitude and latitude of a tile's centre, degrees (WGS 84)."""
        epsg, left, top = layout.tile_corner(tile)
        return to_degrees(epsg, left + layout.TILE_METRES / 2, top - layout.TILE_METRES / 2)

    def reference(self) -> Reference:
        """Return published and measured values of the real archive."""
        return bigearthnet_reference()


@register_dataset("bigearthnet", simulate)
class BigEarthNetArchive(BigEarthNetBase, BigEarthNetV2):
    """A folder in the official layout of BigEarthNet v2, of any size; see :class:`~.archive.Archive`.

    ``archive[i]`` is TorchGeo's sample of pair ``i``: ``image_s1`` (2, 120, 120) float32 dB, VV before VH;
    ``image_s2`` (bands, 120, 120) float32 DN, bilinear from native size; ``mask`` (1, 120, 120) class index,
    255 where no class applies; ``label`` (19,) 0 or 1.

    Arguments are those of :func:`.registry.open_archive`; ``Reference_Maps`` may be absent, and
    ``include_snow_cloud`` adds the official second metadata file if it exists. The columns of ``index`` are
    those of :func:`.bigearthnet_layout.parse_metadata`.

    Raises:
        ArchiveError: when the folder is not such an archive, or its metadata contradicts itself.
    """

    name = "bigearthnet_v2"
    title = "BigEarthNet v2"
    native_sizes = layout.S2_SIZE
    root: Path

    def __init__(
        self,
        root: Path,
        bands: str | Sequence[str] = "all",
        include_snow_cloud: bool = False,
        problems: list[Problem] | None = None,
    ) -> None:
        self.root = Path(root)
        self._select(bands)
        self._verify()
        index, faults = layout.parse_metadata(layout.read_metadata(self.root, include_snow_cloud))
        super().__init__(self.root, split="train", bands="all")
        self._sources = (*self.band_sizes, *(["map"] if self._folder("maps").is_dir() else []))
        for key in ("s1", "s2"):
            sound = index[~index["patch_id"].isin([fault.patch_id for fault in faults])]
            faults += self._missing_folders(sound, key)
        self._set_index(sound_rows(self.root, index, faults, problems))
        self.metadata_df = self.index
        self._require_bands()

    def _verify(self) -> None:  # called by TorchGeo too; maps are optional
        names = [self.dir_file_names["s1"], self.dir_file_names["s2"], layout.METADATA]
        require_files(self.root, self.title, names, "restore it, or give the archive's folder")

    def _missing_folders(self, index: pd.DataFrame, key: str) -> list[Problem]:
        """Return the rows without a folder; the disk is asked scene by scene, not patch by patch."""
        column, parts = _NAMES[key]
        names = index[column].astype(str)
        existing = _subfolders(self._folder(key) / p for p in names.str.rsplit("_", n=parts).str[0].unique())
        return [
            Problem(
                patch_id, "missing folder", f"{name} has no folder that can be read in {self._folder(key)}"
            )
            for patch_id, name in zip(index["patch_id"], names, strict=True)
            if name not in existing
        ]

    def _require_bands(self) -> None:
        """Refuse bands that none of a few patches has; one patch without a band is that patch's fault."""
        probed = np.linspace(0, len(self) - 1, min(_PROBED, len(self)), dtype=int)
        available = [
            band for band in layout.S2_SIZE if any(os.path.exists(self._file(i, band)) for i in probed)
        ]
        missing = [band for band in self.s2_bands if band not in available]
        if missing and len(self):
            remedy = "bands=10m" if set(TEN_METRE) <= set(available) else f"bands={','.join(available)}"
            remedy = f"ask for {remedy}, or add the missing files"
            if any(os.path.exists(self.path(i, missing[0]).with_suffix(".TIF")) for i in probed):
                remedy = "rename their files from .TIF to .tif"
            raise ArchiveError(
                f"{self.root} has no files of bands {', '.join(missing)}, only of "
                f"{', '.join(available) or 'none'}: {remedy}"
            )

    def path(self, i: int, source: str) -> Path:
        """Return the file of a band or the ``"map"`` of pair ``i``, or the folder of ``"s1"`` or ``"s2"``."""
        bands = {"s1": "VV", "s2": "B02"}
        path = Path(self._file(i, bands.get(source, source)))
        return path.parent if source in bands else path

    def _file(
        self, i: int, source: str
    ) -> str:  # making a Path takes longer than asking for the file's state
        key, suffix, *_ = _FILES[source]
        name = self._names[key][i]
        parent = name.rsplit("_", _NAMES[key][1])[0]
        return f"{self.root}/{self.dir_file_names[key]}/{parent}/{name}/{name}_{suffix}.tif"

    def _load(self, i: int, source: str) -> tuple[dict[str, NDArray[Any]], Header]:
        _, _, size, dtype, limits = _FILES[source]
        path, patch_id = self._file(i, source), self.ids[i]
        (values,), header = read_raster(path, patch_id, (1, size, size), (dtype,), limits)
        self._require_place(i, path, header)
        return {source: values}, header

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> list[Problem]:
        problems = super()._oddities(i, arrays)
        for key, bands in (("s1", S1_BANDS), ("s2", tuple(layout.S2_SIZE))):
            folder = self.path(i, key)
            for name in sorted(_subfolders([folder]) - {self.path(i, band).name for band in bands}):
                detail = f"{name} is not an official {key} band"
                problems.append(Problem(self.ids[i], "stray file", detail, folder / name, note=True))
        return problems


def _subfolders(parents: Iterable[Path]) -> set[str]:
    """Return the names in several folders; those that cannot be opened hold none."""
    names: set[str] = set()
    for parent in parents:
        try:
            names.update(os.listdir(parent))
        except OSError:  # absent, a file, a loop of links, or not readable
            continue
    return names
