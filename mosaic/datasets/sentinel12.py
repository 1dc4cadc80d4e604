"""What the archives of Sentinel-1 and Sentinel-2 in this package share."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from mosaic.datasets.archive import MOST_NODATA, PatchError, Problem, sound_rows
from mosaic.datasets.geotiff import Header, read_raster
from mosaic.datasets.nomenclature import IGNORE, Nomenclature
from mosaic.datasets.sensors import S1_BANDS, Sensor, select_bands, sentinel1, sentinel2
from mosaic.utils.files import file_state
from mosaic.utils.forked import forked_map

_FORK_FROM = 4096  # patches; a fork takes as long as asking for the files of some hundred
_NOTED_NODATA = 0.01  # share of a sensor's values without data that ``verify`` notes
#: Least and largest value that is accepted, and unit: 16-bit records hold hundredths of a dB, and DN.
DB, DN = (-327, 327, "dB"), (0, 32767, "DN")


class Source(NamedTuple):
    """A file of a patch."""

    layers: tuple[str, ...]  # bands, or the map, in the order of the file
    side: int  # pixels
    dtypes: tuple[str, ...]  # that are accepted
    limits: tuple[float, float, str] | None = None  # least and largest value that is accepted, unit
    clip: tuple[float, float] | None = None  # values beyond are cut


class Sentinel12Archive:
    """Reading, checking and hashing; TorchGeo's class comes after it in the bases.

    A subclass gives the size of each band and the files of a patch, and says how the index is read, where a
    file lies, and what else may be wrong or odd. Arguments are those of :func:`.registry.open_archive`.
    """

    native_sizes: dict[str, int]  # Sentinel-2 band -> side of its image in pixels
    nomenclature: Nomenclature
    s1_bands = S1_BANDS
    root: Path
    index: pd.DataFrame
    ids: list[str]  # patch ids, in the order of the index
    most_nodata = MOST_NODATA
    _hashed: tuple[str, ...]  # columns of the index
    sources: dict[str, Source]
    _map: str  # source with the codes of land cover, and its layer

    def __init__(
        self,
        root: Path,
        bands: str | Sequence[str] = "all",
        include_snow_cloud: bool = False,
        problems: list[Problem] | None = None,
    ) -> None:
        self.root = Path(root)
        self.s2_bands = select_bands(bands, tuple(self.native_sizes))
        self.sensors = sentinel1(), sentinel2(self.s2_bands)
        side = max(self.native_sizes.values())
        self.band_sizes = {b: self.native_sizes.get(b, side) for b in (*self.s1_bands, *self.s2_bands)}
        index, faults = self._read_index(include_snow_cloud)
        super().__init__(self.root)  # type: ignore[call-arg]  # of TorchGeo's class
        self._set_index(sound_rows(self.root, index, faults, problems))

    def __len__(self) -> int:
        """Return the number of patches, over all splits."""
        return len(self.index)

    def read(self, i: int) -> dict[str, NDArray[Any]]:
        """Return band -> native image (size, size): float32 dB, masked without data; uint16 DN, 0 without.

        PatchError for the first problem of :meth:`check` that is not a note.
        """
        arrays: dict[str, NDArray[Any]] = {}
        for problem in self._problems(i, arrays):
            if not problem.note:
                path = problem.path or self.root
                raise PatchError(problem.patch_id, path, problem.detail, problem.kind)
        return {band: arrays[band] for band in self.band_sizes}

    def read_map(self, i: int) -> NDArray[np.uint8] | None:
        """Return class indices (side, side), 255 where no class applies; None if the archive has no maps."""
        if self._map not in self.sources:
            return None
        return self.nomenclature.class_of_code[self._load(i, self._map)[0][self._map]]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return TorchGeo's sample of one patch; see the class."""
        i, side = range(len(self))[index], max(self.band_sizes.values())
        arrays, classes = self.read(i), self.read_map(i)
        sample = {}
        for sensor in self.sensors:
            images = [torch.from_numpy(np.array(arrays[band], np.float32)) for band in sensor.bands]
            resized = [interpolate(image[None, None], side, mode="bilinear")[0] for image in images]
            sample[f"image_{sensor.name}"] = torch.cat(resized)
        classes = np.full((side, side), IGNORE, np.uint8) if classes is None else classes
        sample["mask"] = torch.from_numpy(classes)[None].long()
        labels = np.isin(self.nomenclature.classes, self.index["labels"].iloc[i])
        return {**sample, "label": torch.from_numpy(labels).long()}

    def check(self, i: int) -> list[Problem]:
        """Return everything wrong with the files of patch ``i``, and notes on oddities."""
        self.checked: dict[str, NDArray[Any]] = {}
        return [*self._problems(i, self.checked), *self._oddities(i, self.checked)]

    def fingerprint(self) -> str:
        """Return a hash of the index and of size and time of change of every file; none is opened."""
        content = hashlib.sha256(self.index[list(self._hashed)].to_csv(index=False).encode())
        if self.most_nodata != MOST_NODATA:
            content.update(f"{self.most_nodata}".encode())

        def states(i: int) -> str:
            return "".join([file_state(self._file(i, source)) for source in self.sources])

        for state in forked_map(states, len(self), None if len(self) >= _FORK_FROM else 1):
            content.update(state.encode())
        return content.hexdigest()[:16]

    def path(self, i: int, source: str) -> Path:
        """Return the file of a source of patch ``i``, or what holds the images of ``"s1"`` or ``"s2"``."""
        return Path(self._file(i, source))

    def _problems(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
        """Read the files of patch ``i`` into ``arrays``, a band a key, and yield what is wrong with them."""
        headers: dict[str, Header] = {}
        for source in self.sources:
            try:
                images, headers[source] = self._load(i, source)
                arrays |= images
            except PatchError as error:
                yield Problem(error.patch_id, error.kind, error.reason, error.path)
        for sensor in self.sensors:
            read = [np.asarray(arrays[band]) for band in sensor.bands if band in arrays]
            share, path = _nodata_share(sensor, arrays), self.path(i, sensor.name)
            if read and all((image == image.flat[0]).all() for image in read):
                value = "one and the same value" if any(image.any() for image in read) else "zero"
                detail = f"every {sensor.title} band is {value} everywhere (all-zero patch): leave it out"
                yield Problem(self.ids[i], "all-zero", detail, path)
            elif share >= _NOTED_NODATA or share > self.most_nodata:
                detail = f"{100 * share:.1f} % of the {sensor.title} values are no data"
                detail += f", accepted are {100 * self.most_nodata:g} % (most_nodata)"
                yield Problem(self.ids[i], "no data", detail, path, note=share <= self.most_nodata)
        yield from self._contradictions(i, arrays, headers)

    def _load(self, i: int, source: str) -> tuple[dict[str, NDArray[Any]], Header]:
        """Return the images of a source, chosen band or map -> (size, size), and its header."""
        layers, side, dtypes, limits, clip = self.sources[source]
        shape = len(layers), side, side
        values, header = read_raster(self._file(i, source), self.ids[i], shape, dtypes, limits)
        images = zip(layers, values if clip is None else values.clip(*clip), strict=True)
        wanted = {*self.band_sizes, self._map}
        return {name: image for name, image in images if name in wanted}, header

    def _read_index(self, include_snow_cloud: bool) -> tuple[pd.DataFrame, list[Problem]]:
        """Return all rows of the index, and the faults of some."""
        raise NotImplementedError

    def _set_index(self, index: pd.DataFrame) -> None:
        """Take the rows without faults."""
        self.index, self.ids = index, index["patch_id"].tolist()

    def _file(self, i: int, source: str) -> str:
        raise NotImplementedError

    def _contradictions(
        self, i: int, arrays: dict[str, NDArray[Any]], headers: dict[str, Header]
    ) -> Iterator[Problem]:
        """Yield what sources, of which these could be read, and index contradict each other in."""
        raise NotImplementedError

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
        raise NotImplementedError


def _nodata_share(sensor: Sensor, arrays: dict[str, NDArray[Any]]) -> float:
    """Return the share of a sensor's values that are masked or, where 0 is no value, 0."""
    images = [arrays[band] for band in sensor.bands if band in arrays]
    empty = [np.sum(np.ma.getmask(a)) if sensor.signed else a.size - np.count_nonzero(a) for a in images]
    return float(sum(empty) / max(1, sum(image.size for image in images)))
