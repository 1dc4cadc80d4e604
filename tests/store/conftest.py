import pytest

from mosaic.store.writer import pack


@pytest.fixture
def archive(fake_archive, tmp_path):
    """Twenty patches; ``faults``: number -> what reading does to that sample; ``reads``: what was read."""
    made = fake_archive(tmp_path / "source", patches=20)
    made.sample, made.faults, made.reads, made.version = made.read, {}, [], "v1"

    def read(i):
        made.reads.append(i)
        sample = made.sample(i)
        made.faults.get(i, lambda sample: None)(sample)
        return sample

    made.read, made.fingerprint = read, lambda: made.version
    return made


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "packed"


@pytest.fixture
def store(archive, folder):
    """Twenty patches in shards of 8, 8 and 4."""
    return pack(archive, folder, shard_size=8, workers=1)
