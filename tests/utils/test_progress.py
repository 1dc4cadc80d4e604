import io
import os
import sys

from mosaic.utils import progress as module
from mosaic.utils.progress import Board, log, progress


def test_lines_of_a_log_go_to_standard_error(monkeypatch, capsys):
    log("hello")
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    assert list(progress([3, 1, 2], "counting")) == [3, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("hello\n")
    assert "counting: 3/3" in err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_board_rewrites_its_lines_at_a_terminal(monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((10, 5)))
    board = Board()
    board.show(["one", "a line too long"], "not told")
    board.show(["two"], "not told")
    board.clear()
    board.clear()
    up = [f"\x1b[{lines}F" for lines in (1, 2)]
    clear = "\x1b[J"  # to the end of the screen
    assert sys.stderr.getvalue() == f"{clear}one\na line to\n{up[1]}{clear}two\n{up[0]}{clear}"


def test_a_board_tells_a_log_what_changed_and_now_and_then_what_did_not(monkeypatch, capsys):
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    board = Board()
    for now, summary in ((1, "a"), (6, "a"), (7, "b"), (12, "b"), (20, "b"), (80, "b")):
        board.show(["for people"], summary, f" at {now}")
    board.clear()
    assert capsys.readouterr().err.split("\n") == ["a at 6", "b at 12", "b at 80", ""]


def test_items_come_through_when_their_number_is_unknown():
    assert list(progress((i * i for i in range(4)), "squares")) == [0, 1, 4, 9]
