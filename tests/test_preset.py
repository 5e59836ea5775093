"""Presets as a user meets them: flags that DVC reads, lines in params.yaml, sentences for mistakes."""

import difflib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.exceptions import InvalidArgumentError
from dvc.utils.hydra import apply_overrides

from osr.errors import InputError
from osr.params import check_params, flatten, load_params
from osr.settings.reading import read_yaml
from pipeline import cli
from pipeline.experiments.named import names_in
from pipeline.experiments.overrides import merge
from pipeline.experiments.params_file import apply
from pipeline.experiments.preset import FOLDER, assignments, load_presets
from pipeline.workspace.stages import PARAMS

ROOT = Path(__file__).parents[1]
ALL_KINDS = """\
# Of every kind of value
dataset:
  root: a/b-c.d
  name: my_data:load
  download: false
split:
  protocol: explicit
  known: [0, zero, "1", "true", "a,b"]
  unknown: [7]
  num_unknown: all
  seed: 5
model:
  backbone:
    weights: "3e-4"
    options: {depth: 2, wide: {name: "no", on: true}}
train:
  lr: 3e-5
  weight_decay: 0
"""


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the shipped params.yaml and presets, and one preset more; it is the working directory."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "presets", tmp_path / "presets")
    (tmp_path / "presets" / "kinds.yaml").write_text(ALL_KINDS)
    return tmp_path


def assert_dvc_reads_them_back(names: list[str], path: Path) -> None:
    """DVC's own parser, given the flags, leaves in params.yaml what the presets say."""
    changes = load_presets(names)
    wanted = merge(read_yaml(path), changes)
    apply_overrides(str(path), assignments(changes))
    assert read_yaml(path) == wanted
    load_params(path)


@pytest.mark.parametrize("name", names_in(FOLDER))
def test_every_shipped_preset_holds_only_differences_and_obeys_the_schema(name: str, project: Path) -> None:
    shipped, changes = flatten(read_yaml(PARAMS)), flatten(load_presets([name]))
    same = [key for key, value in changes.items() if shipped.get(key, None) == value]
    assert not same, f"presets/{name}.yaml repeats params.yaml: {same}"
    assert (project / "presets" / f"{name}.yaml").read_text().startswith("# "), "what --list shows"
    assert_dvc_reads_them_back([name], project / "params.yaml")


def test_values_of_every_kind_pass_through_dvcs_parser(project: Path) -> None:
    assert_dvc_reads_them_back(["kinds"], project / "params.yaml")
    assert read_yaml(PARAMS)["split"]["known"] == [0, "zero", "1", "true", "a,b"]
    assert read_yaml(PARAMS)["model"]["backbone"]["options"]["wide"] == {"name": "no", "on": True}


