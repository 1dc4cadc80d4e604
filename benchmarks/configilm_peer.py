"""ConfigILM's reader of BigEarthNet v2, the official fast path: an LMDB of safetensors.

It needs NumPy below 2 and Python below 3.12, so it has a virtual environment of its own and answers over
pipes: ``python configilm_peer.py write|serve ...`` runs there, :class:`ConfigILM` starts it from here.
"""

import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

# pyarrow: the last ones built for NumPy below 2
REQUIREMENTS = (
    "configilm==0.7.1",
    "torch==2.13.0",
    "numpy<2",
    "lmdb<2",
    "pyarrow<17",
    "pandas",
    "safetensors",
)


class PeerError(Exception):
    """ConfigILM cannot be measured here."""


class ConfigILM:
    """ConfigILM's data set over an archive, in batches and in a process of its own.

    The environment and the LMDB are made once and kept in ``folder``; PeerError when that fails.
    """

    def __init__(self, archive: Any, folder: Path, batch: int) -> None:
        python = environment(folder / "configilm-venv")
        lmdb = folder / f"configilm-{len(archive)}.lmdb"
        if not lmdb.exists():
            _write(python, archive, lmdb)
        command = [python, __file__, "serve", lmdb, archive.root / "metadata.parquet", batch]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen(list(map(str, command)), **pipes)
        self.versions = self._ask("versions")

    def read(self, workers: int, patches: int) -> int:
        """Have at least this many random patches delivered in batches; return how many were."""
        return int(self._ask(f"read {workers} {patches}"))

    def _ask(self, question: str) -> Any:
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            for line in self._process.stdout:
                if line.startswith("answer "):  # it also prints messages of its own
                    return json.loads(line.removeprefix("answer "))
        except OSError as error:
            raise PeerError(f"ConfigILM's process ended: {error}") from error
        raise PeerError(f"ConfigILM's process ended with {self._process.wait()}")

    def close(self) -> None:
        self._process.terminate()
        self._process.wait()


def environment(folder: Path) -> Path:
    """Return the Python of ConfigILM's environment, made at the first call."""
    python, note = folder / "bin" / "python", folder / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS)
    if note.exists() and note.read_text() == wanted:
        return python
    base = sys.executable if sys.version_info < (3, 12) else shutil.which("python3.11")
    if base is None:
        raise PeerError("ConfigILM needs Python below 3.12, and there is no python3.11")
    print("making ConfigILM's environment (once, some minutes)", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    for command in ([base, "-m", "venv", folder], [python, "-m", "pip", "install", "-q", *REQUIREMENTS]):
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
        if done.returncode:
            raise PeerError(f"ConfigILM's environment cannot be made: {done.stderr.strip()[-200:]}")
    note.write_text(wanted)
    return python


def _write(python: Path, archive: Any, lmdb: Path) -> None:
    """Write an archive as ConfigILM expects it: S2 and S1 name -> safetensors of the native bands."""
    import numpy as np
    from safetensors.numpy import save

    partial = lmdb.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    command = [str(python), __file__, "write", str(partial)]
    s1, s2 = archive.sensors
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        assert process.stdin
        for i in range(len(archive)):
            arrays, patch = archive.read(i), archive.index.iloc[i]
            for name, sensor in ((patch["patch_id"], s2), (patch["s1_name"], s1)):
                blob = save({band: np.ascontiguousarray(arrays[band]) for band in sensor.bands})
                key = name.encode()
                process.stdin.write(struct.pack("<II", len(key), len(blob)) + key + blob)
    if process.returncode:
        raise PeerError(f"ConfigILM's LMDB cannot be written: its process ended with {process.returncode}")
    partial.rename(lmdb)


# --- what runs in the other environment ---


def write_lmdb(folder: str) -> None:
    import lmdb

    database = lmdb.open(folder, map_size=1 << 40)
    with database.begin(write=True) as transaction:
        while header := sys.stdin.buffer.read(8):
            key, blob = struct.unpack("<II", header)
            transaction.put(sys.stdin.buffer.read(key), sys.stdin.buffer.read(blob))
    database.close()


def serve(lmdb: str, metadata: str, batch: str) -> None:
    from importlib.metadata import version

    import torch
    from configilm.extra.DataSets.BENv2_DataSet import BENv2DataSet
    from torch.utils.data import DataLoader, RandomSampler

    torch.set_num_threads(1)
    files = {"images_lmdb": lmdb, "metadata_parquet": metadata, "metadata_snow_cloud_parquet": None}
    loaders: dict[str, DataLoader] = {}
    for question in map(str.strip, sys.stdin):
        if question == "versions":
            answer: Any = {name: version(name) for name in ("configilm", "torch", "numpy", "lmdb")}
        else:
            if question not in loaders:
                workers, number = map(int, question.split()[1:])
                patches = BENv2DataSet(files, img_size=(14, 120, 120))
                sampler = RandomSampler(patches, num_samples=number)
                # a worker that inherits an open LMDB crashes
                start = "spawn" if workers else None
                options = {"num_workers": workers, "persistent_workers": workers > 0}
                options |= {"multiprocessing_context": start}
                loaders[question] = DataLoader(patches, int(batch), sampler=sampler, **options)
            answer = sum(len(images) for images, _ in loaders[question])
        print("answer", json.dumps(answer), flush=True)


if __name__ == "__main__":
    {"write": write_lmdb, "serve": serve}[sys.argv[1]](*sys.argv[2:])
