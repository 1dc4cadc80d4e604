"""What the archives of Sentinel-1 and Sentinel-2 in this package share."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from mosaic.datasets.archive import MOST_NODATA, PatchError, Problem
from mosaic.datasets.geotiff import Header
from mosaic.datasets.nomenclature import IGNORE, Nomenclature
from mosaic.datasets.sensors import S1_BANDS, Sensor, select_bands, sentinel1, sentinel2
from mosaic.utils.files import file_state
from mosaic.utils.forked import forked_map

_FORK_FROM = 4096  # patches; a fork takes as long as asking for the files of some hundred
_NOTED_NODATA = 0.01  # share of a sensor's values without data that ``verify`` notes


class Sentinel12Archive:
    """Reading, checking and hashing; TorchGeo's class comes after it in the bases.

    A subclass gives the size of each band and says how a file is read (``_load``), where it lies (``_file``),
    and what else may be wrong or odd. A *source* is a file of a patch: a band, several, or the map.
    """

    native_sizes: dict[str, int]  # Sentinel-2 band -> side of its image in pixels
    nomenclature: Nomenclature
    s1_bands = S1_BANDS
    root: Path
    index: pd.DataFrame
    ids: list[str]  # patch ids, in the order of the index
    most_nodata = MOST_NODATA
    _hashed: tuple[str, ...]  # columns of the index
    _sources: tuple[str, ...]
    _map: str  # source with the codes of land cover

    def _select(self, bands: str | Sequence[str]) -> None:
        """Set the attributes that depend on the chosen bands."""
        self.s2_bands = select_bands(bands, tuple(self.native_sizes))
        self.sensors = sentinel1(), sentinel2(self.s2_bands)
        side = max(self.native_sizes.values())
        self.band_sizes = {b: self.native_sizes.get(b, side) for b in (*self.s1_bands, *self.s2_bands)}

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
        if self._map not in self._sources:
            return None
        return self.nomenclature.class_of_code[self._load(i, self._map)[0][self._map]]

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Return TorchGeo's sample of one patch; see the class."""
        i, side = range(len(self))[index], max(self.band_sizes.values())
        arrays, classes = self.read(i), self.read_map(i)
        sample = {}
        for sensor in self.sensors:
            images = [
                torch.from_numpy(np.array(arrays[band], np.float32))[None, None] for band in sensor.bands
            ]
            resized = [torch.nn.functional.interpolate(image, side, mode="bilinear") for image in images]
            sample[f"image_{sensor.name}"] = torch.cat(resized)[:, 0]
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
            return "".join([file_state(self._file(i, source)) for source in self._sources])

        for state in forked_map(states, len(self), None if len(self) >= _FORK_FROM else 1):
            content.update(state.encode())
        return content.hexdigest()[:16]

    def path(self, i: int, source: str) -> Path:
        """Return the file of a source of patch ``i``, or what holds the images of ``"s1"`` or ``"s2"``."""
        return Path(self._file(i, source))

    def _problems(self, i: int, arrays: dict[str, NDArray[Any]]) -> Iterator[Problem]:
        """Read the files of patch ``i`` into ``arrays``, a band a key, and yield what is wrong with them."""
        headers: dict[str, Header] = {}
        for source in self._sources:
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
            elif share >= _NOTED_NODATA:
                detail = f"{100 * share:.1f} % of the {sensor.title} values are no data"
                detail += f", accepted are {100 * self.most_nodata:g} % (most_nodata)"
                yield Problem(self.ids[i], "no data", detail, path, note=share <= self.most_nodata)
        yield from self._contradictions(i, arrays, headers)

    def _file(self, i: int, source: str) -> str:
        raise NotImplementedError

    def _load(self, i: int, source: str) -> tuple[dict[str, NDArray[Any]], Header]:
        """Return the images of a source, band (or name of the map) -> (size, size), and its header."""
        raise NotImplementedError

    def _contradictions(
        self, i: int, arrays: dict[str, NDArray[Any]], headers: dict[str, Header]
    ) -> Iterator[Problem]:
        """Yield what sources, of which these could be read, and index contradict each other in."""
        raise NotImplementedError

    def _oddities(self, i: int, arrays: dict[str, NDArray[Any]]) -> list[Problem]:
        raise NotImplementedError


def _nodata_share(sensor: Sensor, arrays: dict[str, NDArray[Any]]) -> float:
    """Return the share of a sensor's values that are masked or, where 0 is no value, 0."""
    images = [arrays[band] for band in sensor.bands if band in arrays]
    empty = [np.sum(np.ma.getmask(a)) if sensor.signed else a.size - np.count_nonzero(a) for a in images]
    return float(sum(empty) / max(1, sum(image.size for image in images)))
