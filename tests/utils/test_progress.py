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


def test_a_notebook_gets_progress_as_output_which_is_not_red(monkeypatch, capsys):
    monkeypatch.setattr(module, "_in_notebook", lambda: True)
    log("hello")
    assert capsys.readouterr() == ("mosaic: hello\n", "")


def test_a_bar_tells_step_loss_and_time_left_and_in_workers_nothing(monkeypatch, capsys):
    monkeypatch.setattr(module, "_INTERVAL", 0.0)
    with module.bar("training mosaic", 10, initial=7) as shown:
        shown.set_postfix_str("loss 1.250", refresh=False)
        shown.update()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("mosaic: training mosaic: 8/10, loss 1.250, ") and line.endswith(" s left")
    monkeypatch.setenv(module.WORKER, "1")
    assert list(progress([3], "counting")) == [3]
    assert capsys.readouterr() == ("", "")


def test_items_come_through_when_their_number_is_unknown():
    assert list(progress((i * i for i in range(4)), "squares")) == [0, 1, 4, 9]
