from mosaic.common import progress as module
from mosaic.common.progress import progress, say


def test_lines_go_to_the_runners_file_and_nowhere_else(tmp_path, monkeypatch, capsys):
    path = tmp_path / "progress"
    monkeypatch.setenv(module.PROGRESS_FILE, str(path))
    say("hello")
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    assert list(progress([3, 1, 2], "counting")) == [3, 1, 2]
    lines = path.read_text().splitlines()
    assert lines[0] == "hello"
    assert lines[-1].startswith("counting: 3/3")
    assert capsys.readouterr() == ("", "")


def test_without_a_runner_plain_lines_go_to_standard_error(monkeypatch, capsys):
    monkeypatch.delenv(module.PROGRESS_FILE, raising=False)
    say("hello")
    assert capsys.readouterr().err == "hello\n"


def test_items_come_through_when_their_number_is_unknown(monkeypatch):
    monkeypatch.delenv(module.PROGRESS_FILE, raising=False)
    assert list(progress((i * i for i in range(4)), "squares")) == [0, 1, 4, 9]
