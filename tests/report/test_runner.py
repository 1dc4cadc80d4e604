import json
import os
import re
import signal
import socket
import sys
from multiprocessing import get_context
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError

from mosaic.experiments.study import PACKAGE, root
from mosaic.report.html import render_all
from mosaic.report.runner import run
from mosaic.report.summary import summarize
from mosaic.utils.errors import RunError
from mosaic.utils.files import lock

text = Path.read_text


def start(notebooks, folder, **parameters):
    return run(notebooks, parameters, folder, profile="p", command="c")


def test_the_failure_is_named_with_its_page(small_run):
    message = str(small_run.error)
    assert re.match(r"second failed after \d+ s: ValueError in cell 3: no band B13 in /raw/BEN\n", message)
    assert str(small_run.folder / "second.html") in message
    names = sorted(str(path.relative_to(small_run.folder)) for path in small_run.folder.rglob("*.*"))
    pages = ["first.html", "first.ipynb", "index.html", "run.json", "second.html", "second.ipynb"]
    assert names == [".lock", "figures/first-1.svg", *pages]


def test_every_notebook_has_its_status(small_run):
    record = json.loads(text(small_run.folder / "run.json"))
    assert [entry["status"] for entry in record["notebooks"]] == ["finished", "failed", "not run"]
    assert (record["status"], record["profile"], record["command"]) == ("failed", "tiny", "make study")
    assert record["notebooks"][0]["parameters"] == {"rate": 0.5}
    assert record["packages"]["matplotlib"] and record["device"] == "cpu, 2 threads"
    assert "<dt>Data</dt><dd>simulated, 0123abcd</dd>" in text(small_run.folder / "index.html")
    index = text(small_run.folder / "index.html")
    assert re.findall(r'class="badge ([\w-]+)"', index) == ["failed", "finished", "failed", "not-run"]
    assert "Never reached" in index and 'href="third.html"' not in index
    assert index.count("data:image/png") == 1
    assert "Label-aware contrast <strong>helps</strong>" in index


def test_progress_goes_to_the_terminal_and_not_to_the_page(small_run):
    assert small_run.lines[0] == "[1/3 first] started"
    assert "[1/3 first] drawing: 1/1" in small_run.lines
    finished = re.compile(r"\[1/3 first\] finished in \d+ s, time left unknown")
    assert any(finished.match(line) for line in small_run.lines)
    page = text(small_run.folder / "first.html")
    assert page.count("drawing") == page.count("noise on standard error") == 1  # in the folded code
    cells = nbformat.read(small_run.folder / "first.ipynb", as_version=4).cells
    streams = [out for cell in cells for out in cell.get("outputs", []) if out.get("name") == "stderr"]
    assert [stream.text for stream in streams] == ["noise on standard error\n"]  # warnings are kept
    assert ">rate &lt;is&gt; 0.5</pre>" in page


def test_the_page_opens_with_what_was_found(small_run):
    page = text(small_run.folder / "first.html")
    head, _, body = page.partition("</header>")
    facts = "Everything at once", "<strong>helps</strong>", "finished", "cpu, 2 threads", "simulated, 0123"
    assert all(fact in head for fact in facts) and "Too early" not in head  # the last answer stands
    assert body.index("macro AP gained over random") < body.index("Does it <em>work</em>?")
    assert body.index("Does it <em>work</em>?") < body.index('id="parameters"') < body.index('id="reproduce"')
    assert "95 % interval 0.190 to 0.230 over scenes and seeds, 3 seeds" in body
    assert page.count("gained over random") == 2  # as a key result, and in the folded code
    assert page.count("<math") >= 5 and page.count("<figcaption>") == 2
    assert page.count("<h1>") == 1
    assert '<a class="enlarge" href="figures/first-1.svg"><img src="data:image/svg' in page
    assert ElementTree.parse(small_run.folder / "figures" / "first-1.svg").getroot().tag.endswith("svg")
    assert 'href="first.ipynb"' in page and "results.parquet" not in page


def test_parameters_show_default_and_value(small_run):
    page = text(small_run.folder / "first.html")
    row = re.search(r'<th scope="row"><code>rate</code>.*?</tr>', page, re.DOTALL)
    assert row is not None
    assert re.findall(r"<code>(.*?)</code>", row[0]) == ["rate", "0.001", "0.5"]
    assert "step size, unitless" in row[0] and 'aria-label="changed"' in row[0]
    assert page.count('aria-label="changed"') == 1


def test_the_failed_page_shows_its_traceback_and_stops_there(small_run):
    page = text(small_run.folder / "second.html")
    assert "ValueError</span>" in page or "ValueError: no band B13" in page
    assert "\x1b" not in page and "papermill-error-cell" not in page
    assert "After" not in page and "1 further code cell\nwas not executed" in page
    assert '<a rel="prev" href="first.html">' in page and 'rel="next"' not in page
    assert '<a rel="next" href="second.html">' in text(small_run.folder / "first.html")


