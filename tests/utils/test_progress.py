from mosaic.utils import progress as module
from mosaic.utils.progress import log, progress


def test_lines_of_a_log_go_to_standard_error(monkeypatch, capsys):
    log("hello")
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    assert list(progress([3, 1, 2], "counting")) == [3, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("mosaic: hello\n")
    assert "counting: 3/3" in err


def test_items_come_through_when_their_number_is_unknown():
    assert list(progress((i * i for i in range(4)), "squares")) == [0, 1, 4, 9]
