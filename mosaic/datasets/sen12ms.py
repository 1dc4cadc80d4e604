"""SEN12MS in its official layout, read through TorchGeo and corrected where it is wrong.

``torchgeo.datasets.SEN12MS`` (0.8) demands all four seasons, offers IGBP maps but no multi-label target and
no validation split, passes on NaN and codes that are no class, and fails on a blank line of a list.
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torchgeo.datasets import SEN12MS

from mosaic.datasets.archive import PatchError, Problem, join_first
from mosaic.datasets.geotiff import Header, is_near, to_degrees
from mosaic.datasets.nomenclature import IGBP, IGNORE
from mosaic.datasets.reference import Reference, read_moments
from mosaic.datasets.registry import register_dataset
from mosaic.datasets.sen12ms_layout import COVERAGE, SIDE, labels_of, read_lists, validation_scenes
from mosaic.datasets.sensors import S1_BANDS, WAVELENGTH
from mosaic.datasets.sentinel12 import DB, Sentinel12Archive, Source
from mosaic.datasets.simulation import sen12ms as simulation
from mosaic.utils.errors import ArchiveError
from mosaic.utils.forked import forked_map
from mosaic.utils.progress import progress

#: Layers of land cover; only the first is read.
_COVER = ("lc", "land cover", "land use", "hydrology")


@register_dataset("sen12ms")
class SEN12MSArchive(Sentinel12Archive, SEN12MS):
    """A folder in the official layout of SEN12MS, any seasons and scenes; see :class:`~.archive.Archive`.

    ``archive[i]`` holds ``image_s1`` (2, 256, 256) float32 dB, VV before VH, clipped to -25..0 dB;
    ``image_s2`` (bands, 256, 256) float32 DN at the top of the atmosphere; ``mask`` (1, 256, 256) class
    index, 255 where no class applies; ``label`` (10,) 0 or 1. Labels follow the published protocol: see
    :func:`.sen12ms_layout.labels_of`; a fifth of the training *scenes* are validation.

    The folder holds ``ROIs*`` folders of at least one season and the official lists of training and test
    patches; ``absent`` is the number of those whose scenes are not there. Snow and clouds are not flagged.

    ``index`` is sorted by ``patch_id`` (``ROIs1158_spring_1_p30``) and has labels (names), split, season,
    date (the season again: SEN12MS gives no days), tile, scene and location (all three season and number:
    patches of a scene overlap by half, so they are one location).

    Raises:
        ArchiveError: when the folder is not such an archive.
    """

    name = "sen12ms"
    title = "SEN12MS"
    simulate = staticmethod(simulation.simulate)
    class_names, class_colors = IGBP.classes, IGBP.colors
    level1, confusable, coarse = IGBP.level1, IGBP.confusable, IGBP.coarse
    native_sizes = dict.fromkeys(WAVELENGTH, SIDE)  # all resampled to 10 m by the authors
    nomenclature = IGBP
    root: Path
    _hashed = ("patch_id", "split", "labels", "location")
    _map = "lc"
    sources = {  # noqa: RUF012
        # cut as in the published protocol
        "s1": Source(S1_BANDS, SIDE, ("float32",), DB, clip=(-25, 0)),
        # clouds and snow may exceed 16-bit records at the top of the atmosphere
        "s2": Source(tuple(WAVELENGTH), SIDE, ("uint16",), clip=(0, 32767)),
        "lc": Source(_COVER, SIDE, ("uint8", "uint16")),
    }

    def _read_index(self, include_snow_cloud: bool) -> tuple[pd.DataFrame, list[Problem]]:
        index = read_lists(self.root)
        sources = {
            scene: {key for key in self.sources if self._folder(scene, key).is_dir()}
            for scene in index["scene"].unique()
        }
        there = index["scene"].map(sources).astype(bool)
        self.absent = int((~there).sum())
        index = index[there]
        validation = validation_scenes(index.loc[index["split"] == "train", "scene"].unique())
        index = index.assign(split=index["split"].mask(index["scene"].isin(validation), "validation"))
        faults = [
            Problem(patch_id, "missing folder", f"of {scene} there is no {key}_ folder beside the others")
            for patch_id, scene in zip(index["patch_id"], index["scene"], strict=True)
            for key in sorted(self.sources.keys() - sources[scene])
        ]
        return index, faults

    def _set_index(self, index: pd.DataFrame) -> None:
        if index.empty:
            raise ArchiveError(
                f"{self.root}: none of the listed patches is there: extract a season there, so that e.g. "
                f"{self.root}/ROIs1158_spring/s1_1 is a folder"
            )
        self.ids = index["patch_id"].tolist()
        labels = progress(forked_map(self._labels, len(index)), "reading land cover", len(index))
        index["labels"] = pd.Series(list(labels), dtype=object)
        self.index = index.assign(date=index["season"], tile=index["scene"], location=index["scene"])

    def _check_integrity_light(self) -> bool:
        return True  # was checked; TorchGeo would demand all four seasons

    def _folder(self, scene: str, source: str) -> Path:
        season, number = scene.rsplit("_", 1)
        return self.root / season / f"{source}_{number}"

    def _file(self, i: int, source: str) -> str:
        season, number, patch = self.ids[i].rsplit("_", 2)
        return f"{self.root}/{season}/{source}_{number}/{season}_{source}_{number}_{patch}.tif"

    def _contradictions(
        self, i: int, arrays: dict[str, NDArray[Any]], headers: dict[str, Header]
    ) -> Iterator[Problem]:
        places = {source: (header.epsg or header.crs, header.transform) for source, header in headers.items()}
        for source in places.keys() - {"s1"} if "s1" in places else ():
            (crs, transform), (s1_crs, s1_transform) = places[source], places["s1"]
            if crs != s1_crs or not is_near(transform, s1_transform):
                reason = (
                    f"projection and geotransform are {crs} {transform}, those of Sentinel-1 {s1_crs} "
                    f"{s1_transform}"
                )
                yield Problem(self.ids[i], "place", reason, self.path(i, source))
        if "lc" in arrays and not labels_of(IGBP.class_of_code[arrays["lc"]]):
            reason = f"no class covers {100 * COVERAGE:.0f} % of the patch"
            yield Problem(self.ids[i], "labels", reason, self.path(i, "lc"))

    def _labels(self, i: int) -> list[str]:
        """Return the labels of triplet ``i``; none if ``read`` will report its land cover as unreadable."""
        try:
            return labels_of(IGBP.class_of_code[self._load(i, "lc")[0]["lc"]])
        except PatchError:
            return []

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
        codes = arrays.get("lc", np.empty(0, int))
        unknown = IGBP.class_of_code[codes] == IGNORE
        if unknown.any():
            share = f"({100 * unknown.mean():.1f} % of the patch)"
            detail = f"land-cover codes {join_first(np.unique(codes[unknown]))} are no class {share}"
            yield Problem(self.ids[i], "land cover", detail, self.path(i, "lc"), note=True)

    def notes(self) -> list[Problem]:
        """Return how many listed patches are absent, and files that no list names."""
        problems = []
        if self.absent:
            detail = f"{self.absent} listed patches are of scenes that are not in the folder"
            problems.append(Problem("", "subset", detail, note=True))
        for scene, ids in self.index.groupby("scene")["patch_id"]:
            folder = self._folder(str(scene), "s2")
            patches = {Path(name).stem.split("_")[-1] for name in os.listdir(folder)}
            unlisted = sorted(patches - set(ids.str.split("_").str[-1]))
            if unlisted:
                detail = f"{len(unlisted)} patches are in no list: {join_first(unlisted, 3)}"
                problems.append(Problem("", "stray file", detail, folder, note=True))
        return problems

    def centre(self, tile: str) -> tuple[float, float]:
        """Return longitude and latitude of the centre of a scene's first sound patch, degrees (WGS 84)."""
        for i in np.flatnonzero(self.index["scene"] == tile):
            with suppress(PatchError):  # which ``check`` reports
                header = self._load(int(i), "lc")[1]
                step, _, left, _, _, top = header.transform
                return to_degrees(header.epsg, left + step * SIDE / 2, top - step * SIDE / 2)
        return np.nan, np.nan

    def reference(self) -> Reference:
        """Return the band statistics of the official code."""
        return Reference(title=self.title, moments=read_moments("sen12ms"))
