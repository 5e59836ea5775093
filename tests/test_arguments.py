"""Numbers on command lines: odd ones are read as what they are, or refused in one sentence."""

import argparse
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_export import folder  # noqa: F401 (fixture)
from test_predict import exportable, model, png, run  # noqa: F401 (fixtures)

from pipeline import cli
from pipeline.arguments import LEAST_SHARE, number, share

ODD = (
    "", " ", "nan", "-nan", "inf", "-inf", "Infinity", "1e999", "-1e999", "1" * 400, "-" + "9" * 400,
    "0" * 5000, "0." + "0" * 400 + "1", "1e-300", "1e-320", "5e-324", "-5e-324", "-0.0", "0", "1", "1.0",
    "0.999999999999999999", "0.9999999999", "1e-9", "0x10", "1_0", "٣", "１", "½", "1,5", "True", "None",
    "1e", "--", "2**63", "9223372036854775808", "18446744073709551616", "1e308", "0.5", "\0",
)  # fmt: skip


def commands() -> dict[str, argparse.ArgumentParser]:
    (found,) = (
        action for action in cli.make_parser()._actions if isinstance(action, argparse._SubParsersAction)
    )
    return found.choices


def numeric() -> Iterator[tuple[str, argparse.Action]]:
    """Every command's arguments that are numbers."""
    for name, command in commands().items():
        for action in command._actions:
            if action.type in (number, share) or getattr(action.type, "__name__", "") == "read":
                yield name, action


def read(action: argparse.Action, text: str) -> float | None:
    """The value, or None where argparse says one sentence; anything else is raised."""
    try:
        value = action.type(text)
    except argparse.ArgumentTypeError as error:
        said = str(error)
    else:
        assert isinstance(value, int | float)
        return value
    assert len(said) < 200, "the sentence holds a number of hundreds of digits"
    return None


def test_no_number_that_is_none_gets_in() -> None:
    found = list(numeric())
    assert len(found) >= 15
    for name, action in found:
        for text in ODD:
            value = read(action, text)
            if value is None:
                continue
            assert math.isfinite(value), (name, action.dest, text)
            if action.type is share:
                assert LEAST_SHARE <= value <= 1 - LEAST_SHARE, (name, action.dest, text)
            elif action.type is not number:
                assert value in range(1_000_001), (name, action.dest, text)
                assert int(text) == value


def test_no_float_of_argparse_itself_is_left() -> None:
    for action in cli._actions(cli.make_parser()):
        assert action.type not in (int, float), action


PREDICT = ["predict", "new", "--model", "classifier"]
CALLS = {
    "predict": PREDICT,
    "monitor": ["monitor", "v.csv", "--model", "classifier"],
    "discover": ["discover", "classifier", "new", "--out", "found"],
    "recalibrate": ["recalibrate", "classifier", "new", "--out", "found"],
}


@pytest.mark.usefixtures("folder")
def test_what_gets_in_is_judged_with_or_refused(capsys) -> None:
    """With 12 images: no traceback, and no nan in what is said."""
    for place in range(12):
        png(Path(f"new/{place}.png"), place)
    assert cli.main([*PREDICT, "--output", "v.csv"]) == 0
    tried = 0
    for name, action in numeric():
        if name not in CALLS or action.dest == "workers":
            continue
        for text in ODD:
            if read(action, text) is None:
                continue
            capsys.readouterr()
            shutil.rmtree("found", ignore_errors=True)
            status = cli.main([*CALLS[name], f"{action.option_strings[0]}={text}"])
            said = "".join(capsys.readouterr())
            assert status in (0, 1, 3), (action.dest, text)
            assert (status == 1) == (said.count("ERROR: ") == 1), (action.dest, text, said)
            assert "nan" not in said, (action.dest, text, said)
            tried += 1
    assert tried > 20  # the others are refused by the parser


@pytest.mark.parametrize("text", ["1e-300", "1e-320", "0.9999999999999"])
def test_a_share_that_no_images_can_tell_from_its_end(text: str, capsys) -> None:
    with pytest.raises(SystemExit):
        cli.main(["monitor", "v.csv", "--model", "m", "--false-alarm", text])
    assert f"argument --false-alarm: must lie in 1e-09..0.999999999, not {text}" in capsys.readouterr().err


def test_a_list_that_is_given_again_is_collected_and_not_overwritten() -> None:
    lists = {
        (name, option)
        for name, command in commands().items()
        for action in command._actions
        for option in action.option_strings
        if action.nargs in ("+", "*") or option in ("--overrides", "--where", "-S", "--preset")
        if not isinstance(action, (argparse._ExtendAction, argparse._AppendAction))
    }
    assert lists == set()
    parse = cli.make_parser().parse_args
    for words in (["compare"], ["leaderboard", "merge", "."]):
        again = parse([*words, "--metrics", "auroc", "--metrics", "auoscr", "ece"])
        assert again.metrics == ["auroc", "auoscr", "ece"]
        assert parse(words).metrics is None
    assert parse(["run", "--overrides", "a.b=1 c=2", "--overrides", "d=3"]).overrides == ["a.b=1 c=2", "d=3"]


def test_help_says_what_may_be_given_several_times() -> None:
    for name, command in commands().items():
        for action in command._actions:
            if action.dest == "where":
                assert "may be given several times" in str(action.help), name
