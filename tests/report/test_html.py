import base64
import hashlib
import re

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from mosaic.report.html import duration, public, render, render_all
from mosaic.report.summary import summarize
from mosaic.utils import files
from mosaic.utils.errors import RunError, SettingsError


def executed(*outputs, source="x", count=1, **metadata):
    cell = new_code_cell(source, outputs=list(outputs), execution_count=count)
    return new_notebook(cells=[new_markdown_cell("# A title\n\nA question?"), cell], metadata=metadata)


def page_of(notebook, folder):
    nbformat.write(notebook, folder / "01_a.ipynb")
    render(folder / "01_a.ipynb")
    return (folder / "01_a.html").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(None, ""), (0.4, "0 s"), (59.6, "1 min 00 s"), (723, "12 min 03 s"), (3900, "1 h 05 min")],
)
def test_duration_in_words(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"text/html": "<table></table>", "text/plain": "x"}, r'<div class="scroll".*<table></table></div>'),
        ({"text/html": "<figure>x</figure>"}, "<figure>x</figure>"),
        ({"text/markdown": "**a**"}, "<strong>a</strong>"),
        ({"text/latex": "$\\alpha$"}, '<math.*display="block"'),
        ({"image/png": "QUJD\n"}, '<img alt=".+" src="data:image/png;base64,QUJD">'),
        ({"image/svg+xml": "<svg/>"}, 'src="data:image/svg\\+xml,%3Csvg/%3E"'),
        ({"text/plain": "a < b"}, "<pre.*a &lt; b</pre>"),
        ({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "Bar()"}, r"(?s)\A(?!.*Bar\(\))"),
    ],
)
def test_each_kind_of_output_is_shown(data, expected, tmp_path):
    assert re.search(expected, page_of(executed(new_output("display_data", data=data)), tmp_path))


def test_a_notebook_without_a_runner_renders_and_nothing_from_elsewhere_can_run(tmp_path):
    page = page_of(executed(new_output("stream", name="stdout", text="hello")), tmp_path)
    assert "<title>A title</title>" in page and "hello" in page
    assert 'class="pager"' not in page and 'id="reproduce"' not in page
    (script,) = re.findall("<script>(.*?)</script>", page, re.DOTALL)  # ours, and the only one that may run
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    assert f'http-equiv="Content-Security-Policy" content="{policy}"' in page
    assert not re.findall(r'(?:src|href)="https?:', page)


def test_text_is_escaped(tmp_path):
    notebook = executed(mosaic={"profile": "<i>", "command": "a && b <c>"}, source="'<script>'")
    page = page_of(notebook, tmp_path)
    assert "&lt;i&gt;" in page and "a &amp;&amp; b &lt;c&gt;" in page and page.count("<script") == 1


def test_a_page_above_two_megabytes_is_told(tmp_path):
    notebook = executed(new_output("display_data", data={"image/png": "A" * 2_100_000}))
    with pytest.warns(UserWarning, match=r"01_a\.html is 2\.1 MB"):
        page_of(notebook, tmp_path)


def test_status_of_notebooks_that_papermill_never_brought_to_the_end(tmp_path):
    notebook = executed(papermill={"start_time": "2026-01-01T00:00:00+00:00", "end_time": None})
    notebook.cells += [new_markdown_cell("## Later"), new_code_cell("later()")]
    page = page_of(notebook, tmp_path)
    assert summarize(tmp_path / "01_a.ipynb").status == "unfinished"
    assert "1 further code cell\nwas not executed" in page and "Later" not in page


def test_the_index_opens_with_the_verdict_and_ends_with_how_it_was_made(tmp_path):
    html = '<img src="data:image/webp;base64,QUJD" alt="a"><figcaption>Verdicts.</figcaption>'
    thumbnail = {"role": "figure", "thumbnail": "data:image/webp;base64,QQ==", "alt": "small"}
    answers = {"00_a": "A lesson.", "01_explore_data": "240 pairs.", "07_b": "MoSAiC gains 0.02."}
    for name, answer in answers.items():
        outputs = [
            new_output("display_data", metadata={"mosaic": {"role": "answer", "html": answer}}),
            new_output("display_data", data={"text/html": html}, metadata={"mosaic": thumbnail}),
        ]
        nbformat.write(executed(*outputs), tmp_path / f"{name}.ipynb")
    index = render_all(tmp_path).read_text()
    order = ["<h1>A title", "MoSAiC gains 0.02.", "Verdicts.", "240 pairs.", 'href="00_a.html"', "A lesson."]
    order += ['href="01_explore_data.html"', "How it was made"]
    assert sorted(order, key=index.index) == order
    assert '<a rel="next" href="01_explore_data.html">' in (tmp_path / "00_a.html").read_text()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]
    assert 'href="figures/07_b-1.webp"' in index and index.count('alt="small"') == 3


