import json
import os
import subprocess
import sys

import pytest

from mosaic.utils import plugins
from mosaic.utils.errors import SettingsError
from mosaic.utils.plugins import Registry, load_plugins


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """Forget afterwards what a test loads."""
    monkeypatch.setenv(plugins.VARIABLE, "")


def test_a_name_stands_for_one_thing_and_a_definition_may_run_again():
    registry = Registry("kernel")
    registry.add("jaccard", 1)
    registry.add("jaccard", 1)
    with pytest.raises(SettingsError, match="unknown kernel 'jacard'; did you mean 'jaccard'"):
        registry["jacard"]
    assert registry.get("jacard") is None and "jacard" not in registry
    with pytest.raises(SettingsError, match="kernel 'jaccard' is registered already"):
        registry.add("jaccard", 2)

    def define():
        @registry.register("mine")
        def mine(): ...

        return mine

    define()
    again = define()  # as when a notebook cell runs twice
    assert registry["mine"] is again
    with pytest.raises(SettingsError, match="'mine' is registered already"):
        registry.register("mine")(lambda: None)


def test_a_plugin_is_run_once_and_by_child_processes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("print('loaded')\n")
    command = "from mosaic.utils.plugins import load_plugins; load_plugins(['mine.py']); load_plugins()"
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1]], cwd='/', check=True)"
    inherit = "from mosaic.utils.plugins import load_plugins; load_plugins(); load_plugins()"
    done = subprocess.run(
        [sys.executable, "-c", f"{command}; {child}", inherit], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["loaded"] * 2


def test_a_plugin_that_was_edited_is_refused_by_its_process_and_those_that_it_starts(tmp_path):
    """What they compute is kept under the content that the first of them read."""
    plugin = tmp_path / "mine.py"
    plugin.write_text("x = 1\n")
    load_plugins([plugin])
    plugin.write_text("x = 2\n")
    with pytest.raises(SettingsError, match=r"mine.py was edited since it was loaded: restart"):
        load_plugins([plugin])
    command = [sys.executable, "-c", "from mosaic.utils.plugins import load_plugins; load_plugins()"]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "was edited since it was loaded" in child.stderr
    load_plugins()  # a worker that has it goes on with what it loaded
    plugin.write_text("x = 1  # a remark\n")
    load_plugins([plugin])
    subprocess.run(command, check=True)


def test_errors_name_the_file_and_the_line(tmp_path):
    broken = tmp_path / "broken.py"
    for line, message in (("y = z", "NameError: name 'z'"), ("x = = 2", "SyntaxError")):
        broken.write_text(f"x = 1\n{line}\n")
        with pytest.raises(SettingsError, match=f"plugin .*broken.py, line 2: {message}"):
            load_plugins([broken])
    with pytest.raises(SettingsError, match=r"absent.py is not there"):
        load_plugins([tmp_path / "absent.py"])
    assert not os.environ[plugins.VARIABLE]
    broken.write_text("x = 1\n")  # mended, it loads
    load_plugins([broken])
    assert list(json.loads(os.environ[plugins.VARIABLE])) == [str(broken)]
