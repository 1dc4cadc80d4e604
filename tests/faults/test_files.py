"""Every kind of file that is read x every damage: a sentence that names it, or the same result made anew.

A new kind of file is a row of ``KINDS``, a new damage one of ``DAMAGES``.
"""

import contextlib
import ctypes
import os
import pickle
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mosaic.analysis.training_tables import training_costs, training_logs
from mosaic.datasets.registry import open_archive
from mosaic.experiments.grid import pretrain_all
from mosaic.experiments.predict import predict_all
from mosaic.experiments.predictions import load
from mosaic.experiments.study import Study
from mosaic.models.checkpoint import load_encoder
from mosaic.report.html import render_all
from mosaic.report.runner import run
from mosaic.report.sequence import load_profile
from mosaic.settings import NOTEBOOKS, TrialSettings
from mosaic.store.reader import PackedStore
from mosaic.store.writer import pack
from mosaic.training.pretrain import pretrain
from mosaic.training.trainer import Logbook
from mosaic.utils.errors import MosaicError

SETTINGS = {"out": "tiny", "jobs": 1, "methods": ["mosaic"], "label_fractions": [100.0], "image_size": 16}
SETTINGS |= {"steps": 2, "batch_scenes": 8, "monitor_every": 0, "evaluations": ["knn", "finetune"]}
SETTINGS |= {"finetune_steps": 1, "finetune_batch": 8}


