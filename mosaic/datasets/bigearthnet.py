"""BigEarthNet v2 in its official layout, read through TorchGeo and mended where a study needs it exact.

What ``torchgeo.datasets.BigEarthNetV2`` (0.8) does and this class does not: cast SAR to integers (whole dB,
NaN to 0 dB); return VH before VV; leave CORINE codes outside the nomenclature raw and turn no data into urban
fabric; take whatever files a glob finds; accept any image size; let GDAL interpolate in integers; demand maps
and accept empty folders; trust ``s1_name`` to name the same place.
"""

import hashlib
import os
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets import corine as facts
from mosaic.datasets.bigearthnet_metadata import METADATA, parse_metadata, read_metadata, scene_notes
from mosaic.datasets.bigearthnet_reference import bigearthnet_reference
from mosaic.datasets.geotiff import Expected, read_band
from mosaic.datasets.problems import PatchError, Problem, refuse
from mosaic.datasets.reference import Reference
from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.datasets.sentinel2 import TEN_METRE, chosen_bands
from mosaic.datasets.tiles import tile_centre, tile_corner
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import file_state
from mosaic.utils.forked import forked_map

#: Largest magnitudes that 16-bit records hold: hundredths of a dB, and DN.
_MOST_DB, _MOST_DN = 327, 32767
_MOST_CODE = 999  # of CORINE
_MOST_DAYS = 6  # between the two satellites, in the official archive
_PROBED = 5  # patches that tell which bands an archive has
_FORKED_FROM = 4096  # pairs
#: TorchGeo's key of each folder -> column that names a patch there, and how many parts of it name its parent.
_NAMES = {"s1": ("s1_name", 3), "s2": ("patch_id", 2), "maps": ("patch_id", 2)}
#: Band, or ``"map"`` -> TorchGeo's key of its folder, and how its file's name ends.
_FILES = {
    **{band: ("s1", band) for band in facts.S1_BANDS},
    **{band: ("s2", band) for band in facts.S2_BANDS},
    "map": ("maps", "reference_map"),
}
_EXPECTED = {
    **dict.fromkeys(facts.S1_BANDS, Expected(120, "float32", -_MOST_DB, _MOST_DB, "dB")),
    **{band: Expected(size, "uint16", 0, _MOST_DN, "DN") for band, size in facts.S2_SIZE.items()},
    "map": Expected(120, "uint16", 0, _MOST_CODE),
}


