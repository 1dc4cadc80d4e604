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
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import nbformat
import numpy as np
import pandas as pd
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from mosaic.analysis.training_tables import training_logs
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

TRIAL = {"image_size": 16, "steps": 2, "batch_scenes": 8, "monitor_every": 0}
SETTINGS = {"out": "tiny", "jobs": 1, "seeds": 1, "methods": ["mosaic"], "label_fractions": [100.0], **TRIAL}
SETTINGS |= {"evaluations": ["knn", "finetune"], "finetune_steps": 1, "finetune_batch": 8}


class Hostile:
    """Leaves the folder ``executed`` when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (os.environ["MOSAIC_ROOT"] + "/executed",)


def hostile(path: Path) -> None:
    """Put code where data are expected, in the form that a careless reader of this kind would run."""
    match path.suffix:
        case ".yaml":
            path.write_text(f"steps: !!python/object/apply:os.mkdir [{os.environ['MOSAIC_ROOT']}/executed]\n")
        case ".npz":
            np.savez(path, scores=np.array([Hostile()], dtype=object))
        case ".ckpt":
            torch.save({"inputs": Hostile(), "global_step": 1}, path)
        case _:
            path.write_bytes(pickle.dumps(Hostile()))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def instead(make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    return lambda path: (path.unlink(), make(path))


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
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
#: Those of JSON alone, and that which only a digest or a sum of check shows.
OBJECT, DIGEST = {"a list", "without keys", "a number"}, {"one bit flipped"}
ANY = set(DAMAGES) - OBJECT - DIGEST


class Kind(NamedTuple):
    file: str  # pattern below the root
    read: Callable[[SimpleNamespace], Any]  # returns what must be the same where the file is made again
    told: str  # by the error, besides the file's name; empty where it is made again, and a line says so
    damages: set[str] = ANY | DIGEST


def study(notebook: str = "03_finetune_low_label") -> Study:
    return Study.open(notebook, {name: SETTINGS[name] for name in NOTEBOOKS[notebook] if name in SETTINGS})


def packed(archive: Any, folder: Path) -> str:
    return pack(archive, folder, workers=1).fingerprint


def opened(tiny: SimpleNamespace) -> Any:
    return open_archive("bigearthnet", tiny.root / "archive", "10m")


def records(tiny: SimpleNamespace) -> Any:
    store = PackedStore(tiny.root / "packed")
    return store.fingerprint, store.read([0])["s1"].tobytes()


def cached(_: SimpleNamespace) -> pd.DataFrame:
    return study().cached("table", {}, lambda: pd.DataFrame({"value": np.arange(99.0)}))


def predicted(tiny: SimpleNamespace, anew: bool = False) -> bytes:
    for path in tiny.root.glob("data/cache/predictions/*.npz") if anew else ():
        path.unlink()  # fine-tuning keeps its own
    return load(predict_all(study(), study().store(), tiny.encoders).iloc[0]).tobytes()


def weights(folder: Path) -> str:
    return load_encoder(folder).card["weights"]["sha256"]


def trained(_: SimpleNamespace) -> str:
    return weights(Path(pretrain_all(study("02_pretrain"), study().store())["folder"][0]))


def resumed(tiny: SimpleNamespace) -> str:
    trial, store = TrialSettings(method="mosaic", encoder="light", **TRIAL), PackedStore(tiny.root / "packed")
    return weights(pretrain(store, trial, store.split_rows("train"), tiny.root / "begun", 0))


def run_notebook(tiny: SimpleNamespace) -> bool:
    """Run a notebook without a kernel."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("papermill.execute_notebook", lambda source, to, *_, **__: shutil.copy(source, to))
        notebooks, folder = [tiny.root / "tiny.ipynb"], tiny.root / "report"
        return run(notebooks, {}, folder, profile="p", command="c").exists()


def rendered(tiny: SimpleNamespace) -> bool:
    return render_all(tiny.root / "report").exists()


