"""The harness that compares ways to train: who learns what, what chooses, and what is not done again."""

import sys
from pathlib import Path

import pytest

from benchmarks import training_methods

ROOT = Path(__file__).parents[1]


def numbers(training, _data, _folder):
    """Tested, the first is better by 0.05 or 0.06; on held-out knowns the other is, by 0.1."""
    (trial, _), is_other = training.repeat, training.method == "pixmix"
    area = 0.8 + 0.1 * is_other if training.part else 0.9 - (0.05 + 0.01 * (trial == 2)) * is_other
    return {"accuracy": 0.99, "auroc": {"maxlogit": area}, "images": 40, "judged": 9, "minutes": 0.5}


@pytest.fixture
def compared(tmp_path, monkeypatch, capsys):
    """A call of the program with made-up trainings: what it printed, and what it trained."""
    monkeypatch.chdir(ROOT)
    trained = []

    def run(training, data, folder):
        trained.append((training.method, training.repeat, training.part))
        return numbers(training, data, folder)

    monkeypatch.setattr(training_methods, "run", run)

    def call(*words):
        trained.clear()
        fixed = ("--presets", "digits_quick", "--methods", "", "pixmix", "--folder", str(tmp_path))
        monkeypatch.setattr(sys, "argv", ["training_methods", *fixed, *words])
        training_methods.main()
        return capsys.readouterr().out, list(trained)

    return call


def test_held_out_knowns_choose_and_all_are_tested(compared):
    said, trained = compared("--trials", "0", "2", "--seeds", "0", "7", "--parts", "3")
    lines = said.splitlines()
    assert lines[0] == (
        "small_convnet, 40 images to learn from and 9 to test, 8 epochs; 4 repeats, 16 trainings, "
        "8.0 minutes of processor time"
    )
    # Student's t of 0, 0, -0.01, -0.01 around -0.055: 3.182 * 0.005774 / 2.
    against = "-0.0550 [-0.0642, -0.0458]"
    assert lines[-3].startswith("| pixmix | maxlogit | 0.9000 | 0.8450 [")
    assert f"| {against} | 0.9900 | +0.0000 [+0.0000, +0.0000] | 0.50 |" in lines[-3]
    assert lines[-1].startswith("Chosen on held-out knowns: pixmix with maxlogit: 0.8450 [")
    assert lines[-1].endswith(against)
    # Every method sees the same; the known classes are held out in turn, a part in each repeat.
    of_first = [(repeat, part) for method, repeat, part in trained if method == ""]
    assert of_first == [(repeat, part) for method, repeat, part in trained if method == "pixmix"]
    repeats = [(0, 0), (0, 7), (2, 0), (2, 7)]
    assert [repeat for repeat, part in of_first if part is None] == repeats
    assert [part for _, part in of_first if part] == [(0, 3), (1, 3), (2, 3), (0, 3)]


def test_what_is_there_with_the_same_settings_is_not_trained_again(compared):
    first, trained = compared("--trials", "0", "1")
    assert len(trained) == 4
    assert "held-out knowns" not in first
    assert compared("--trials", "0", "1") == (first, [])
    assert compared("--trials", "0", "1", "2")[1] == [("", (2, 0), None), ("pixmix", (2, 0), None)]
    assert len(compared("--trials", "0", "1", "--", "train.lr=0.5")[1]) == 4
