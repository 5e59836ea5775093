"""The progress bar: what a terminal sees, and that nothing else sees it."""

import io

import pytest
import torch

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


def test_others_see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, io.StringIO()) == ""
    assert shown(monkeypatch, Terminal(), hidden=True) == ""
