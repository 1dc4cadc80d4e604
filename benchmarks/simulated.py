"""The archives that benchmarks read: simulated in the official layouts, written once, packed once."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch.utils.data import ConcatDataset, Dataset
from torchgeo.datasets import BigEarthNetV2

from mosaic.datasets.registry import get_dataset, open_archive

DATA = Path(__file__).parents[1] / "data" / "cache" / "benchmarks"
#: Pairs and triplets of the official archives, of which hours are projected.
OFFICIAL = {"bigearthnet": 480_038, "sen12ms": 180_662}


def simulated(patches: int, dataset: str = "bigearthnet") -> Path:
    """Return the folder of a simulated archive, written when it is first asked for."""
    return get_dataset(dataset).simulate(DATA / f"{dataset}-{patches}", patches, 0)


def opened(patches: int, dataset: str = "bigearthnet") -> Any:
    return open_archive(dataset, simulated(patches, dataset))


def torchgeo(root: Path) -> Dataset:
    """Return TorchGeo's own dataset, with the pairs of all splits."""
    return ConcatDataset(
        [BigEarthNetV2(root, split=split, bands="all") for split in ("train", "val", "test")]
    )


def bytes_of(paths: Iterable[Path]) -> tuple[int, int]:
    """Return the bytes that files hold, and those that they take on this disk."""
    stats = [path.stat() for path in paths]
    return sum(stat.st_size for stat in stats), sum(512 * stat.st_blocks for stat in stats)
