"""The osr command: its tree, its help, its completion, and how it ends."""

import contextlib
import errno
import importlib
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from osr.errors import InputError
from osr.version import VERSION
from pipeline import cli
from pipeline.cli import PLACES, SHELLS, _sentence, main
from pipeline.commands import COMMANDS

ROOT = Path(__file__).parents[1]
HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "mlflow",
    "numpy",
    "scipy",
    "sklearn",
    "matplotlib",
    "pydantic",
    "dvc",
)


def osr(*arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "pipeline.cli", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS), ["tracking", "sync"]])
def test_help_of_every_command_has_words_on_everything_it_lists(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: osr {' '.join(command)}".rstrip())
    for action in cli._actions(cli.make_parser()):
        assert action.help or action.choices, action


def test_help_and_parsing_import_nothing_heavy() -> None:
    code = (
        "import sys; from pipeline.cli import make_parser; make_parser().format_help(); "
        "make_parser().parse_args(['predict', 'a.png']); "
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_module_that_runs_it(name: str) -> None:
    assert callable(importlib.import_module(COMMANDS[name][0]).run)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    assert capsys.readouterr().out == f"osr {VERSION}\n"


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_knows_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--print-completion", shell])
    assert ended.value.code == 0
    script = capsys.readouterr().out
    assert all(name in script for name in COMMANDS)
    assert "--detector" in script or shell == "tcsh", "shtab completes options of commands in bash and zsh"
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=script, text=True, check=True)


def test_bash_completes_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    script = tmp_path / "osr.bash"
    script.write_text(capsys.readouterr().out)
    asked = f"source {script}; COMP_WORDS=(osr lead); COMP_CWORD=1; _shtab_osr; echo ${{COMPREPLY[@]}}"
    answer = subprocess.run(["bash", "-c", asked], capture_output=True, text=True, check=True)
    assert answer.stdout == "leaderboard\n", answer.stderr


def test_torch_and_torchvision_of_two_builds_are_one_sentence() -> None:
    said = _sentence(RuntimeError("operator torchvision::nms does not exist"))
    assert said is not None
    assert re.fullmatch(r"torch [\d.]+\S* and torchvision [\d.]+\S* are not built for each other: .*", said)
    assert _sentence(RuntimeError("operator x::nms does not exist")) is None


def test_a_wrong_word_is_refused_with_the_choices() -> None:
    for words in (["trian"], ["run", "trian"]):
        assert ": it is 'trian'; did you mean '" in osr(*words, status=2)
        assert "It must be one of " in osr(*words, status=2)
    assert "Name a preset, or ask for --list." in osr("preset", status=1)
    assert "required" in osr("sweep", status=2)
    assert "it is 'compar'; did you mean 'compare'? It must be one of init, run," in osr("compar", status=2)
    assert "it is 'zzz', but must be one of init, run, " in osr("zzz", status=2)


def test_a_wrong_option_is_refused_by_its_command_with_the_nearest() -> None:
    said = osr("predict", "a.png", "--acept", "0.9", status=2)
    assert said.startswith("usage: osr predict")
    assert said.endswith("unrecognized arguments: --acept; did you mean '--accept'?\n")
    said = osr("run", "--epochs", "3", status=2)
    assert said.endswith("unrecognized arguments: --epochs; a setting is given as -S KEY=VALUE\n")
    assert said.startswith("usage: osr run"), "not of the 3, which is no stage"
    assert "did you mean '--weights'" in osr("init", "photos", "project", "--weight", "a.pth", status=2)


@pytest.mark.parametrize(
    "command",
    [
        "run",
        "fit resnet18 photos",
        "predict a.png",
        "compare --files",
        "leaderboard",
        "sweep digits_a",
        "search space.yaml",
        "split",
        "register digits",
        "export present out",
        "tracking sync",
    ],
)
def test_outside_a_project_a_command_says_where_to_go_before_it_imports_its_module(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = command.split()
    monkeypatch.setitem(COMMANDS, words[0], ("no_such_module", *COMMANDS[words[0]][1:]))
    monkeypatch.chdir(tmp_path)
    assert main(words) == 1
    assert capsys.readouterr().err == (
        "ERROR: params.yaml is missing: every setting of the experiment stands in it. Go into your project "
        "(the folder with params.yaml), or make one with `osr init`.\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("predict --model nowhere .", "ERROR: nowhere is no folder: `osr export` makes one.\n"),
        ("predict --model . a.png", "ERROR: a.png does not exist.\n"),
        ("serve .", "ERROR: classifier.json is missing: `osr export` makes such a folder.\n"),
        ("serve nowhere", "ERROR: nowhere is no folder: `osr export` makes one.\n"),
        (
            "predict --model . --accept 95 a.png",
            "argument --accept: must be above 0 and at most 1, such as 0.95, not 95\n",
        ),
        ("predict --model . --p-value 5 a.png", "argument --p-value: must lie in 0..1, not 5\n"),
    ],
)
def test_arguments_are_checked_before_the_module_of_a_command_is_imported(
    command: str,
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = command.split()
    monkeypatch.setitem(COMMANDS, words[0], ("no_such_module", *COMMANDS[words[0]][1:]))
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(SystemExit):  # of argparse
        assert main(words) == 1
    assert capsys.readouterr().err.endswith(said)


def test_letters_of_a_pdf_are_no_news() -> None:
    logging.getLogger("fontTools").setLevel(logging.NOTSET)
    assert main(["preset", "--list"]) == 0
    assert not logging.getLogger("fontTools.subset").isEnabledFor(logging.INFO)


def test_bad_input_is_its_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(_options: object) -> int:
        raise InputError("No such thing.")

    monkeypatch.setattr("pipeline.tracking.sync.run", refuse)
    assert main(["tracking", "sync"]) == 1
    assert capsys.readouterr().err == "ERROR: No such thing.\n"


def test_modules_of_the_user_beside_params_yaml_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console script has its own folder on the path, and not the working directory."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(ROOT))])
    assert main(["preset", "--list"]) == 0
    assert sys.path[0] == str(ROOT)


def test_ctrl_c_is_no_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.tracking.sync.run", interrupt)
    assert main(["tracking", "sync"]) == 130
    assert capsys.readouterr().err == "ERROR: interrupted.\n"


@pytest.mark.parametrize("number", PLACES)
def test_a_full_or_closed_place_is_one_sentence(
    number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def write(_options: object) -> int:
        raise OSError(number, "no", "out/x.csv")

    monkeypatch.setattr("pipeline.tracking.sync.run", write)
    assert main(["tracking", "sync"]) == 1
    assert capsys.readouterr().err == "ERROR: out/x.csv cannot be read or written: no.\n"


def test_another_error_of_the_system_is_a_mistake_of_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def forget(_options: object) -> int:
        raise FileNotFoundError(errno.ENOENT, "no", "x")

    monkeypatch.setattr("pipeline.tracking.sync.run", forget)
    with pytest.raises(FileNotFoundError):
        main(["tracking", "sync"])


def test_no_text_is_no_path() -> None:
    assert "a path must not be empty" in osr("export", "", status=2)
    assert "a path must not be empty" in osr("init", "photos", "--unknown", "", status=2)


def test_a_reader_that_goes_away_is_no_error() -> None:
    shell = f"{sys.executable} -m pipeline.cli preset --list | true"
    done = subprocess.run(["sh", "-c", shell], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_streams_that_are_closed_and_a_folder_that_is_gone(tmp_path: Path) -> None:
    program = f"PYTHONPATH={ROOT} {sys.executable} -m pipeline.cli preset --list"
    gone = tmp_path / "gone"
    for command, status, said in (
        (f"{program} >&- <&-", 0, ""),
        (f"{program} 2>&- | head -1", 0, "all_detectors"),
        (f"mkdir {gone} && cd {gone} && rmdir {gone} && {program}", 1, "ERROR: the working directory is no"),
    ):
        done = subprocess.run(["sh", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stderr
        assert (done.stdout + done.stderr).startswith(said)


def test_outside_a_project_a_command_names_the_file_that_is_missing(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    for command in (["run"], ["predict", "."], ["split", "--report"], ["tracking", "sync"], ["leaderboard"]):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli", *command],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        assert "is missing" in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
