"""SEN12MS in its official layout, read through TorchGeo and mended where a study needs it exact.

What ``torchgeo.datasets.SEN12MS`` (0.8) does and this class does not: demand all four seasons; offer IGBP
maps but no multi-label target, and no validation split; hand on NaN and land-cover codes that are no class;
fail on a blank line of a list. Both sensors and land cover are always read: a pair needs all three.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchgeo.datasets import SEN12MS

from mosaic.datasets import igbp as facts
from mosaic.datasets.geotiff import Header, fault_of, read_raster
from mosaic.datasets.problems import PatchError, Problem, listing, refuse
from mosaic.datasets.reference import Reference
from mosaic.datasets.sen12ms_lists import SOURCES, read_lists, with_validation
from mosaic.datasets.sensors import sentinel1, sentinel2
from mosaic.datasets.sentinel2 import chosen_bands
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import file_state
from mosaic.utils.forked import forked_map
from mosaic.utils.progress import progress

#: Backscatter is cut to this range, in dB, as in the published protocol.
S1_RANGE = (-25.0, 0.0)
_MOST_DN = 32767  # of 16-bit records; clouds and snow may exceed it above the atmosphere
_COUNTS = dict(zip(SOURCES, (2, 13, 4), strict=True))
_DTYPES = {"s1": ("float32",), "s2": ("uint16",), "lc": ("uint8", "uint16")}


class SEN12MSArchive(SEN12MS):
    """A folder in the official layout of SEN12MS: any seasons, any scenes of them.

    ``archive[i]`` holds ``image_s1`` (2, 256, 256) float32 dB, VV before VH, cut to -25..0 dB; ``image_s2``
    (bands, 256, 256) float32 DN above the atmosphere; ``mask`` (1, 256, 256) class index, 255 where no class
    applies; ``label`` (10,) 0 or 1. Labels follow the published protocol: see :func:`igbp.labels_of`.

    The official lists name training and test patches. A fifth of the training *scenes* are validation; see
    :mod:`mosaic.datasets.sen12ms_lists`.

    Args:
        root: folder with ``ROIs*`` folders of at least one season, ``train_list.txt`` and ``test_list.txt``.
        bands: ``"all"`` thirteen, the four ``"10m"`` ones, or names. Sentinel-1 always gives VV and VH.
        problems: a list to which patches that cannot be used are moved; without it they raise.

    Attributes:
        index: one row a triplet, sorted by ``patch_id`` (``ROIs1158_spring_1_p30``), with labels (names),
            split, season, date (the season again: SEN12MS tells no days), tile, scene and location (all three
            season and number: patches of a scene overlap by half, so they are one place).
        absent: how many listed patches belong to scenes that are not in the folder.

    Raises:
        ArchiveError: when the folder is not such an archive.
    """

    name = "sen12ms"
    title = "SEN12MS"
    class_names = facts.CLASSES
    class_colors = facts.CLASS_COLORS
    level1 = facts.GROUPS
    confusable = facts.CONFUSABLE
    coarse = facts.COARSE
    s1_bands = facts.S1_BANDS
    root: Path

    def __init__(
        self,
        root: Path,
        bands: Literal["all", "10m"] | Sequence[str] = "all",
        problems: list[Problem] | None = None,
    ) -> None:
        self.s2_bands = chosen_bands(bands, facts.S2_BANDS, facts.S1_BANDS)
        self.sensors = sentinel1(), sentinel2(self.s2_bands)
        self.band_sizes = dict.fromkeys((*facts.S1_BANDS, *self.s2_bands), facts.SIDE)
        self.root = Path(root)
        listed = read_lists(self.root)
        super().__init__(self.root)
        there = {scene: self._sources(scene) for scene in listed["scene"].unique()}
        known = listed["scene"].map({scene: bool(sources) for scene, sources in there.items()})
        self.absent = int((~known).sum())
        index = with_validation(listed[known]).reset_index(drop=True)
        found = [
            Problem(scene, "missing folder", f"of {scene} there is no {key}_ folder beside the others")
            for scene, sources in there.items()
            for key in SOURCES
            if sources and key not in sources
        ]
        index = index[~index["scene"].isin({problem.patch_id for problem in found})]
        if problems is None:
            refuse(self.root, found)
        else:
            problems += found
        if index.empty:
            raise ArchiveError(
                f"{self.root}: none of the {len(listed)} listed patches is there: extract the archives of a "
                f"season next to the lists, so that e.g. {self.root}/ROIs1158_spring/s1_1 is a folder"
            )
        self._ids = index["patch_id"].tolist()
        self._parts = [self._split_id(name) for name in self._ids]
        classes = progress(forked_map(self._labels, len(index)), "reading land cover", len(index))
        index["labels"] = list(classes)
        self.index = index.assign(date=index["season"], tile=index["scene"], location=index["scene"])
        self.ids = self._ids

    def _check_integrity_light(self) -> bool:
        """Tell TorchGeo that the folder was checked; it would demand all four seasons."""
        return True

    @staticmethod
    def _split_id(patch_id: str) -> tuple[str, str, str, str]:
        roi, season, number, patch = patch_id.split("_")
        return roi, season, number, patch

    def _sources(self, scene: str) -> set[str]:
        """Return which of s1, s2 and lc a scene has a folder of."""
        roi, season, number = scene.split("_")
        return {key for key in SOURCES if (self.root / f"{roi}_{season}" / f"{key}_{number}").is_dir()}

    def __len__(self) -> int:
        """Return the number of triplets, over all splits."""
        return len(self._ids)

    def path(self, i: int, source: str) -> Path:
        """Return a file of triplet ``i``: ``"s1"``, ``"s2"`` or ``"lc"``."""
        roi, season, number, patch = self._parts[i]
        folder = self.root / f"{roi}_{season}" / f"{source}_{number}"
        return folder / f"{roi}_{season}_{source}_{number}_{patch}.tif"

    def _file(self, i: int, source: str, bands: Sequence[int]) -> tuple[NDArray[Any], tuple[Any, ...]]:
        """Read bands (counted from 0) of one file as they are stored, and its place on the ground.

        Raises:
            PatchError: when the file is missing, damaged, or of another shape or type.
        """
        path = self.path(i, source)
        fault = fault_of(self._ids[i], path)
        wanted = (_COUNTS[source], facts.SIDE, facts.SIDE)

        def check(header: Header) -> None:
            if header.shape != wanted:
                raise fault("shape", f"shape is {header.shape}, expected {wanted}")
            if header.dtype not in _DTYPES[source]:
                raise fault("dtype", f"values are {header.dtype}, expected {' or '.join(_DTYPES[source])}")

        values, header = read_raster(path, fault, check, bands)
        return values, (header.epsg or header.crs, *header.transform)

    def _radar(self, i: int) -> tuple[NDArray[np.float32], tuple[Any, ...]]:
        """Read VV and VH, dB, cut to the published range once they are known to be finite."""
        values, place = self._file(i, "s1", (0, 1))
        finite = np.isfinite(values)
        if not finite.all():
            raise PatchError(
                self._ids[i],
                self.path(i, "s1"),
                f"{(~finite).sum()} of {values.size} values are NaN or infinite: leave the patch out",
                "not finite",
            )
        if (values == values.flat[0]).all():
            raise self._empty(i, "s1", "Sentinel-1")
        return np.clip(values, *S1_RANGE), place

    def _optical(self, i: int) -> tuple[NDArray[np.uint16], tuple[Any, ...]]:
        """Read the chosen bands, DN."""
        values, place = self._file(i, "s2", [facts.S2_BANDS.index(band) for band in self.s2_bands])
        if (values == values.flat[0]).all():
            raise self._empty(i, "s2", "Sentinel-2")
        return np.minimum(values, _MOST_DN), place

    def _empty(self, i: int, source: str, sensor: str) -> PatchError:
        reason = f"every {sensor} band is one and the same value everywhere: leave the patch out"
        return PatchError(self._ids[i], self.path(i, source), reason, "all-zero")

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Read triplet ``i``.

        Returns:
            Band -> (256, 256): Sentinel-1 float32 dB within -25..0, Sentinel-2 uint16 DN (reflectance above
            the atmosphere x 1e4).

        Raises:
            PatchError: for a missing or damaged file, a wrong shape or type, values that are not finite, a
                sensor without content, files that show different places, or land cover without a label.
        """
        (radar, s1_place), (optical, s2_place) = self._radar(i), self._optical(i)
        _, lc_place = self._file(i, "lc", (0,))
        for error in (*self._misplaced(i, s1_place, s2_place, lc_place), *self._unlabelled(i)):
            raise error
        return {
            **dict(zip(self.s1_bands, radar, strict=True)),
            **dict(zip(self.s2_bands, optical, strict=True)),
        }

    def _misplaced(self, i: int, *places: tuple[Any, ...]) -> Iterable[PatchError]:
        """Tell triplets whose files do not show the same ground."""
        first = places[0]
        for source, place in zip(("s2", "lc"), places[1:], strict=True):
            same = place[0] == first[0] and np.allclose(place[1:], first[1:], rtol=0, atol=1e-3)
            if not same:
                yield PatchError(
                    self._ids[i],
                    self.path(i, source),
                    f"projection and geotransform are {place}, those of Sentinel-1 {first}",
                    "place",
                )

    def _unlabelled(self, i: int) -> Iterable[PatchError]:
        if not self.index["labels"].iloc[i]:
            yield PatchError(
                self._ids[i],
                self.path(i, "lc"),
                f"no class covers {100 * facts.COVERAGE:.0f} % of the patch",
                "labels",
            )

    def _labels(self, i: int) -> list[str]:
        """Return the labels of triplet ``i``; none when its land cover is unreadable, as ``read`` tells."""
        try:
            return facts.labels_of(self.read_map(i))
        except PatchError:
            return []

    def read_map(self, i: int) -> NDArray[np.uint8]:
        """Return the land cover of triplet ``i`` as class indices (256, 256), 255 where no class applies.

        Raises:
            PatchError: when the file is missing or damaged.
        """
        return self._lut[self._file(i, "lc", (0,))[0][0]]

    @cached_property
    def _lut(self) -> NDArray[np.uint8]:
        return facts.class_lut()

    def check(self, i: int) -> list[Problem]:
        """Return all that is wrong with the files of triplet ``i``, and notes on what is odd."""
        problems: list[Problem] = []
        places = []
        readers: tuple[Callable[[], tuple[Any, tuple[Any, ...]]], ...] = (
            lambda: self._radar(i),
            lambda: self._optical(i),
            lambda: self._file(i, "lc", (0,)),
        )
        for read in readers:
            try:
                values, place = read()
                places.append(place)
            except PatchError as error:
                problems.append(error.problem())
        if len(places) == len(readers):
            problems += [error.problem() for error in self._misplaced(i, *places)]
            problems += [error.problem() for error in self._unlabelled(i)]
            strange = sorted(set(np.unique(values).tolist()) - set(facts.IGBP_TO_CLASS))
            if strange:
                share = np.isin(values, strange).mean()
                detail = (
                    f"land-cover codes {listing(strange)} are no class ({100 * share:.1f} % of the patch)"
                )
                problems.append(Problem(self._ids[i], "land cover", detail, self.path(i, "lc"), note=True))
        return problems

    def notes(self) -> list[Problem]:
        """Return what is worth knowing of the archive as a whole."""
        found = []
        if self.absent:
            detail = f"{self.absent} listed patches are of scenes that are not in the folder"
            found.append(Problem("", "subset", detail, note=True))
        listed = set(self._ids)
        for scene in self.index["scene"].unique():
            roi, season, number = scene.split("_")
            folder = self.root / f"{roi}_{season}" / f"s2_{number}"
            names = {Path(name).stem.split("_")[-1] for name in os.listdir(folder)}
            extra = sorted(name for name in names if f"{scene}_{name}" not in listed)
            if extra:
                detail = f"{len(extra)} patches are in no list: {listing(extra, 3)}"
                found.append(Problem("", "stray file", detail, folder, note=True))
        return found

    def centre(self, tile: str) -> tuple[float, float]:
        """Return longitude and latitude of a scene's first patch, degrees (WGS 84)."""
        from rasterio.warp import transform

        first = int(np.flatnonzero(self.index["scene"].to_numpy() == tile)[0])
        epsg, step, _, left, _, _, top = self._file(first, "lc", (0,))[1]
        half = step * facts.SIDE / 2
        (lon,), (lat,) = transform(f"EPSG:{epsg}", "EPSG:4326", [left + half], [top - half])[:2]
        return float(lon), float(lat)

    def reference(self) -> Reference:
        """Return what is known of the real archive: the band statistics of the official code."""
        return Reference(title="SEN12MS", moments=facts.OFFICIAL_MOMENTS)

    def fingerprint(self) -> str:
        """Return a short name of the content, another one when a label, split or file changes."""
        content = hashlib.sha256()
        content.update(self.index[["patch_id", "split", "labels", "location"]].to_csv(index=False).encode())
        for i in range(len(self)):
            content.update("".join([file_state(self.path(i, source)) for source in SOURCES]).encode())
        return content.hexdigest()[:16]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return one sample; see the class."""
        labels = np.isin(self.class_names, self.index["labels"].iloc[index])
        return {
            "image_s1": torch.from_numpy(self._radar(index)[0]),
            "image_s2": torch.from_numpy(self._optical(index)[0].astype(np.float32)),
            "mask": torch.from_numpy(self.read_map(index))[None].long(),
            "label": torch.from_numpy(labels).long(),
        }
