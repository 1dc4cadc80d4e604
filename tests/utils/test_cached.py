import os

import numpy as np
import pytest

from mosaic.utils.cached import read_if_sound, read_npz
from mosaic.utils.errors import RunError


def test_a_damaged_file_is_set_aside_and_said(tmp_path, capsys):
    """tests/faults has every kind of file and of damage."""
    path = tmp_path / "scores.npz"
    np.savez(path, score=np.arange(2000.0))
    assert read_if_sound(path, read_npz)["score"].tolist() == [*range(2000)]
    assert not capsys.readouterr().err
    path.write_bytes(path.read_bytes()[:-9])
    assert read_if_sound(path, read_npz) is None
    assert os.listdir(tmp_path) == ["scores.npz.damaged"]
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