ENCODER, RUN, JSON = "data/cache/pretrain/*/*", "reports/tiny", ANY | OBJECT
KINDS = {
    "archive, metadata": Kind(
        "archive/metadata.parquet", lambda t: len(opened(t)), "official|restore|again", ANY
    ),
    "archive, band": Kind(
        "archive/*S2/*/*/*_B02.tif", lambda t: packed(opened(t), t.root / "x"), "skip", ANY
    ),
    "profile": Kind(
        "mine.yaml",
        lambda t: load_profile(f"{t.root}/mine.yaml"),
        "correct|no profile",
        ANY - {"empty"} | {"a list"},
    ),
    "packed, manifest": Kind("packed/manifest.json", records, "again", JSON | DIGEST),
    "packed, index": Kind("packed/index.parquet", records, "again"),
    "packed, shard": Kind("packed/*0.bin", records, "again"),
    "packing, note": Kind(
        "begun_packing/shard-*0.json", lambda t: packed(t.archive, t.root / "begun_packing"), "", JSON
    ),
    "packing, shard": Kind("begun_packing/*0.bin", lambda t: packed(t.archive, t.root / "begun_packing"), ""),
    "encoder, card": Kind(f"{ENCODER}/card.json", lambda t: weights(t.encoder), "again|train", JSON | DIGEST),
    "encoder, card, next run": Kind(f"{ENCODER}/card.json", trained, "", JSON | DIGEST),
    "encoder, weights": Kind(f"{ENCODER}/*.safetensors", lambda t: weights(t.encoder), "again"),
    "encoder, log": Kind(
        f"{ENCODER}/log.csv", lambda t: trained(t) and training_logs(t.encoders)["total"], "", ANY
    ),
    "encoder, checkpoint": Kind("begun/last.ckpt", resumed, ""),
    "predictions": Kind("data/cache/predictions/*.npz", predicted, ""),
    "predictions, tuned": Kind("data/cache/predictions/*/*/*.npz", lambda t: predicted(t, anew=True), ""),
    "cached table": Kind("data/cache/table/*.parquet", cached, ""),
    "hand-over": Kind(
        f"{RUN}/02_pretrain.json", lambda _: study().earlier("02_pretrain"), "02_pretrain|again", JSON
    ),
    "table, JSON": Kind(f"{RUN}/archive.json", lambda _: study().store(), "01_explore_data|again", JSON),
    "table, parquet": Kind(
        f"{RUN}/encoders.parquet", lambda _: study().read("encoders"), "02_pretrain|again"
    ),
    "run.json": Kind("report/run.json", rendered, "again", JSON),
    "run.json, next run": Kind("report/run.json", run_notebook, "nothing", JSON),
    "notebook": Kind("tiny.ipynb", run_notebook, "again|notebook", JSON),
    "notebook, executed": Kind("report/tiny.ipynb", rendered, "notebook|again", JSON),
}
CASES = [(kind, damage) for kind in KINDS for damage in DAMAGES if damage in KINDS[kind].damages]


@pytest.fixture(scope="session")
def sound(official_archive, fake_archive, request, tmp_path_factory) -> SimpleNamespace:
    """Files of every kind that the study reads, below one root."""
    root = tmp_path_factory.mktemp("faults") / "root"
    tiny = SimpleNamespace(root=root, expected={}, archive=fake_archive(root / "source"))
    official_archive(root / "archive", 4, ("B02", "B03", "B04", "B08"), with_maps=False)
    for name in ("packed", "begun_packing"):
        shutil.copytree(request.getfixturevalue("packed"), root / name)
    (root / "begun_packing" / "manifest.json").unlink()
    (root / "mine.yaml").write_text("steps: 7\nmethods: [mosaic, iai]\n")
    cells = [new_markdown_cell("# Tiny"), new_code_cell("1", execution_count=1)]
    nbformat.write(new_notebook(cells=cells), root / "tiny.ipynb")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOSAIC_ROOT", str(root))
        patch.setenv("MOSAIC_LAUNCH", "{}")
        about = {"title": "Tiny", "origin": "simulated", "packed": str(root / "packed")}
        study("01_explore_data").write(archive=about)
        tiny.encoders = pretrain_all(study("02_pretrain"), study().store())
        tiny.encoder = Path(tiny.encoders["folder"][0])
        study("02_pretrain").write(encoders=tiny.encoders)
        for make in (predicted, cached, run_notebook):
            make(tiny)
        patch.setattr(Logbook, "write", lambda *_: 1 / 0)
        with contextlib.suppress(ZeroDivisionError):
            resumed(tiny)
    shutil.copytree(root, root.with_name("sound"))
    return tiny


