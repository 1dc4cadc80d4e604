"""Fetching from a local server that breaks off, and can or cannot resume."""

import hashlib
import http.server
import io
import sys
import tarfile
import threading
import zipfile

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

    def do_HEAD(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.files[self.path[1:]])))
        self.end_headers()

    def do_GET(self):
        content, asked = self.files[self.path[1:]], self.headers.get("Range")
        if asked and self.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                self.send_error(416)
                return
            content = content[start:]
            self.send_response(206)
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        body, type(self).limit = content[: self.limit], None
        type(self).sent += len(body)
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def tar_gz(folder, names):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for name in names:
            entry = tarfile.TarInfo(f"{folder}/{name}")
            entry.size = len(name)
            archive.addfile(entry, io.BytesIO(name.encode()))
    return buffer.getvalue()


@pytest.fixture
def server(monkeypatch):
    whole = tar_gz("Pictures", [f"{i}.tif" for i in range(200)])
    half = len(whole) // 2
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("bench/labels.csv", "a,b")

    class Handler(Server):
        files = {"a": whole[:half], "b": whole[half:], "table": b"rows", "zip": zipped.getvalue()}  # noqa: RUF012
        sent, ranges, limit = 0, True, None

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{httpd.server_port}/"
    a, b, table, zip_ = (Part(n, base + n, hashlib.md5(Handler.files[n]).hexdigest()) for n in Handler.files)
    sources = {
        "split": Source("Split", {"Pictures": (a, b), "table": (table,)}, 0, ""),
        "zip": Source("Zip", {"bench": (zip_,)}, 0, ""),
        "damaged": Source("Damaged", {"table": (table._replace(md5="0" * 32),)}, 0, ""),
        "huge": Source("Huge", {"table": (table,)}, 10**18, ""),
        "gone": Source("Gone", {"table": (table._replace(url="http://127.0.0.1:1/table"),)}, 0, ""),
    }
    monkeypatch.setattr(module, "get_source", sources.__getitem__)
    yield Handler
    httpd.shutdown()


def content(root):
    return {str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


def bytes_of(server, *names):
    return sum(len(server.files[name]) for name in names)


def test_parts_are_joined_unpacked_and_removed(server, tmp_path):
    assert fetch("split", tmp_path, yes=True) == tmp_path
    assert content(tmp_path) == {"table", *(f"Pictures/{i}.tif" for i in range(200))}
    assert (tmp_path / "Pictures" / "7.tif").read_text() == "7.tif"
    fetch("split", tmp_path)  # nothing is missing, so nobody is asked
    assert server.sent == bytes_of(server, "a", "b", "table")


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
        ("gone", ArchiveError, "by hand as table", set()),
        ("huge", RunError, "free", set()),
    ],
)
def test_what_is_wrong_is_named(server, tmp_path, name, error, message, left):
    with pytest.raises(error, match=message):
        fetch(name, tmp_path, yes=True)
    assert content(tmp_path) == left


def test_somebody_has_to_agree(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    with pytest.raises(ArchiveError, match="--yes"):
        fetch("split", tmp_path)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda question: "n")
    with pytest.raises(ArchiveError, match="not downloaded"):
        fetch("split", tmp_path)
    assert server.sent == 0
    assert "GB to download" in capsys.readouterr().err
    monkeypatch.setattr("builtins.input", lambda question: "y")
    fetch("split", tmp_path)
    assert (tmp_path / "table").exists()


def test_a_bad_archive_leaves_no_folder(server, tmp_path):
    (tmp_path / "zip").write_bytes(b"PK nonsense")
    with pytest.raises(ArchiveError, match="could not be unpacked"):
        module._unpack([tmp_path / "zip"], tmp_path, "bench")
    assert content(tmp_path) == {"zip"}


def test_torchgeos_facts_are_used():
    """The real sources name every part with an address and an MD5 sum."""
    for name in ("bigearthnet", "copernicus-bench"):
        for parts in module.get_source(name).bundles.values():
            for part in parts:
                assert part.url.startswith("https://")
                assert len(part.md5) == 32
    assert {"BigEarthNet-S1", "BigEarthNet-S2", "Reference_Maps", "metadata.parquet"} == set(
        module.get_source("bigearthnet").bundles
    )
    with pytest.raises(ArchiveError, match="did you mean 'bigearthnet'"):
        module.get_source("bigearthnt")
