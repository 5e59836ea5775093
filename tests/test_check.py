"""`osr check`: every promise is tried, and what breaks one is told."""

import re

import pytest
from test_own_parts import EXAMPLES, LOSS, OWN, checked, here, write  # noqa: F401 (fixture)

from osr.detectors import contract
from osr.models.contract import PROMISES as OF_BACKBONES
from pipeline import cli


def test_the_examples_are_short():
    lines = {name: len(text.splitlines()) for name, text in EXAMPLES.items()}
    assert lines.keys() == {"my_parts.py", "my_losses.py"}
    assert max(lines.values()) <= 40


@pytest.mark.usefixtures("here")
def test_the_examples_keep_every_promise(capsys):
    status, said = checked(OWN, capsys)
    num = len(contract.PROMISES)
    assert (status, said.count("ok    ")) == (0, num)
    assert said.endswith(f"my_parts:Manhattan, a detector, keeps {num} of {num} promises.\n")
    status, said = checked("my_losses:Focal", capsys)
    assert (status, "BROKEN" in said) == (0, False)
    assert "my_losses:Focal, a loss, keeps 6 of 6 promises." in said


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("before", "after", "promise", "reason"),
    [
        (".sum(2).min(1).values", ".sum(2).min(1).values.neg()", "higher_is_more_unknown", "turn the sign"),
        (
            ".min(1).values",
            ".min(1).values + batch.features.mean()",
            "image_alone",
            "images changes|alone has",
        ),
        (".min(1).values", ".min(1).values[:, None]", "one_number_per_image", "broadcast"),
        ("= True", "= False", "fitted_or_not", "KeyError: 'means'"),
        (".abs()", ".abs().log()", "extremes", "not finite|no finite|gives -?(inf|nan)"),
        (
            "correct_only=False)",
            "correct_only=False) | {'counts': __import__('torch').ones(10)}",
            "shards_are_one_fit",
            "let `_gather` return sums",
        ),
    ],
)
def test_what_breaks_a_promise_is_told(before, after, promise, reason, capsys):
    assert before in EXAMPLES["my_parts.py"]
    write("my_broken", EXAMPLES["my_parts.py"].replace(before, after, 1))
    status, said = checked("my_broken:Manhattan", capsys)
    assert status == 1
    told = getattr(contract, promise).__doc__.splitlines()[0]
    assert re.search(rf"BROKEN  {re.escape(told)}\n        .*({reason})", said)


@pytest.mark.usefixtures("here")
def test_an_error_in_the_file_is_told_with_its_line(capsys):
    write("my_broken", EXAMPLES["my_parts.py"].replace("gaps**", "gapz**"))
    status, said = checked("my_broken:Manhattan", capsys)
    line = next(n for n, text in enumerate(EXAMPLES["my_parts.py"].splitlines(), 1) if "gaps**" in text)
    assert status == 1
    assert f"NameError: name 'gapz' is not defined (my_broken.py, line {line})" in said


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("(-cost).exp()", "cost.exp()", "right answers cost|not finite|the loss is"),
        (".mean()", "", r"must be a scalar"),
        (".mean()", "[:3].mean()", "does not reach every known image"),
        ('"none")', '"none").log()', "the loss is|not finite"),
    ],
)
def test_a_loss_that_breaks_a_promise(before, after, told, capsys):
    write("my_broken", LOSS.replace(before, after))
    status, said = checked("my_broken:Focal", capsys)
    assert status == 1
    assert re.search(rf"BROKEN.*\n        .*({told})", said)


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(channels, 4, 3), nn.AdaptiveMaxPool2d(2), nn.Flatten())

    def forward(self, images):
        return self.layers(images)


class Beside(Net):
    def forward(self, images):
        features = self.layers(images)
        return features - features.mean(0)


class Plane(Net):
    def forward(self, images):
        return self.layers[:2](images)


class Text:
    text = "no network"
"""


@pytest.mark.usefixtures("here")
def test_a_backbone_is_checked_too(capsys):
    write("my_net", NET)
    status, said = checked("my_net:Net", capsys)
    assert (status, said.count("ok    ")) == (0, len(OF_BACKBONES))
    for name, told in (
        ("Beside", "an image alone has other features"),
        ("Plane", "must give one vector each"),
    ):
        status, said = checked(f"my_net:{name}", capsys)
        assert (status, told in said) == (1, True)
    assert cli.main(["check", "my_net:Text"]) == 1
    assert "must be one of osr.detectors.base.Detector" in capsys.readouterr().err
    assert cli.main(["check", "my_net:Nets"]) == 1
    assert "has no class 'Nets'; did you mean my_net:Net?" in capsys.readouterr().err
