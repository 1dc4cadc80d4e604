"""BigEarthNet v2 in its official layout, read through TorchGeo and corrected where it is wrong.

``torchgeo.datasets.BigEarthNetV2`` (0.8) casts SAR to whole dB (NaN to 0 dB); returns VH before VV; leaves
codes without a class raw and turns no data into urban fabric; takes whatever files a glob finds, of any size;
lets GDAL interpolate in integers; demands maps, accepts empty folders, and trusts ``s1_name``.
"""

import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets import bigearthnet_layout as layout
from mosaic.datasets.archive import Problem, require_files
from mosaic.datasets.geotiff import Header, file_error, is_near, to_degrees
from mosaic.datasets.nomenclature import CORINE, IGNORE
from mosaic.datasets.reference import Reference, bigearthnet_reference
from mosaic.datasets.registry import register_dataset
from mosaic.datasets.sensors import S1_BANDS, TEN_METRE
from mosaic.datasets.sentinel12 import DB, DN, Sentinel12Archive, Source
from mosaic.datasets.simulation import bigearthnet as simulation
from mosaic.utils.errors import ArchiveError
from mosaic.utils.words import count

_MAX_DAYS = 6  # between the two satellites, in the official archive
_PROBED = 5  # patches that tell which bands an archive has
#: Band, or ``"map"`` -> its file.
_FILES = {
    **{band: Source((band,), 120, ("float32",), DB) for band in S1_BANDS},
    **{band: Source((band,), size, ("uint16",), DN) for band, size in layout.S2_SIZE.items()},
    "map": Source(("map",), 120, ("uint16",), (0, 999, "(CORINE codes)")),
}


class BigEarthNetBase(Sentinel12Archive):
    """Classes of BigEarthNet v2, and what the names of its pairs say: when and where both were seen."""

    class_names, class_colors = CORINE.classes, CORINE.colors
    level1, confusable, coarse = CORINE.level1, CORINE.confusable, CORINE.coarse
    nomenclature = CORINE
    dir_file_names: dict[str, str]  # source -> folder
    _hashed: tuple[str, ...] = ("patch_id", "s1_name", "split", "labels")
    _map = "map"

    @cached_property
    def s1_names(self) -> list[str]:
        """Names of the Sentinel-1 patches, in the order of the index."""
        return self.index["s1_name"].tolist()

    def _load(self, i: int, source: str) -> tuple[dict[str, NDArray[Any]], Header]:
        """Return images and header, and refuse a file that lies elsewhere than its name says."""
        images, header = super()._load(i, source)
        scene, column, row = self.ids[i].rsplit("_", 2)
        epsg, left, top = layout.tile_corner(scene[-5:])
        metres = layout.PATCH_METRES / header.shape[1]
        left, top = left + layout.PATCH_METRES * int(column), top - layout.PATCH_METRES * int(row)
        named = (metres, 0.0, float(left), 0.0, -metres, float(top))
        if header.epsg != epsg or not is_near(header.transform, named):
            reason = f"projection and geotransform are {header.crs} {header.transform}"
            reason += f", its name says EPSG:{epsg} {named}"
            raise file_error(self.ids[i], self._file(i, source), "place", reason)
        return images, header

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

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
        days = abs((pd.Timestamp(self.index["date"][i]) - pd.Timestamp(self.index["s1_date"][i])).days)
        if days > _MAX_DAYS:
            detail = f"Sentinel-1 and Sentinel-2 are {days} days apart, officially at most {_MAX_DAYS}"
            yield Problem(self.ids[i], "days apart", detail, note=True)
        baseline = self.ids[i].split("_")[3]
        if "N0400" <= baseline < "N9999":
            detail = (
                f"DN of processing baseline {baseline[1:3]}.{baseline[3:]} have an offset of 1000, those of "
                "the official patches (N9999) none: subtract it"
            )
            yield Problem(self.ids[i], "offset", detail, self.path(i, "s2"), note=True)

    def notes(self) -> list[Problem]:
        """Return scenes and ground in several splits, and folders (as of flagged patches) not listed."""
        problems = [
            Problem("", "scene", f"scene {scene} has patches in {', '.join(sorted(splits))}", note=True)
            for scene, splits in self.index.groupby("scene")["split"].unique().items()
            if len(splits) > 1  # officially 111 of 115; splits keep locations apart
        ]
        if len(pairs := layout.shared_ground(self.index)):
            first, second = (f"{self.ids[i]} ({self.index['split'][i]})" for i in pairs[0])
            detail = f"{count(len(pairs), 'pair')} of patches from neighbouring tiles overlap across splits"
            problems.append(Problem("", "leak", f"{detail}, such as {first} and {second}", note=True))
        for key, names in (("s1", self.s1_names), ("s2", self.ids)):
            base = self._folder(key)
            if unlisted := len(_subfolders(base.iterdir()) - set(names)):
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


