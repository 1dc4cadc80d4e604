import importlib.metadata
import platform
import shutil
import subprocess

import pytest

from mosaic.report import provenance


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_and_changes_are_named(tmp_path, monkeypatch):
    tracked = tmp_path / "provenance.py"
    tracked.write_text("1\n")
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -q -m m"):
        subprocess.run(["git", "-C", tmp_path, *command.split()], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tracked))
    head = subprocess.check_output(["git", "-C", tmp_path, "rev-parse", "HEAD"], text=True)
    assert provenance.commit() == head[:10]
    tracked.write_text("2\n")
    assert provenance.commit() == f"{head[:10]}, modified"
    # installed into somebody else's repository
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "installed.py"))
    assert provenance.commit() is None


def test_versions_are_those_installed():
    versions = provenance.packages()
    assert versions["python"] == platform.python_version()
    assert versions["papermill"] == importlib.metadata.version("papermill")
    assert "pytest" not in versions  # an extra, not needed to reproduce