def test_pages_hold_no_absolute_path_of_the_project_or_the_archive(small_run):
    for name in ("second.html", "index.html", "second.ipynb"):
        page = text(small_run.folder / name)
        assert "/raw" not in page and str(PACKAGE.parent) not in page
    assert "BEN mosaic/__init__.py" in text(small_run.folder / "second.html")
    record = json.loads(text(small_run.folder / "run.json"))
    assert record["notebooks"][1]["parameters"] == {"name": "/raw/BEN"}


def test_pages_can_be_rendered_again(small_run):
    before = text(small_run.folder / "first.html")
    (small_run.folder / "first.html").unlink()
    assert render_all(small_run.folder) == small_run.folder / "index.html"
    assert text(small_run.folder / "first.html") == before


def test_a_finished_run_and_its_repetition(write_notebooks, tmp_path, capsys):
    look = "import json, os, sys, mosaic\nseen = [sys.prefix, os.getcwd(), mosaic.__file__]\n"
    look += "seen += [os.environ['MOSAIC_' + name] for name in ('RUN', 'PACKAGE', 'ROOT')]\n"
    look += "open(seen[3] + '/seen', 'w').write(json.dumps(seen))"
    notebooks = write_notebooks(a=("A", look))
    (tmp_path / "a.html").write_text("an old page")
    (tmp_path / ".a.partial.ipynb").write_text("left behind by a killed run")
    index = start(notebooks, tmp_path, a={"rate": 1})
    assert capsys.readouterr().out.splitlines()[-1] == str(index) == str(tmp_path / "index.html")
    here = [sys.prefix, notebooks[0].parent, PACKAGE / "__init__.py", tmp_path, PACKAGE, root()]
    assert json.loads(text(tmp_path / "seen")) == list(map(str, here))
    assert "MOSAIC_RUN" not in os.environ
    assert summarize(tmp_path / "a.ipynb").status == "finished"
    assert not (tmp_path / ".a.partial.ipynb").exists()

    start(notebooks, tmp_path)
    assert re.match(r"\[1/1 a\] started, took \d+ s last time\n", capsys.readouterr().out)
    assert "0.001" in text(tmp_path / "a.html")


def test_a_folder_in_use_is_refused_and_a_dead_kernel_is_told(write_notebooks, tmp_path):
    notebooks = write_notebooks(a=("A", "import os", "os._exit(1)"))
    with lock(tmp_path), pytest.raises(RunError, match=f"in use by process {os.getpid()}"):
        start(notebooks, tmp_path)
    with pytest.raises(RunError, match=r"kernel died.*memory"):
        start(notebooks, tmp_path)
    assert "its kernel died" in text(tmp_path / "a.html")
    assert summarize(tmp_path / "a.ipynb").status == "failed"


def statuses(folder):
    record = json.loads(text(folder / "run.json"))
    return [record["status"], *(entry["status"] for entry in record["notebooks"])]


def failing(error):
    """Return what stands in for papermill: it saves the notebook and raises."""

    def execute(source, partial, *_, on_cell_error, **__):
        nbformat.write(nbformat.read(source, as_version=4), partial)
        on_cell_error(cell=None, cell_index=4, execute_reply={"content": {"ename": "OSError", "evalue": ""}})
        raise error

    return execute


def test_an_interruption_leaves_what_was_done(write_notebooks, tmp_path, monkeypatch):
    monkeypatch.setattr("papermill.execute_notebook", failing(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        start(write_notebooks(a=("A", "1")), tmp_path)
    assert statuses(tmp_path) == ["interrupted", "interrupted"]
    assert summarize(tmp_path / "a.ipynb").status == "interrupted"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (("CellExecutionError", ""), "OSError in cell 5: its kernel sent no error, as when too many files"),
        (("OSError", "[Errno 24] Too many open files: 'x'"), r"open files: 'x': allow more.*ulimit -n"),
    ],
)
def test_too_few_open_files_are_told(write_notebooks, tmp_path, monkeypatch, error, told):
    error = PapermillExecutionError(4, 5, "x", *error, [])
    monkeypatch.setattr("papermill.execute_notebook", failing(error))
    with pytest.raises(RunError, match=told):
        start(write_notebooks(a=("A", "1")), tmp_path)


PROCESSES = get_context("forkserver")  # which imports once, in seconds
PROCESSES.set_forkserver_preload(["mosaic.report.runner"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_a_run_is_recorded(write_notebooks, wait_until, tmp_path, number):
    (notebook,) = write_notebooks(
        a=("A", "import os, time\nopen('pid', 'w').write(str(os.getpid()))", "time.sleep(99)")
    )
    options = {"profile": "p", "command": "c"}
    process = PROCESSES.Process(target=run, args=([notebook], {}, tmp_path), kwargs=options, daemon=True)
    process.start()
    kernel = notebook.parent / "pid"
    wait_until(lambda: kernel.exists() and text(kernel))
    assert f"process {process.pid} on {socket.gethostname()}" in text(tmp_path / "index.html")
    os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    assert statuses(tmp_path) == ["interrupted", "interrupted"]
    assert "running" not in re.findall(r'class="badge (\w+)"', text(tmp_path / "index.html"))
    wait_until(lambda: not Path("/proc", text(kernel)).exists(), 5)  # a killed one waits for its parent