@register_dataset("bigearthnet")
class BigEarthNetArchive(BigEarthNetBase, BigEarthNetV2):
    """A folder in the official layout of BigEarthNet v2, of any size; see :class:`~.archive.Archive`.

    ``archive[i]`` is TorchGeo's sample of pair ``i``: ``image_s1`` (2, 120, 120) float32 dB, VV before VH;
    ``image_s2`` (bands, 120, 120) float32 DN, bilinear from native size; ``mask`` (1, 120, 120) class index,
    255 where no class applies; ``label`` (19,) 0 or 1.

    ``Reference_Maps`` may be absent, and ``include_snow_cloud`` adds the official second metadata file if it
    exists. The columns of ``index`` are those of :func:`.bigearthnet_layout.parse_metadata`.

    Raises:
        ArchiveError: when the folder is not such an archive, or its metadata contradicts itself.
    """

    name = "bigearthnet_v2"
    title = "BigEarthNet v2"
    simulate = staticmethod(simulation.simulate)
    native_sizes = layout.S2_SIZE
    _hashed = (*BigEarthNetBase._hashed, "country")
    root: Path

    def _read_index(self, include_snow_cloud: bool) -> tuple[pd.DataFrame, list[Problem]]:
        self._verify()
        maps = ["map"] if self._folder("maps").is_dir() else []
        self.sources = {source: _FILES[source] for source in (*self.band_sizes, *maps)}
        index, faults = layout.parse_metadata(layout.read_metadata(self.root, include_snow_cloud))
        for key, column in (("s1", "s1_name"), ("s2", "patch_id")):
            sound = index[~index["patch_id"].isin([fault.patch_id for fault in faults])]
            faults += self._missing_folders(sound, key, column)
        return index, faults

    def _set_index(self, index: pd.DataFrame) -> None:
        super()._set_index(index)
        self.metadata_df = index  # TorchGeo's name
        self._require_bands()

    def _verify(self) -> None:  # called by TorchGeo too; maps are optional
        names = [self.dir_file_names["s1"], self.dir_file_names["s2"], layout.METADATA]
        require_files(self.root, self.title, names, "restore it, or give the archive's folder")

    def _missing_folders(self, index: pd.DataFrame, key: str, column: str) -> list[Problem]:
        """Return the rows without a folder; the disk is asked scene by scene, not patch by patch."""
        base, names = self._folder(key), index[column]
        existing = _subfolders(base / parent for parent in {layout.acquisition(name) for name in names})
        detail = f"has no folder that can be read in {base}"
        return [
            Problem(patch_id, "missing folder", f"{name} {detail}")
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

    def _file(self, i: int, source: str) -> str:
        # a string: making a Path takes longer than asking for the file's state
        name = self.s1_names[i] if source in S1_BANDS else self.ids[i]
        key = "maps" if source == "map" else "s1" if source in S1_BANDS else "s2"
        end = "reference_map" if source == "map" else source
        return f"{self.root}/{self.dir_file_names[key]}/{layout.acquisition(name)}/{name}/{name}_{end}.tif"

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
        yield from super()._oddities(i, arrays)
        for key, bands in (("s1", S1_BANDS), ("s2", tuple(layout.S2_SIZE))):
            folder = self.path(i, key)
            for name in sorted(_subfolders([folder]) - {self.path(i, band).name for band in bands}):
                detail = f"{name} is not an official {key} band"
                yield Problem(self.ids[i], "stray file", detail, folder / name, note=True)


def _subfolders(parents: Iterable[Path]) -> set[str]:
    """Return the names in several folders; those that cannot be opened hold none."""
    names: set[str] = set()
    for parent in parents:
        try:
            names.update(os.listdir(parent))
        except OSError:  # absent, a file, a loop of links, or not readable
            continue
    return names
