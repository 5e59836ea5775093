"""How much of a step is done: a bar on a terminal, lines in a log."""

import io
import logging
import threading
from types import SimpleNamespace

import pytest
import torch

from osr import progress
from osr.progress import Steps, counted
from osr.training.progress import ProgressBar

ROW = {"epoch": 3, "train/loss": 0.25, "train/accuracy": 0.75, "val/accuracy": 0.5}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, *, hidden: bool = False) -> str:
    """What two steps and the end of epoch 3 of 8 print."""
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("osr.training.progress.REFRESH_S", 0.0)
    with ProgressBar(8, done=2, num_images=1000, hidden=hidden) as bar:
        bar.step(400, torch.tensor(1.5))
        bar.step(600, torch.tensor(1.25))
        bar.epoch(ROW)
    return stream.getvalue()


def test_a_terminal_sees_epoch_loss_accuracy_rate_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = shown(monkeypatch, Terminal()).split("\r")
    assert "2.00k/8.00k" in lines[1]  # an interrupted training goes on
    assert any("epoch=2/8, loss=1.250" in line for line in lines)
    last = lines[-1]
    assert "3.00k/8.00k" in last
    assert "epoch=3/8, loss=0.250, accuracy=0.750, val_accuracy=0.500" in last
    assert " images/s" in last
    assert "<" in last  # elapsed < left


def test_a_log_is_told_what_begins(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "osr")
    assert shown(monkeypatch, io.StringIO()) == ""
    assert shown(monkeypatch, io.StringIO(), hidden=True) == ""
    assert caplog.messages == ["train: 6 epochs of 1,000 images"]


def test_others_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == ""
    assert shown(monkeypatch, Terminal(), hidden=True) == ""


def test_a_log_is_told_the_number_at_once_and_the_count_now_and_then(monkeypatch, caplog, capsys):
    caplog.set_level(logging.INFO, "osr")
    clock = iter([0.0, 10.0, 16.0, 16.0, 17.0, 40.0, 40.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert list(counted(dict.fromkeys("abcde", 0).items(), "fit detectors", "detectors"))[-1] == ("e", 0)
    assert caplog.messages == [
        "fit detectors: 5 detectors",
        "fit detectors: 2 of 5 detectors",
        "fit detectors: 4 of 5 detectors",
    ]
    assert capsys.readouterr().err == "", "no bar"


def test_a_quick_step_leaves_no_line_and_one_without_an_end_counts(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "osr")
    with Steps("read images", 3000, "images", done=1000) as steps:
        steps.step(500)
    assert caplog.messages == []
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with Steps("predict", None, "images", done=1000) as steps:
        steps.step(500)
    assert caplog.messages == ["predict: 1,500 images"]


def test_a_terminal_sees_a_bar_and_the_log_nothing(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "osr")
    threads, terminal = threading.active_count(), Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    assert list(counted("abc", "figures", "kinds")) == ["a", "b", "c"]
    assert "figures: 100%" in terminal.getvalue()
    assert "3/3" in terminal.getvalue()
    assert caplog.messages == []
    assert threading.active_count() == threads, "stage plot forks"


def test_a_process_without_standard_error_counts_too(monkeypatch):
    """Python has none where it was closed before the start."""
    monkeypatch.setattr("sys.stderr", None)
    assert list(counted("abc", "figures", "kinds")) == ["a", "b", "c"]
    with ProgressBar(8, done=2, num_images=1000) as bar:
        bar.epoch(ROW)