def make_sound(tiny: SimpleNamespace) -> None:
    shutil.rmtree(tiny.root, ignore_errors=True)
    shutil.copytree(tiny.root.with_name("sound"), tiny.root)


@contextlib.contextmanager
def watched(path: Path) -> Iterator[None]:
    """Let nobody wait for ever for a writer of a pipe: that is a failure."""
    waited = threading.Event()

    def end() -> None:
        if path.is_fifo():  # which it is no more once it was set aside
            waited.set()
            os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))

    timer = threading.Timer(5, end)
    if path.is_fifo():
        timer.start()
    yield
    timer.cancel()
    assert not waited.is_set(), f"waits for ever for {path}"


def bind() -> None:
    """Bind this process, of root, to permissions: without what capabilities(7) says of DAC."""
    libc, header, sets = ctypes.CDLL(None), (ctypes.c_uint32 * 2)(0x20080522), (ctypes.c_uint32 * 6)()
    libc.capget(header, sets)
    sets[0], sets[1] = sets[0] & ~0b110, sets[1] & ~0b110
    libc.capset(header, sets)


def read_kind(name: str, tiny: SimpleNamespace) -> Any:
    return KINDS[name].read(tiny)


@pytest.mark.parametrize(("name", "damage"), CASES, ids=lambda name: name)
def test_a_damaged_file_is_named_or_made_again(sound, monkeypatch, capfd, name, damage):
    kind = KINDS[name]
    monkeypatch.setenv("MOSAIC_ROOT", str(sound.root))
    monkeypatch.setenv("MOSAIC_LAUNCH", "{}")
    make_sound(sound)
    if name not in sound.expected:
        sound.expected[name] = kind.read(sound)
        make_sound(sound)
    path = min(sound.root.glob(kind.file))
    DAMAGES[damage](path)
    capfd.readouterr()
    error, found = "", sound.expected[name]
    with watched(path), ProcessPoolExecutor(1, get_context("fork"), bind) as bound:
        try:
            in_child = damage == "no permission"
            found = bound.submit(read_kind, name, sound).result() if in_child else kind.read(sound)
        except MosaicError as raised:
            error = str(raised)
    said = capfd.readouterr().err
    assert not (sound.root / "executed").exists() and "weights_only" not in said  # torch's advice
    may_not_matter = damage in ("one bit flipped", "a link to itself")
    by_hand = damage in ("no permission", "a folder", "a pipe")  # cannot be set aside by everybody
    if error:
        told = kind.told.replace("nothing", "") or "again|permission|readable|(remove|delete) it"
        assert path.stem in error and re.search(told, error, re.IGNORECASE), error
        found = found if kind.told or by_hand else kind.read(sound)  # as the error says
    else:
        assert may_not_matter or (not kind.told and f"{path.parent}" in said) or kind.told == "nothing", said
    expected = sound.expected[name]
    assert expected.equals(found) if isinstance(expected, pd.Series | pd.DataFrame) else expected == found


def test_the_readme_states_the_number_of_cases():
    assert f": {len(CASES)}\ndamaged files" in (Path(__file__).parents[2] / "README.md").read_text("utf-8")
