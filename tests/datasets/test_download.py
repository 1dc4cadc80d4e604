"""Fetching from a local server that breaks off, and can or cannot resume."""

import contextlib
import hashlib
import http.server
import io
import shutil
import sys
import threading
from pathlib import Path

import pytest

from mosaic.datasets import download as module
from mosaic.datasets.download import Part, Source, fetch
from mosaic.utils.errors import ArchiveError, RunError


class Server(http.server.BaseHTTPRequestHandler):
    """Serve ``files`` and count bytes sent; break off after ``limit`` bytes of the first body."""

    files: dict[str, bytes]
    sent: int
    ranges: bool
    limit: int | None

    def do_GET(self):
        asked = self.headers.get("Range") if self.ranges else None
        content = self.files[self.path[1:]][int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0 :]
        self.send_response(200 if not asked else 206 if content else 416)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            body, type(self).limit = content[: self.limit], None
            type(self).sent += len(body)
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *words):
        pass


@pytest.fixture
def server(monkeypatch, tmp_path_factory):
    folder = tmp_path_factory.mktemp("served")
    (folder / "Pictures").mkdir()
    for i in range(200):
        (folder / "Pictures" / f"{i}.tif").write_text(f"{i}.tif")
    whole = Path(shutil.make_archive(folder / "all", "gztar", folder, "Pictures")).read_bytes()
    zipped = Path(shutil.make_archive(folder / "all", "zip", folder, "Pictures")).read_bytes()
    half = len(whole) // 2

    class Handler(Server):
        files = {"a": whole[:half], "b": whole[half:], "table": b"rows", "zip": zipped}  # noqa: RUF012
        sent, ranges, limit = 0, True, None

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{httpd.server_port}/"
    a, b, table, zip_ = (Part(n, base + n, hashlib.md5(Handler.files[n]).hexdigest()) for n in Handler.files)
    sources = {
        "split": Source("Split", {"Pictures": (a, b), "table": (table,)}, {}),
        "zip": Source("Zip", {"Pictures": (zip_,), "table": (table,)}, {}),
        "damaged": Source("Damaged", {"table": (table._replace(md5="0" * 32),)}, {}),
        "no zip": Source("No zip", {"Pictures": (table,)}, {}),
        "huge": Source("Huge", {"Pictures": (zip_,), "table": (table,)}, {"Pictures": 10**18}),
        "gone": Source("Gone", {"table": (table._replace(url="http://127.0.0.1:1/table"),)}, {}),
    }
    monkeypatch.setattr(module, "get_source", sources.__getitem__)
    yield Handler
    httpd.shutdown()


def content(root):
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def bytes_of(server, *names):
    return sum(len(server.files[name]) for name in names)


@pytest.mark.parametrize(("source", "parts"), [("split", ("a", "b")), ("zip", ("zip",))])
def test_parts_are_joined_unpacked_and_removed(server, tmp_path, source, parts):
    assert fetch(source, tmp_path, yes=True) == tmp_path
    assert content(tmp_path) == {"table", *(f"Pictures/{i}.tif" for i in range(200))}
    assert (tmp_path / "Pictures" / "7.tif").read_text() == "7.tif"
    fetch(source, tmp_path)  # nothing is missing, so nobody is asked
    assert server.sent == bytes_of(server, *parts, "table")


@pytest.mark.parametrize("ranges", [True, False])
def test_a_broken_transfer_is_resumed(server, tmp_path, ranges):
    server.limit, server.ranges = 100, ranges
    fetch("split", tmp_path, yes=True)
    assert server.sent <= bytes_of(server, "a", "b", "table") + 100  # what was not yet written is sent again
    assert len(content(tmp_path)) == 201


@pytest.mark.parametrize("length", [50, None])
def test_the_partial_file_of_an_earlier_process_is_resumed(server, tmp_path, length):
    start = server.files["a"][:length]
    (tmp_path / "a.partial").write_bytes(start)
    fetch("split", tmp_path, yes=True)
    assert server.sent == bytes_of(server, "a", "b", "table") - len(start)
    assert len(content(tmp_path)) == 201


@pytest.mark.parametrize(
    ("name", "error", "message", "left"),
    [
        ("damaged", ArchiveError, "MD5", {"table.damaged"}),
        ("no zip", ArchiveError, "could not be unpacked", {"table"}),
        ("gone", ArchiveError, "by hand as table", set()),
        ("huge", RunError, r"needs 10\d{8}\.\d\d GB .*: free some space", set()),
    ],
)
def test_what_is_wrong_is_named(server, tmp_path, name, error, message, left):
    with pytest.raises(error, match=message):
        fetch(name, tmp_path, yes=True)
    assert content(tmp_path) - {"table.partial"} == left


def test_what_is_there_needs_no_space(server, tmp_path):
    (tmp_path / "Pictures").mkdir()
    fetch("huge", tmp_path, yes=True)
    assert content(tmp_path) == {"table"}


@pytest.mark.parametrize(("answer", "message"), [(None, "--yes"), ("n", "not downloaded"), ("y", None)])
def test_somebody_has_to_agree(server, tmp_path, monkeypatch, capsys, answer, message):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: answer is not None, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: answer)
    with pytest.raises(ArchiveError, match=message) if message else contextlib.nullcontext():
        fetch("split", tmp_path)
    assert (tmp_path / "table").exists() == (answer == "y")
    assert "GB to download" in capsys.readouterr().err


def test_torchgeos_facts_are_used():
    """The real sources name every part with an address and an MD5 sum."""
    sources = [module.get_source(name).bundles for name in ("bigearthnet", "copernicus-bench")]
    parts = [part for bundles in sources for parts in bundles.values() for part in parts]
    assert all(part.url.startswith("https://") and len(part.md5) == 32 for part in parts)
    assert set(sources[0]) == {"BigEarthNet-S1", "BigEarthNet-S2", "Reference_Maps", "metadata.parquet"}
    with pytest.raises(ArchiveError, match="did you mean 'bigearthnet'"):
        module.get_source("bigearthnt")