def test_a_killed_run_is_not_shown_as_running(tmp_path):
    states = {"01_a": "running", "02_b": "not run"}
    entries = [{"name": name, "title": name, "status": status} for name, status in states.items()]
    files.write_json(tmp_path / "run.json", {"status": "running", "notebooks": entries})

    def statuses():
        return re.findall(r'class="badge ([\w-]+)"', render_all(tmp_path).read_text())

    with files.lock(tmp_path):
        assert statuses() == ["running", "running", "not-run"]
    assert statuses() == ["interrupted", "interrupted", "not-run"]
    record = files.read_json(tmp_path / "run.json")  # corrected by its reader
    assert record["status"] == record["notebooks"][0]["status"] == "interrupted"
    files.write_json(tmp_path / "run.json", record | {"status": "running", "host": "elsewhere", "process": 7})
    assert statuses()[0] == "running"  # whether another machine works on it cannot be told from here
    assert "process 7 on elsewhere" in (tmp_path / "index.html").read_text()
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunError, match="no executed notebook"):
        render_all(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("run.json", '{"status": 1, "notebooks": []}'),
        ("run.json", '{"status": "x", "notebooks": [3]}'),
        ("01_a.ipynb", '{"nbformat": 4, "nbformat_minor": 5}'),
    ],
)
def test_a_record_or_notebook_of_other_content_is_named_with_the_remedy(name, content, tmp_path):
    """tests/faults has damaged ones."""
    (tmp_path / name).write_text(content)
    with pytest.raises((RunError, SettingsError), match=rf"{re.escape(name)}.*run it again"):
        render_all(tmp_path)


def test_paths_are_shown_relative_to_the_project_or_by_their_last_folder(monkeypatch):
    monkeypatch.setenv("MOSAIC_ROOT", "/srv/study")
    monkeypatch.setenv("HOME", "/srv")
    given = [{"parameters": {"a": ["/disk"]}}]
    record = {"command": "run --archive=/disk/raw/BEN -p x=1", "notebooks": given}
    shown = {
        "/srv/study/data/x.json and '/srv/study'": "data/x.json and '.'",
        "/srv/study-2, /srv/other, a/srv/study/b": "~/study-2, ~/other, a/srv/study/b",
        "/disk/raw/BEN/S1 on /disk; 1/disk": "BEN/S1 on disk; 1/disk",
    }
    assert {text: public(text, record) for text in shown} == shown


def test_all_runs_are_listed_and_those_killed_are_corrected(tmp_path):
    for name, status, started in (("new", "finished", "2026-02-01"), ("old", "running", "2026-01-01")):
        folder = tmp_path / "reports" / name
        folder.mkdir(parents=True)
        nbformat.write(executed(), folder / "01_a.ipynb")
        record = {"status": status, "started": started, "profile": "smoke", "answer": f"<em>{name}</em>"}
        files.write_json(folder / "run.json", record | {"notebooks": [{"name": "01_a", "status": status}]})
    (tmp_path / "reports" / "damaged").mkdir()
    (tmp_path / "reports" / "damaged" / "run.json").write_text("[")
    render_all(tmp_path / "reports" / "new")
    text = (tmp_path / "reports" / "index.html").read_text()
    assert re.findall(r'href="(\w+)/index.html"', text) == ["new", "old"]
    assert "<em>new</em>" in text and 'class="badge interrupted"' in text
    assert 'class="badge interrupted"' in (tmp_path / "reports" / "old" / "index.html").read_text()
    assert 'href="../index.html"' in (tmp_path / "reports" / "new" / "index.html").read_text()