class Hostile:
    """Leaves the file ``executed`` when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (os.environ["MOSAIC_ROOT"] + "/executed", "w")


def hostile(path: Path) -> None:
    """Put code where data are expected, in the form that a careless reader of this kind would run."""
    if path.suffix == ".yaml":
        path.write_text(f"steps: !!python/object/apply:os.mkdir [{os.environ['MOSAIC_ROOT']}/executed]\n")
    elif path.suffix == ".npz":
        np.savez(path, scores=np.array([Hostile()], dtype=object))
    elif path.suffix == ".ckpt":
        torch.save({"inputs": Hostile(), "global_step": 1}, path)
    else:
        path.write_bytes(pickle.dumps(Hostile()))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def instead(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    def damage(path: Path) -> None:
        path.unlink()
        make(path)

    return damage


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": cut,
    "not UTF-8": lambda path: path.write_bytes(b"\xff\xfe\x00\xd8" * 20),
    "hostile": hostile,
    "a list": lambda path: path.write_text("[1, 2]"),
    "without keys": lambda path: path.write_text("{}"),
    "a number": lambda path: path.write_text("7"),
    "one bit flipped": flip,
    "a folder": instead(Path.mkdir),
    "a link to itself": instead(lambda path: path.symlink_to(path)),
    "a pipe": instead(os.mkfifo),
    "no permission": lambda path: path.chmod(0),
}
#: Those of text that is parsed, and that which only a digest or a sum of check shows.
PARSED, DIGEST = {"a list", "without keys", "a number"}, {"one bit flipped"}
OTHERS = set(DAMAGES) - PARSED - DIGEST


class Kind(NamedTuple):
    file: str  # pattern below the root
    open: Callable[[SimpleNamespace], Any]  # what reads it; returns what should be the same
    told: str  # what an error must say besides the file's name; empty where the file is made again
    damages: set[str] = OTHERS


def study_of(notebook: str) -> Study:
    return Study.open(notebook, {name: SETTINGS[name] for name in NOTEBOOKS[notebook] if name in SETTINGS})


def read_again(name: str) -> Callable[[SimpleNamespace], Any]:
    return lambda tiny: study_of("03_finetune_low_label").read(name)


def cached(_: SimpleNamespace) -> pd.DataFrame:
    return study_of("03_finetune_low_label").cached("table", {}, lambda: pd.DataFrame({"v": [1.0, 2.0]}))


def predicted(tiny: SimpleNamespace) -> np.ndarray:
    study = study_of("03_finetune_low_label")
    return load(predict_all(study, study.store(), tiny.encoders).iloc[0])


def predicted_from_kept(tiny: SimpleNamespace) -> np.ndarray:
    next(tiny.root.glob("data/cache/predictions/*.npz")).unlink()
    return predicted(tiny)


def begun(tiny: SimpleNamespace) -> str:
    trial = TrialSettings(method="mosaic", encoder="light", **{n: SETTINGS[n] for n in ("image_size", "steps")})
    trial, store = trial.replace(batch_scenes=8, monitor_every=0), PackedStore(tiny.root / "packed")
    folder = pretrain(store, trial, store.split_rows("train"), tiny.root / "begun", checkpoint_seconds=0)
    return load_encoder(folder).card["weights"]["sha256"]


def trained_again(tiny: SimpleNamespace) -> str:
    study = study_of("02_pretrain")
    return load_encoder(Path(pretrain_all(study, study.store())["folder"][0])).card["weights"]["sha256"]


def packed_again(tiny: SimpleNamespace) -> str:
    return pack(tiny.archive, tiny.root / "unfinished", workers=1).fingerprint


ENCODER, RECORDS = "data/cache/pretrain/*/*", "pack.* again"
KINDS = {
    "archive, metadata": Kind("archive/metadata.parquet", lambda tiny: len(open_archive("bigearthnet", tiny.root / "archive", "10m")), "official|again"),
    "archive, band": Kind("archive/BigEarthNet-S2/*/*/*_B02.tif", lambda tiny: len(pack(open_archive("bigearthnet", tiny.root / "archive", "10m"), tiny.root / "new", workers=1)), "skip"),
    "profile": Kind("mine.yaml", lambda tiny: load_profile(str(tiny.root / "mine.yaml")), "name: value|YAML", OTHERS | {"a list", "a number"}),
    "packed, manifest": Kind("packed/manifest.json", lambda tiny: PackedStore(tiny.root / "packed").fingerprint, RECORDS, OTHERS | PARSED | DIGEST),
    "packed, index": Kind("packed/index.parquet", lambda tiny: PackedStore(tiny.root / "packed").fingerprint, RECORDS, OTHERS | DIGEST),
    "packed, shard": Kind("packed/shard-00000.bin", lambda tiny: PackedStore(tiny.root / "packed").read([0])["s1"], RECORDS, OTHERS | DIGEST),
    "packed, note of a shard": Kind("unfinished/shard-00000.json", packed_again, "", OTHERS | PARSED),
    "packed, shard of an unfinished packing": Kind("unfinished/shard-00000.bin", packed_again, "", OTHERS | DIGEST),
    "encoder, card": Kind(f"{ENCODER}/card.json", lambda tiny: load_encoder(tiny.encoder).card["data"], "again", OTHERS | PARSED | DIGEST),
    "encoder, card of a finished trial": Kind(f"{ENCODER}/card.json", trained_again, "", OTHERS | PARSED | DIGEST),
    "encoder, card in a table of costs": Kind(f"{ENCODER}/card.json", lambda tiny: training_costs(tiny.encoders), "again", OTHERS | PARSED),
    "encoder, weights": Kind(f"{ENCODER}/encoder.safetensors", lambda tiny: load_encoder(tiny.encoder).card["data"], "again", OTHERS | DIGEST),
    "encoder, log": Kind(f"{ENCODER}/log.csv", lambda tiny: training_logs(tiny.encoders), "again", OTHERS | {"a number"}),
    "encoder, checkpoint to resume from": Kind("begun/last.ckpt", begun, "", OTHERS | DIGEST),
    "predictions": Kind("data/cache/predictions/*.npz", predicted, "", OTHERS | DIGEST),
    "predictions, fine-tuned": Kind("data/cache/predictions/*/finetune-*/*.npz", predicted_from_kept, "", OTHERS | DIGEST),
    "cached table": Kind("data/cache/table/*.parquet", cached, ""),
    "hand-over": Kind("reports/tiny/02_pretrain.json", lambda tiny: study_of("03_finetune_low_label").earlier("02_pretrain").settings, "02_pretrain|again", OTHERS | PARSED),
    "table of a run, JSON": Kind("reports/tiny/archive.json", lambda tiny: study_of("03_finetune_low_label").store().fingerprint, "01_explore_data|again", OTHERS | PARSED),
    "table of a run, parquet": Kind("reports/tiny/encoders.parquet", read_again("encoders"), "02_pretrain|again"),
    "run.json, rendering": Kind("report/run.json", lambda tiny: render_all(tiny.root / "report").exists(), "again", OTHERS | PARSED),
    "run.json, next run": Kind("report/run.json", lambda tiny: run_notebook(tiny).exists(), "", OTHERS | PARSED),
    "notebook": Kind("tiny.ipynb", lambda tiny: run_notebook(tiny).exists(), "notebook", OTHERS | PARSED),
    "executed notebook": Kind("report/tiny.ipynb", lambda tiny: render_all(tiny.root / "report").exists(), "notebook|again", OTHERS | PARSED),
}
CASES = [(kind, damage) for kind in KINDS for damage in DAMAGES if damage in KINDS[kind].damages]


def run_notebook(tiny: SimpleNamespace) -> Path:
    """Run the notebook into its folder, without a kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("papermill.execute_notebook", lambda source, to, *_, **__: shutil.copy(source, to))
        options = {"profile": "p", "command": "c", "log": lambda line: None}
        return run([tiny.root / "tiny.ipynb"], {}, tiny.root / "report", **options)


