"""BigEarthNet v2 in its official layout, read through TorchGeo and corrected where it is wrong.

What ``torchgeo.datasets.BigEarthNetV2`` (0.8) does and this class does not: cast SAR to integers (whole dB,
NaN to 0 dB); return VH before VV; leave CORINE codes outside the nomenclature raw and turn no data into urban
fabric; take whatever files a glob finds; accept any image size; let GDAL interpolate in integers; demand maps
and accept empty folders; trust ``s1_name`` to name the same location.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets import bigearthnet_layout as layout
from mosaic.datasets.archive import PatchError, Problem, Sentinel12Archive, report_faults, require_files
from mosaic.datasets.geotiff import file_error, is_near, read_raster, to_degrees
from mosaic.datasets.nomenclature import CORINE, IGNORE
from mosaic.datasets.reference import Reference, bigearthnet_reference
from mosaic.datasets.registry import register_dataset
from mosaic.datasets.sensors import S1_BANDS, TEN_METRE
from mosaic.datasets.simulation.bigearthnet import simulate
from mosaic.utils.errors import ArchiveError

_MAX_DAYS = 6  # between the two satellites, in the official archive
_PROBED = 5  # patches that tell which bands an archive has
#: TorchGeo's key of each folder -> column that names a patch, and number of parts to drop for its parent.
_NAMES = {"s1": ("s1_name", 3), "s2": ("patch_id", 2), "maps": ("patch_id", 2)}
#: Band, or ``"map"`` -> TorchGeo's key of its folder, how its file's name ends, side in pixels and type.
_FILES = {
    **{band: ("s1", band, 120, "float32") for band in S1_BANDS},
    **{band: ("s2", band, size, "uint16") for band, size in layout.S2_SIZE.items()},
    "map": ("maps", "reference_map", 120, "uint16"),
}
#: Key -> least and largest value that is accepted (16-bit records hold hundredths of a dB, and DN), and unit.
_RANGES = {"s1": (-327, 327, "dB"), "s2": (0, 32767, "DN"), "maps": (0, 999, "")}


@register_dataset("bigearthnet", simulate)
class BigEarthNetArchive(Sentinel12Archive, BigEarthNetV2):
    """A folder in the official layout of BigEarthNet v2, of any size; see :class:`~.archive.Archive`.

    ``archive[i]`` is TorchGeo's sample of pair ``i``: ``image_s1`` (2, 120, 120) float32 dB, VV before VH;
    ``image_s2`` (bands, 120, 120) float32 DN, bilinear from native size; ``mask`` (1, 120, 120) class index,
    255 where no class applies; ``label`` (19,) 0 or 1.

    Arguments are those of :func:`.registry.open_archive`. The folder holds ``metadata.parquet``,
    ``BigEarthNet-S1``, ``BigEarthNet-S2`` and, optionally, ``Reference_Maps``; ``include_snow_cloud`` adds
    the patches of the official second metadata file if it exists. The columns of ``index`` are those of
    :func:`.bigearthnet_layout.parse_metadata`.

    Raises:
        ArchiveError: when the folder is not such an archive, or its metadata contradicts itself.
    """

    name = "bigearthnet_v2"
    title = "BigEarthNet v2"
    class_names, class_colors = CORINE.classes, CORINE.colors
    level1, confusable, coarse = CORINE.level1, CORINE.confusable, CORINE.coarse
    native_sizes = layout.S2_SIZE
    root: Path
    _hashed = ("patch_id", "s1_name", "split", "labels")

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
        self.has_maps = self._folder("maps").is_dir()
        for key in ("s1", "s2"):
            index = index[~index["patch_id"].isin([fault.patch_id for fault in faults])]
            faults += self._missing_folders(index, key)
        report_faults(self.root, faults, problems)
        index = index[~index["patch_id"].isin([fault.patch_id for fault in faults])]
        self.index = self.metadata_df = index.reset_index(drop=True)
        self._names = {key: self.index[column].tolist() for key, (column, _) in _NAMES.items()}
        self._corners = [
            (epsg, left + layout.PATCH_METRES * column, top - layout.PATCH_METRES * row)
            for tile, column, row in self.index[["tile", "column", "row"]].itertuples(index=False)
            for epsg, left, top in [layout.tile_corner(tile)]
        ]
        self._require_bands()

    def _verify(self) -> None:  # called by TorchGeo too; maps are optional
        names = [self.dir_file_names["s1"], self.dir_file_names["s2"], layout.METADATA]
        require_files(self.root, self.title, names, "restore it, or give the archive's folder")

    def _folder(self, key: str) -> Path:
        return self.root / self.dir_file_names[key]

    def _missing_folders(self, index: pd.DataFrame, key: str) -> list[Problem]:
        """Return the rows without a folder; the disk is asked scene by scene, not patch by patch."""
        column, parts = _NAMES[key]
        names = index[column].astype(str)
        parents = names.str.rsplit("_", n=parts).str[0].unique()
        existing = _subfolders(self._folder(key) / parent for parent in parents)
        missing = ~names.isin(existing)
        return [
            Problem(patch_id, "missing folder", f"{name} has no folder in {self._folder(key)}")
            for patch_id, name in zip(index["patch_id"][missing], names[missing], strict=True)
        ]

    def _require_bands(self) -> None:
        """Refuse bands that none of a few patches has; one patch without a band is that patch's fault."""
        probed = np.linspace(0, len(self) - 1, min(_PROBED, len(self)), dtype=int)
        available = [band for band in layout.S2_SIZE if any(self.path(i, band).exists() for i in probed)]
        missing = [band for band in self.s2_bands if band not in available]
        if missing and len(self):
            remedy = "bands=10m" if set(TEN_METRE) <= set(available) else f"bands={','.join(available)}"
            raise ArchiveError(
                f"{self.root} has no files of bands {', '.join(missing)}, only of "
                f"{', '.join(available) or 'none'}: ask for {remedy}, or add the missing files"
            )

    def path(self, i: int, band: str) -> Path:
        """Return the file of one band of pair ``i``; ``band`` may be ``"map"``."""
        return Path(self._file(i, band))

    def _file(self, i: int, band: str) -> str:  # building a Path takes longer than reading the file's state
        key, suffix, *_ = _FILES[band]
        name = self._names[key][i]
        parent = name.rsplit("_", _NAMES[key][1])[0]
        return f"{self.root}/{self.dir_file_names[key]}/{parent}/{name}/{name}_{suffix}.tif"

    def _errors(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[PatchError]:
        patch_id = self._names["s2"][i]
        for band in self.band_sizes:
            try:
                arrays[band] = self._band(i, band)
            except PatchError as error:
                yield error
        for sensor in self.sensors:
            images = [arrays[band] for band in sensor.bands if band in arrays]
            if images and all((image == image.flat[0]).all() for image in images):
                value = "one and the same value" if any(image.any() for image in images) else "zero"
                reason = f"every {sensor.title} band is {value} everywhere (all-zero patch): leave it out"
                yield PatchError(patch_id, self.path(i, sensor.bands[0]).parent, reason, "all-zero")
        try:
            classes = self.read_map(i)
        except PatchError as error:
            yield error
            return
        if classes is not None:
            present = np.flatnonzero(np.bincount(classes.ravel()))
            in_map = {CORINE.classes[c] for c in present if c != IGNORE}
            labels = set(self.index["labels"].iloc[i])
            if in_map != labels:
                reason = (
                    "labels are not the classes of the reference map: only in the labels "
                    f"{sorted(labels - in_map)}, only in the map {sorted(in_map - labels)}"
                )
                yield PatchError(patch_id, self.path(i, "map"), reason, "labels")

    def _band(self, i: int, band: str) -> NDArray[Any]:
        """Read one band, or ``"map"``, as it is stored, (size, size); perhaps read only."""
        key, _, size, dtype = _FILES[band]
        path, patch_id = self._file(i, band), self._names["s2"][i]
        (values,), header = read_raster(path, patch_id, (1, size, size), dtype)
        (epsg, left, top), metres = self._corners[i], layout.PATCH_METRES / size
        named = (metres, 0.0, float(left), 0.0, -metres, float(top))
        if not is_near(header.transform, named):
            reason = f"the geotransform is {header.transform}, its name says {named}"
            raise file_error(patch_id, path, "place", reason)
        if header.epsg != epsg:
            reason = f"the projection is {header.crs}, its name says EPSG:{epsg}"
            raise file_error(patch_id, path, "place", reason)
        low, high = values.min(), values.max()
        if not (isfinite(low) and isfinite(high)):
            reason = f"{np.count_nonzero(~np.isfinite(values))} of {values.size} values are NaN or infinite"
            raise file_error(patch_id, path, "not finite", reason)
        least, most, unit = _RANGES[key]
        if low < least or high > most:
            reason = f"values are {low:g} to {high:g} {unit}, expected {least:g} to {most:g} {unit}"
            raise file_error(patch_id, path, "range", reason)
        return values

    def read_map(self, i: int) -> NDArray[np.uint8] | None:
        """Return class indices (120, 120), 255 where no class applies; None if the archive has no maps."""
        return CORINE.class_of_code[self._band(i, "map")] if self.has_maps else None

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> list[Problem]:
        patch_id, problems = self._names["s2"][i], []
        for key, bands in (("s1", S1_BANDS), ("s2", tuple(layout.S2_SIZE))):
            folder = self.path(i, bands[0]).parent
            for name in sorted(set(os.listdir(folder)) - {self.path(i, band).name for band in bands}):
                detail = f"{name} is not an official {key} band"
                problems.append(Problem(patch_id, "stray file", detail, folder / name, note=True))
        date, s1_date = (pd.Timestamp(self.index[column].iloc[i]) for column in ("date", "s1_date"))
        days = abs((date - s1_date).days)
        if days > _MAX_DAYS:
            detail = f"Sentinel-1 and Sentinel-2 are {days} days apart, officially at most {_MAX_DAYS}"
            problems.append(Problem(patch_id, "days apart", detail, note=True))
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
            unlisted = len(_subfolders(base.iterdir()) - set(self._names[key]))
            if unlisted:
                detail = f"{unlisted} folders belong to no patch that was checked"
                problems.append(Problem("", "folder", detail, base, note=True))
        return problems

    def centre(self, tile: str) -> tuple[float, float]:
        """Return longitude and latitude of a tile's centre, degrees (WGS 84)."""
        epsg, left, top = layout.tile_corner(tile)
        return to_degrees(epsg, left + layout.TILE_METRES / 2, top - layout.TILE_METRES / 2)

    def reference(self) -> Reference:
        """Return published and measured values of the real archive."""
        return bigearthnet_reference()

    def _files(self, i: int) -> list[str]:
        return [self._file(i, band) for band in (*self.band_sizes, *(["map"] if self.has_maps else []))]

    # TorchGeo's __getitem__ composes its sample from these three.

    def _load_image(self, index: int, sensor: str) -> Tensor:
        bands = self.s1_bands if sensor == "s1" else self.s2_bands
        images = [torch.from_numpy(self._band(index, band).astype(np.float32))[None, None] for band in bands]
        resized = [torch.nn.functional.interpolate(image, 120, mode="bilinear") for image in images]
        return torch.cat(resized)[:, 0]

    def _load_map(self, index: int) -> Tensor:
        classes = self.read_map(index)
        if classes is None:
            classes = np.full((120, 120), IGNORE, np.uint8)
        return torch.from_numpy(classes)[None].long()

    def _load_target(self, index: int) -> Tensor:
        return torch.from_numpy(np.isin(self.class_names, self.index["labels"].iloc[index])).long()


def _subfolders(parents: Iterable[Path]) -> set[str]:
    return {name for parent in parents if parent.is_dir() for name in os.listdir(parent)}
