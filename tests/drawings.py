"""Axes to draw on, what was drawn on them, and numbers to draw."""

import numpy as np
import pytest

from osr.plots import style

rng = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def _styled():
    with style.styled():
        yield


def blank(width=3.4, height=3.4):
    return style.canvas(width, height).subplots()


def legend(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def lines(axes):
    return {line.get_label().split("  ")[0]: line for line in axes.get_lines()}


def scores_of(shift, num_known=300, num_unknown=200):
    generator = np.random.default_rng(int(10 * shift))
    return generator.normal(size=num_known), generator.normal(shift, 1.3, num_unknown)


def oscr_points(known, unknown, correct):
    order = np.argsort(np.r_[known, unknown])
    is_unknown = np.r_[np.zeros(len(known)), np.ones(len(unknown))][order]
    right = np.r_[correct, np.zeros(len(unknown))][order]
    return np.r_[0, is_unknown.cumsum() / len(unknown)], np.r_[0, right.cumsum() / len(known)]


def table(counts, accuracies):
    centres = (np.arange(len(counts)) + 0.5) / len(counts)
    empty = np.array(counts) == 0
    confidence, accuracy = np.where(empty, np.nan, centres), np.where(empty, np.nan, accuracies)
    return {"confidence": confidence, "accuracy": accuracy, "count": np.array(counts)}


def history(num_epochs):
    epoch = np.arange(1, num_epochs + 1)
    return {
        "epoch": epoch,
        "train/loss": 2 * np.exp(-epoch / 5),
        "train/accuracy": 1 - 0.9 * np.exp(-epoch / 5),
        "val/loss": 2 * np.exp(-epoch / 5) + 0.1,
        "val/accuracy": 0.9 - 0.8 * np.exp(-epoch / 5),
        "lr": np.full(num_epochs, 0.1),
    }


def pair():
    return tuple(style.canvas(6.8, 3).subplots(1, 2))