def test_flags_survive_a_shell_that_splits_them() -> None:
    shell = f"printf '%s\\n' $({sys.executable} -m pipeline.cli preset kinds)"
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(["sh", "-c", shell], env=environment, capture_output=True, text=True, check=True)
    words = done.stdout.splitlines()
    assert words[::2] == ["-S"] * (len(words) // 2)
    assert words[1::2] == assignments(load_presets(["kinds"]))


def test_apply_changes_these_lines_and_shows_them(capsys: pytest.CaptureFixture[str]) -> None:
    text = PARAMS.read_text().replace("batch_size: 64", "batch_size: 48  # mine")
    PARAMS.write_text(text)
    assert cli.main(["preset", "kinds", "--apply"]) == 0
    shown = capsys.readouterr().out
    assert "train.lr: 0.003 -> 3e-05\n" in shown
    assert 'split.known: [] -> [0, "zero", "1", "true", "a,b"]\n' in shown
    assert "split.num_unknown" not in shown, "it was so before"
    old, new = text.splitlines(), PARAMS.read_text().splitlines()
    assert "  batch_size: 48  # mine" in new
    comment = "# explicit only: class names or ids, in label order; []: all that are in no other list"
    assert f"  known: [0, zero, '1', 'true', 'a,b'] {comment}" in new
    replaced = [line for line in difflib.unified_diff(old, new, n=0) if re.match(r"-(?!--)", line)]
    assert len(replaced) == len(shown.splitlines()) - 1 - 2, "one per setting; the three options share one"
    assert read_yaml(PARAMS) == merge(read_yaml(PARAMS), load_presets(["kinds"]))
    assert cli.main(["preset", "kinds", "--apply"]) == 0
    assert capsys.readouterr().out == "params.yaml: 0 settings changed\n"


def test_of_two_presets_the_later_wins(project: Path) -> None:
    (project / "presets" / "slow.yaml").write_text("# Slower\ntrain: {epochs: 300}\n")
    changes = load_presets(["digits_quick", "slow"])
    assert changes["train"] == {"epochs": 300, "warmup_epochs": 1}
    assert load_presets(["slow", "digits_quick"])["train"]["epochs"] == 8


def test_list_says_what_each_is_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["preset", "--list"]) == 0
    assert "kinds: Of every kind of value\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("train: {learning_rate: 1.0}", "unknown key 'train.learning_rate'"),
        ("train: {epochz: 1}", "did you mean 'train.epochs'?"),
        ("train: {epochs: many}", "train.epochs is 'many', but must be a whole number."),
        ("train: {loss: arpl}", "model.head.name is 'linear', but must be 'reciprocal'"),
        ("# nothing\n", "must hold settings, in sections as in params.yaml"),
        ("train: [", "is not valid YAML"),
    ],
)
def test_a_bad_preset_is_one_sentence(project: Path, text: str, sentence: str) -> None:
    (project / "presets" / "bad.yaml").write_text(text)
    with pytest.raises(InputError, match="bad") as caught:
        load_presets(["bad"])
    assert sentence in str(caught.value)


def test_a_wrong_params_file_is_not_the_presets_fault() -> None:
    PARAMS.write_text(PARAMS.read_text().replace("batch_size: 64", "batch_size: 0"))
    with pytest.raises(InputError, match=r"^params.yaml: train.batch_size is 0"):
        load_presets(["digits_quick"])


def test_a_preset_may_mend_a_params_file_that_a_refused_run_left() -> None:
    """`dvc exp run -S` writes its values before the first stage refuses them."""
    PARAMS.write_text(PARAMS.read_text().replace("epochs: 80", "epochs: 0"))
    Path("presets/mend.yaml").write_text("# Mend\ntrain: {epochs: 5}\n")
    apply(load_presets(["mend"]))
    assert load_params(PARAMS).train.epochs == 5


def test_a_blank_is_refused_as_a_flag_and_can_be_applied(project: Path) -> None:
    (project / "presets" / "blank.yaml").write_text("dataset: {root: my data}")
    with pytest.raises(InputError, match=r"dataset\.root is 'my data': a flag cannot hold a blank"):
        assignments(load_presets(["blank"]))
    apply(load_presets(["blank"]))
    assert check_params(read_yaml(PARAMS), source="").dataset.root == "my data"


def test_an_unknown_preset_stops_the_command_it_stands_in(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["preset", "digits_quik"]) == 1
    said = capsys.readouterr()
    assert said.err == "ERROR: There is no preset 'digits_quik'; did you mean 'digits_quick'?\n"
    flag, text = said.out.split()
    assert flag == "-S"
    before = PARAMS.read_text()
    with pytest.raises(InvalidArgumentError, match="Invalid `--set-param` value"):
        apply_overrides(str(project / PARAMS), [text, "split.trial=1"])  # so DVC reads `exp run -S`
    assert PARAMS.read_text() == before
    assert cli.main(["preset", "qqq"]) == 1
    assert f"there are: {', '.join(names_in(FOLDER))}." in capsys.readouterr().err
