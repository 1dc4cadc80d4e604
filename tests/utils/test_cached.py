import os

import numpy as np
import pandas as pd
import pytest
import torch

from mosaic.utils.cached import read_if_sound, read_npz, read_parquet, write_parquet
from mosaic.utils.errors import RunError

SCORES = np.random.default_rng(0).random(2000)
TABLE = pd.DataFrame({"score": SCORES})


def flipped(content, place=0.3):
    i = int(len(content) * place)
    return content[:i] + bytes([content[i] ^ 8]) + content[i + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda c: b"", lambda c: c[: len(c) // 2], flipped, lambda c: b"not what it says", None],
    ids=["empty", "cut", "flipped", "another kind", "FIFO"],
)
@pytest.mark.parametrize("kind", ["parquet", "npz", "pt"])
def test_a_damaged_file_is_set_aside_and_said(tmp_path, capsys, kind, damage):
    path = tmp_path / f"scores.{kind}"
    write, read = {
        "parquet": (lambda: write_parquet(path, TABLE), lambda path: read_parquet(path)["score"]),
        "npz": (lambda: np.savez(path, score=SCORES), lambda path: read_npz(path)["score"]),
        "pt": (lambda: torch.save(torch.tensor(SCORES), path), torch.load),
    }[kind]
    assert read_if_sound(path, read) is None
    write()
    assert list(read_if_sound(path, read)) == SCORES.tolist() and not capsys.readouterr().err
    if damage is None:
        path.unlink()
        os.mkfifo(path)
    else:
        path.write_bytes(damage(path.read_bytes()))
        if kind == "pt" and damage is flipped:
            return  # torch checks nothing: checkpoints carry a digest
    assert read_if_sound(path, read) is None and os.listdir(tmp_path) == [f"{path.name}.damaged"]
    line = capsys.readouterr().err
    assert line.count("\n") == 1 and line.startswith(f"mosaic: {path} is damaged (")


def test_what_the_machine_refuses_is_no_damage(tmp_path):
    path = tmp_path / "a.npz"
    path.write_bytes(b"x")

    def read(path):
        raise OSError(24, "Too many open files")

    with pytest.raises(RunError, match=r"a\.npz cannot be read \(Too many open files"):
        read_if_sound(path, read)
    assert path.exists() and read_if_sound(tmp_path / "absent", read) is None