@pytest.fixture(scope="session")
def sound(official_archive, fake_archive, packed, tmp_path_factory) -> SimpleNamespace:
    """Files of every kind that the study reads, below one root."""
    root = tmp_path_factory.mktemp("faults") / "root"
    official_archive(root / "archive", bands=("B02", "B03", "B04", "B08"), with_maps=False)
    shutil.copytree(packed, root / "packed")
    tiny = SimpleNamespace(root=root, archive=fake_archive(root / "source"))
    (root / "mine.yaml").write_text("steps: 7\nmethods: [mosaic, iai]\n")
    cells = [new_markdown_cell("# Tiny"), new_code_cell("1", execution_count=1)]
    nbformat.write(new_notebook(cells=cells), root / "tiny.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSAIC_ROOT", str(root))
        patch.setenv("MOSAIC_LAUNCH", "{}")
        study_of("01_explore_data").write(archive={"packed": str(root / "packed"), "origin": "simulated"})
        study = study_of("02_pretrain")
        tiny.encoders = pretrain_all(study, study.store())
        tiny.encoder = Path(tiny.encoders["folder"][0])
        study.write(encoders=tiny.encoders)
        predicted(tiny)
        cached(tiny)
        packed_again(tiny)
        (root / "unfinished" / "manifest.json").unlink()
        run_notebook(tiny)
        patch.setattr(Logbook, "write", lambda *_: 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            begun(tiny)
    shutil.copytree(root, root.with_name("sound"))
    return tiny


@pytest.fixture
def tiny(sound, monkeypatch) -> SimpleNamespace:
    """The run, sound at the start of each test and always under the same path."""
    shutil.rmtree(sound.root)
    shutil.copytree(sound.root.with_name("sound"), sound.root)
    monkeypatch.setenv("MOSAIC_ROOT", str(sound.root))
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    monkeypatch.setattr("mosaic.experiments.parallel.RETRIES", 0)
    return sound


@contextlib.contextmanager
def watched(path: Path) -> Iterator[None]:
    """Fail where a call waits for a writer of a pipe, which would be for ever."""
    waited = threading.Event()

    def release() -> None:
        waited.set()
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    timer = threading.Timer(5, release)
    if path.is_fifo():
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        assert not waited.is_set(), f"waits for ever for {path}"


@contextlib.contextmanager
def as_a_user() -> Iterator[None]:
    """Take root's right to read and write what it has no permission for, see capabilities(7)."""
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    effective, sets[0] = sets[0], sets[0] & ~0b110
    libc.capset(header, sets)
    try:
        yield
    finally:
        sets[0] = effective
        libc.capset(header, sets)


def same(value: Any, other: Any) -> bool:
    if isinstance(value, pd.DataFrame):
        return value.equals(other)
    return bool(np.array_equal(value, other)) if isinstance(value, np.ndarray) else value == other


@pytest.mark.parametrize(("kind", "damage"), CASES, ids=lambda name: name)
def test_a_damaged_file_is_named_or_made_again(tiny, capfd, kind, damage):
    pattern, opened, told, _ = KINDS[kind]
    path = sorted(tiny.root.glob(pattern))[0]
    expected = opened(tiny)
    shutil.rmtree(tiny.root)
    shutil.copytree(tiny.root.with_name("sound"), tiny.root)
    DAMAGES[damage](path)
    capfd.readouterr()
    with as_a_user() if damage == "no permission" else watched(path):
        try:
            value, error = opened(tiny), ""
        except MosaicError as raised:
            value, error = None, str(raised)
    assert not (tiny.root / "executed").exists()
    said = error or capfd.readouterr().err
    assert path.name in said or path.parent.name in said, said
    if told:
        assert re.search(told, error), f"no error that says {told!r}: {error!r}"
    else:
        assert not error
        assert same(value, expected)
