import errno
import hashlib
import multiprocessing
import os
import time
from pathlib import Path

import pytest

from mosaic.utils import files
from mosaic.utils.errors import PackError, RunError, SettingsError


def test_atomic_path_gives_the_whole_file_or_none(tmp_path):
    path = tmp_path / "deep" / "table.parquet"
    with files.atomic_path(path) as partial:
        partial.write_bytes(b"whole")
        assert not path.exists()
        assert partial.suffix == ".parquet"
        with files.atomic_path(path) as another:  # of a process of the same number, in another container
            another.write_bytes(b"theirs")
        assert path.read_bytes() == b"theirs" and partial.read_bytes() == b"whole"
    assert path.read_bytes() == b"whole"


@pytest.mark.parametrize(
    ("error", "shown", "message"),
    [
        (KeyError("interrupted"), KeyError, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device"), RunError, "no space left while writing"),
    ],
)
def test_atomic_path_keeps_what_was_there_when_writing_fails(tmp_path, error, shown, message):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(shown, match=message), files.atomic_path(path) as partial:
        partial.write_text("half")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (b'{"a": ', r"is not valid JSON \(Expecting value"),
        (b"[" * 10**5, "is not valid JSON .*recursion"),
        (b'{"a": "\xe4"}', "is not UTF-8 text"),
        (b"[1]", "holds a list, expected names with values"),
        (b'{"b": 1}', "lacks 'a'"),
        (b'{"a": "1"}', r"has unexpected content \('a' is of type str"),
        (b'{"a": 1}', r"lacks 'b'"),
        (b'{"a": 1, "b": null}', "has unexpected content"),
        (lambda path: None, "is missing"),
        (Path.mkdir, "is not a regular file"),
        (os.mkfifo, "is not a regular file"),
        (lambda path: path.symlink_to(path), "cannot be read .*symbolic links"),
    ],
)
def test_a_json_file_that_cannot_be_used_is_named_with_key_and_remedy(tmp_path, make, problem):
    path = tmp_path / "a.json"
    path.write_bytes(make) if isinstance(make, bytes) else make(path)
    with pytest.raises(PackError, match=rf"^\S*a\.json {problem}.*: pack again$"):
        files.read_json(
            path, {"a": int}, build=lambda c: c["b"].upper(), error=PackError, remedy="pack again"
        )


def test_a_change_of_sealed_content_is_noticed(tmp_path):
    path, content = tmp_path / "card.json", {"mean": 0.1 + 0.2, "clässes": ("water", None)}
    files.write_json(path, files.sealed(content))
    assert files.read_json(path, build=files.unsealed) == {"mean": 0.1 + 0.2, "clässes": ["water", None]}
    path.write_text(path.read_text().replace("0.3", "0.4"))
    with pytest.raises(RunError, match=r"card.json has unexpected content \(changed since it was written"):
        files.read_json(path, build=files.unsealed)
    files.write_json(path, content)
    with pytest.raises(RunError, match="lacks 'seal'"):
        files.read_json(path, build=files.unsealed)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("steps: 5\nseeds: 1\nsteps: 6\n", "key 'steps' occurs twice.* line 3"),
        ("a: {b: 1, b: 2}", "key 'b' occurs twice"),
        ("5: steps", "key 5 is not a name: quote it"),
        ("yes: steps", "key True is not a name"),
        ("[a]: steps", r"key \['a'\] is not a name"),
        ("a: !!python/object/apply:os.system ['touch planted']", "aliases and tags are not allowed"),
        ("a: &x [1]\nb: *x", "aliases and tags are not allowed"),
        ("- steps", "holds a list, expected names with values"),
        ("a: [", "is not valid YAML"),
        ("\x80".encode("latin-1"), "is not UTF-8"),
    ],
)
def test_a_yaml_file_that_does_not_say_one_thing_is_refused(tmp_path, monkeypatch, text, problem):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=rf"^\S*a\.yaml .*{problem}.*: correct it$") as caught:
        files.read_yaml(path)
    assert len(str(caught.value)) < 500 and os.listdir(tmp_path) == ["a.yaml"]


def test_a_yaml_file_with_a_byte_order_mark_and_an_empty_one(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_bytes("\ufeffsteps: 5\nmethods: [random, mosaic]\n".encode())
    assert files.read_yaml(path) == {"steps": 5, "methods": ["random", "mosaic"]}
    path.write_text("# nothing\n")
    assert files.read_yaml(path) == {}


def test_a_hash_is_the_start_of_sha256_of_canonical_json():
    whole = hashlib.sha256(b'{"a":1,"b":[1,2]}').hexdigest()
    assert files.hash_json({"b": [1, 2], "a": 1}) == whole[:16] != files.hash_json({"b": [2, 1], "a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.hash_json(float("nan"))


def test_no_number_that_json_lacks_is_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def hold(folder, ready):
    with files.lock(folder):
        ready.set()
        time.sleep(60)


def test_a_second_holder_is_refused_and_a_dead_one_is_not_in_the_way(tmp_path):
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, ready))
    process.start()
    assert ready.wait(20)
    with pytest.raises(RunError, match=f"in use by process {process.pid}"), files.lock(tmp_path):
        pass
    process.kill()
    process.join()
    with files.lock(tmp_path):
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