class BigEarthNetArchive(BigEarthNetV2):
    """A folder in the official layout of BigEarthNet v2, of any size.

    ``archive[i]`` is TorchGeo's sample of pair ``i``: ``image_s1`` (2, 120, 120) float32 dB, VV before VH;
    ``image_s2`` (bands, 120, 120) float32 DN, bilinear from native size; ``mask`` (1, 120, 120) class index,
    255 where no class applies; ``label`` (19,) 0 or 1.

    Args:
        root: folder with ``metadata.parquet``, ``BigEarthNet-S1``, ``BigEarthNet-S2`` and, optionally,
            ``Reference_Maps``.
        bands: ``"all"`` twelve, the four ``"10m"`` ones, or names. Sentinel-1 always gives VV and VH.
        include_snow_cloud: keep patches officially flagged as seasonal snow, cloud or shadow, and add those
            of the official second metadata file where it is there.
        problems: a list to which rows that cannot be used are moved; without it they raise.

    Attributes:
        index: one row a pair, sorted by ``patch_id``; see :func:`bigearthnet_metadata.parse_metadata`.

    Raises:
        ArchiveError: when the folder is not such an archive, or its metadata contradicts itself.
    """

    name = "bigearthnet_v2"
    title = "BigEarthNet v2"
    class_names = facts.CLASSES
    class_colors = facts.CLASS_COLORS
    level1 = facts.LEVEL1
    confusable = facts.CONFUSABLE
    coarse = facts.COARSE
    s1_bands = facts.S1_BANDS
    root: Path

    def __init__(
        self,
        root: Path,
        bands: Literal["all", "10m"] | Sequence[str] = "all",
        include_snow_cloud: bool = False,
        problems: list[Problem] | None = None,
    ) -> None:
        self.s2_bands = chosen_bands(bands, facts.S2_BANDS, facts.S1_BANDS)
        self.sensors = sentinel1(), sentinel2(self.s2_bands)
        self.band_sizes = {
            **dict.fromkeys(facts.S1_BANDS, 120),
            **{band: facts.S2_SIZE[band] for band in self.s2_bands},
        }
        self.root = Path(root)
        self._verify()
        index, found = parse_metadata(read_metadata(self.root, include_snow_cloud))
        super().__init__(self.root, split="train", bands="all")
        self.has_maps = self._folder("maps").is_dir()
        index = index[~index["patch_id"].isin({problem.patch_id for problem in found})]
        for key in ("s1", "s2"):
            lost = self._without_folder(index, key)
            index = index[~index["patch_id"].isin({problem.patch_id for problem in lost})]
            found += lost
        if problems is None:
            refuse(self.root, found)
        else:
            problems += found
        self.index = self.metadata_df = index.reset_index(drop=True)
        self._names = {key: self.index[column].tolist() for key, (column, _) in _NAMES.items()}
        self._labels = [set(names) for names in self.index["labels"]]
        self._places = list(
            self.index[["patch_id", "tile", "column", "row"]].itertuples(index=False, name=None)
        )
        self._require_bands()

    def _verify(self) -> None:
        """Check that the folder holds an extracted archive. Maps are optional.

        Raises:
            ArchiveError: naming what is missing and the remedy.
        """
        if not self.root.is_dir():
            raise ArchiveError(
                f"there is no folder {self.root}: name an archive's folder, or get one with "
                "`python -m mosaic fetch` or `python -m mosaic simulate`"
            )
        wanted = [self.dir_file_names["s1"], self.dir_file_names["s2"], METADATA]
        missing = [name for name in wanted if not (self.root / name).exists()]
        if missing:
            packed = sorted(path.name for path in self.root.iterdir() if ".tar" in path.name)
            remedy = (
                f"extract {', '.join(packed)} there first" if packed else "restore it, or name its folder"
            )
            raise ArchiveError(
                f"{self.root} is not an archive of BigEarthNet v2, {', '.join(missing)} missing: {remedy}"
            )

    def _folder(self, key: str) -> Path:
        return self.root / self.dir_file_names[key]

    def _without_folder(self, index: pd.DataFrame, key: str) -> list[Problem]:
        """Return the rows without a folder; the disk is asked scene by scene, not patch by patch."""
        column, parts = _NAMES[key]
        names = index[column].astype(str)
        parents = (self._folder(key) / parent for parent in names.str.rsplit("_", n=parts).str[0].unique())
        there = {name for parent in parents if parent.is_dir() for name in os.listdir(parent)}
        lost = ~names.isin(there)
        return [
            Problem(patch_id, "missing folder", f"{name} has no folder in {self._folder(key)}")
            for patch_id, name in zip(index["patch_id"][lost], names[lost], strict=True)
        ]

    def _require_bands(self) -> None:
        """Refuse bands that none of a few patches has; one patch without a band is that patch's fault.

        Raises:
            ArchiveError: naming the bands that are absent, those present, and what to ask for.
        """
        probed = np.linspace(0, len(self) - 1, min(_PROBED, len(self)), dtype=int)
        there = [band for band in facts.S2_BANDS if any(self.path(i, band).exists() for i in probed)]
        absent = [band for band in self.s2_bands if band not in there]
        if absent and len(self):
            remedy = "bands=10m" if set(TEN_METRE) <= set(there) else f"bands={','.join(there)}"
            raise ArchiveError(
                f"{self.root} has no files of bands {', '.join(absent)}, only of "
                f"{', '.join(there) or 'none'}: ask for {remedy}, or add the missing files"
            )

    def __len__(self) -> int:
        """Return the number of pairs, over all splits."""
        return len(self.index)

    def path(self, i: int, band: str) -> Path:
        """Return the file of one band of pair ``i``; ``band`` may be ``"map"``."""
        return Path(self._file(i, band))

    def _file(self, i: int, band: str) -> str:
        key, suffix = _FILES[band]
        name = self._names[key][i]
        parent = name.rsplit("_", _NAMES[key][1])[0]
        return f"{self.root}/{self.dir_file_names[key]}/{parent}/{name}/{name}_{suffix}.tif"

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Read pair ``i`` at native resolution.

        Returns:
            Band -> (size, size): Sentinel-1 float32 dB, Sentinel-2 uint16 DN (reflectance x 1e4).

        Raises:
            PatchError: for a missing, damaged or misplaced file, a wrong size or type, values that are not
                finite or out of range, a sensor without content, or labels that are not those of the map.
        """
        arrays = {band: self._band(i, band) for band in self.band_sizes}
        for error in (*self._without_content(i, arrays), *self._mislabelled(i)):
            raise error
        return arrays

    def _band(self, i: int, band: str) -> NDArray[Any]:
        """Read one band, or ``"map"``, as it is stored."""
        patch_id, tile, column, row = self._places[i]
        epsg, easting, northing = tile_corner(tile)
        corner = (epsg, easting + facts.PATCH_METRES * column, northing - facts.PATCH_METRES * row)
        return read_band(self._file(i, band), patch_id, corner, _EXPECTED[band])

    def _without_content(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterable[PatchError]:
        """Tell sensors whose bands all have one value everywhere."""
        for sensor, bands in (("Sentinel-1", self.s1_bands), ("Sentinel-2", self.s2_bands)):
            found = [arrays[band] for band in bands if band in arrays]
            if found and all((array == array.flat[0]).all() for array in found):
                what = "zero" if not any(array.any() for array in found) else "one and the same value"
                yield PatchError(
                    self._places[i][0],
                    self.path(i, bands[0]).parent,
                    f"every {sensor} band is {what} everywhere (all-zero patch): leave it out",
                    "all-zero",
                )

    def _mislabelled(self, i: int) -> Iterable[PatchError]:
        """Tell labels that are not exactly the classes in the reference map."""
        if not self.has_maps:
            return
        codes = np.flatnonzero(np.bincount(self._band(i, "map").ravel()))
        shown = {facts.CLASSES[c] for c in self._lut[codes] if c != facts.IGNORE}
        labels = self._labels[i]
        if shown != labels:
            yield PatchError(
                self._places[i][0],
                self.path(i, "map"),
                "labels are not the classes of the reference map: only in the labels "
                f"{sorted(labels - shown)}, only in the map {sorted(shown - labels)}",
                "labels",
            )

    def read_map(self, i: int) -> NDArray[np.uint8] | None:
        """Return the reference map of pair ``i`` as class indices (120, 120), 255 where no class applies.

        ``None`` when the archive has no maps.

        Raises:
            PatchError: when the file is missing or damaged.
        """
        return self._lut[self._band(i, "map")] if self.has_maps else None

    @cached_property
    def _lut(self) -> NDArray[np.uint8]:
        return facts.corine_lut()

    def check(self, i: int) -> list[Problem]:
        """Return all that is wrong with the files of pair ``i``, and notes on what is odd."""
        patch_id = self._places[i][0]
        problems: list[Problem] = []
        arrays: dict[str, NDArray[Any]] = {}
        for band in self.band_sizes:
            try:
                arrays[band] = self._band(i, band)
            except PatchError as error:
                problems.append(error.problem())
        problems += [error.problem() for error in self._without_content(i, arrays)]
        try:
            problems += [error.problem() for error in self._mislabelled(i)]
        except PatchError as error:
            problems.append(error.problem())
        for key, bands in (("s1", facts.S1_BANDS), ("s2", facts.S2_BANDS)):
            folder = self.path(i, bands[0]).parent
            official = {self.path(i, band).name for band in bands}
            problems += [
                Problem(patch_id, "stray file", f"{name} is no official {key} band", folder / name, note=True)
                for name in sorted(set(os.listdir(folder)) - official)
            ]
        date, s1_date = (pd.Timestamp(self.index[column].iloc[i]) for column in ("date", "s1_date"))
        days = abs((date - s1_date).days)
        if days > _MOST_DAYS:
            detail = f"Sentinel-1 and Sentinel-2 are {days} days apart, officially at most {_MOST_DAYS}"
            problems.append(Problem(patch_id, "days apart", detail, note=True))
        return problems

    def notes(self) -> list[Problem]:
        """Return what is worth knowing of the archive as a whole.

        Scenes in several splits, and patches on disk that the metadata does not list, e.g. those flagged as
        snow or cloud.
        """
        found = scene_notes(self.index)
        for key, (column, _) in list(_NAMES.items())[:2]:
            base = self._folder(key)
            there = {name for parent in base.iterdir() if parent.is_dir() for name in os.listdir(parent)}
            extra = len(there - set(self.index[column]))
            if extra:
                detail = f"{extra} folders are of no patch that was checked"
                found.append(Problem("", "folder", detail, base, note=True))
        return found

    def centre(self, tile: str) -> tuple[float, float]:
        """Return longitude and latitude of a tile's centre, degrees (WGS 84)."""
        return tile_centre(tile)

    def reference(self) -> Reference:
        """Return what is known of the real archive."""
        return bigearthnet_reference()

    def fingerprint(self) -> str:
        """Return a short name of the content, another one when a label, split or file changes.

        A digest of the index and of size and time of change of every file that is read: no file is opened.
        """
        content = hashlib.sha256()
        columns = ["patch_id", "s1_name", "split", "labels"]
        content.update(self.index[columns].to_csv(index=False).encode())
        # a fork costs as much as asking for the files of some hundred pairs
        for state in forked_map(self._state, len(self), None if len(self) >= _FORKED_FROM else 1):
            content.update(state.encode())
        return content.hexdigest()[:16]

    def _state(self, i: int) -> str:
        read = (*self.band_sizes, "map") if self.has_maps else tuple(self.band_sizes)
        return "".join([file_state(self._file(i, band)) for band in read])

    # TorchGeo's __getitem__ composes its sample from these three.

    def _load_image(self, index: int, sensor: str) -> Tensor:
        bands = self.s1_bands if sensor == "s1" else self.s2_bands
        images = [torch.from_numpy(self._band(index, band).astype(np.float32))[None, None] for band in bands]
        resized = [torch.nn.functional.interpolate(image, 120, mode="bilinear") for image in images]
        return torch.cat(resized)[:, 0]

    def _load_map(self, index: int) -> Tensor:
        classes = self.read_map(index)
        if classes is None:
            classes = np.full((120, 120), facts.IGNORE, np.uint8)
        return torch.from_numpy(classes)[None].long()

    def _load_target(self, index: int) -> Tensor:
        return torch.from_numpy(facts.labels_to_vector(self.index["labels"].iloc[index])).long()
