import pytest

from mosaic.utils.cached import read_if_sound
from mosaic.utils.errors import RunError


def test_what_the_machine_refuses_is_no_damage(tmp_path):
    """tests/faults has every kind of file and of damage."""
    path = tmp_path / "a.npz"
    path.write_bytes(b"x")

    def read(path):
        raise OSError(24, "Too many open files")

    with pytest.raises(RunError, match=r"a\.npz cannot be read \(Too many open files"):
        read_if_sound(path, read)
    assert path.exists() and read_if_sound(tmp_path / "absent", read) is None
