"""Copernicus-Bench's 5 % of BigEarthNet v2, read through TorchGeo and corrected where it is wrong.

``torchgeo.datasets.CopernicusBenchBigEarthNetS1`` and ``S2`` (0.8) read one sensor and one split each; take
labels by position, whatever the header says; accept folders without images, and files of any size, type,
value or place; and trust that the two paths of a row name one place.
"""

from contextlib import suppress
from dataclasses import replace
from itertools import compress
from pathlib import Path

import numpy as np
import pandas as pd
from torchgeo.datasets import CopernicusBenchBigEarthNetS1, CopernicusBenchBigEarthNetS2

from mosaic.datasets import bigearthnet_layout as layout
from mosaic.datasets.archive import PatchError, Problem, require_files
from mosaic.datasets.bigearthnet import BigEarthNetBase
from mosaic.datasets.nomenclature import CORINE
from mosaic.datasets.reference import Reference, bigearthnet_reference, read_published
from mosaic.datasets.registry import register_dataset
from mosaic.datasets.sentinel12 import DB, DN, Source
from mosaic.datasets.simulation import bigearthnet as simulation
from mosaic.datasets.simulation.produce import SIMULATION_NOTE
from mosaic.utils.errors import ArchiveError
from mosaic.utils.files import require_regular

_SIDE = 120
_PROBED = 5  # patches that tell how coarser bands were resampled


@register_dataset("copernicus_bench")
class CopernicusBenchArchive(BigEarthNetBase, CopernicusBenchBigEarthNetS2):
    """A folder that ``bigearthnet_s1s2`` is in, with any number of pairs; see :class:`~.archive.Archive`.

    Samples and columns of ``index`` are those of :class:`~.bigearthnet.BigEarthNetArchive`, but maps, flags
    and country are not known, and all bands come at 120 x 120.

    Raises:
        ArchiveError: when the folder is not such an archive, or its lists contradict themselves.
    """

    name = "copernicus_bench"
    title = "BigEarthNet v2, 5 % (Copernicus-Bench)"
    simulate = staticmethod(simulation.simulate_stacked)
    native_sizes, dir_file_names = dict.fromkeys(layout.S2_SIZE, _SIDE), layout.BENCH_FOLDERS
    root: Path
    sources = {  # noqa: RUF012
        "s1": Source(CopernicusBenchBigEarthNetS1.all_bands, _SIDE, ("float32",), DB),
        "s2": Source(CopernicusBenchBigEarthNetS2.all_bands, _SIDE, ("uint16",), DN),
    }

    def _read_index(self, include_snow_cloud: bool) -> tuple[pd.DataFrame, list[Problem]]:
        self._verify()
        table = pd.concat([_read_list(self.root / name, split) for split, name in layout.BENCH_LISTS.items()])
        if table.empty:
            raise ArchiveError(f"{self.root}: the lists name no pair: restore them")
        return layout.parse_metadata(table)

    def _verify(self) -> None:  # called by TorchGeo too
        names = [*layout.BENCH_FOLDERS.values(), *layout.BENCH_LISTS.values()]
        require_files(self.root, self.title, names, "give the folder that holds bigearthnet_s1s2")

    def _file(self, i: int, source: str) -> str:
        name = self.s1_names[i] if source == "s1" else self.ids[i]
        return f"{self.root}/{layout.BENCH_FOLDERS[source]}/{layout.stacked_file(name)}"

    def notes(self) -> list[Problem]:
        """Return those of BigEarthNet, and how bands of 20 and 60 m came to 120 x 120 pixels."""
        blocks = {b: _SIDE // layout.S2_SIZE[b] for b in self.s2_bands if layout.S2_SIZE[b] < _SIDE}
        repeated = []
        for i in np.linspace(0, len(self) - 1, min(_PROBED, len(self)), dtype=int) if blocks else ():
            with suppress(PatchError):  # which ``check`` reports
                images = self._load(int(i), "s2")[0]
                repeats = [images[b][::n, ::n].repeat(n, 0).repeat(n, 1) for b, n in blocks.items()]
                repeated.append(np.array_equal(repeats, [images[b] for b in blocks]))
        detail = (
            f"{', '.join(blocks)} came resampled to {_SIDE} x {_SIDE} pixels: of {len(repeated)} patches "
            f"looked at, {sum(repeated)} are blocks of equal pixels (nearest neighbour), the others are not"
        )
        return super().notes() + [Problem("", "resampled", detail, note=True)] * bool(repeated)

    def reference(self) -> Reference:
        """Return published and measured values of the real archive, many of them of all BigEarthNet v2."""
        real = not (self.root / SIMULATION_NOTE).exists()
        return replace(
            bigearthnet_reference(),
            title=self.title,
            published=read_published(self.name),
            published_source="Copernicus-Bench, arXiv:2503.11849: micro mAP, one sensor, encoders frozen but "
            "for the supervised one; the split is taken for theirs by its number of patches alone",
            test_patches=5991,
            test_sha256="" if real else "simulated",
        )


def _read_list(path: Path, split: str) -> pd.DataFrame:
    """Return the rows of a list as :func:`.bigearthnet_layout.parse_metadata` takes them."""
    require_regular(path, ArchiveError, "restore it")
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # so are pandas' errors
        raise ArchiveError(f"{path} cannot be read as CSV ({error}): restore it") from error
    paths, classes = ["s1_path", "s2_path"], list(CORINE.classes)
    if differing := sorted({*paths, *classes} ^ {*table}):
        raise ArchiveError(
            f"{path}: its header must be {', '.join(paths)} and the 19 class names of BigEarthNet v2, and "
            f"differs in {', '.join(map(repr, differing))}: restore it"
        )
    if (wrong := ~table[classes].isin([0, 1]).all(axis=1)).any():
        raise ArchiveError(f"{path}, row {wrong.argmax() + 2}: labels must be 0 or 1: restore it")
    index = pd.DataFrame({"labels": [list(compress(classes, row)) for row in table[classes].to_numpy()]})
    for column, path_column in (("s1_name", "s1_path"), ("patch_id", "s2_path")):
        given = table[path_column].astype(str)
        names = given.map(lambda text: Path(text).parent.name)
        index[column] = names.where(names.map(layout.stacked_file) == given, given)  # a fault of the name
    return index.assign(split=split)
