"""params.yaml as a file: YAML 1.2, and one sentence for what is broken, endless, missing or no text."""

import os
import time
from pathlib import Path

import pytest
from changed_settings import ROOT

from osr.errors import InputError
from osr.params import Params, load_params
from osr.settings import reading
from osr.settings.reading import read_yaml


def load(tmp_path: Path, text: str) -> Params:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return load_params(path)


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 9)}]\n" for level in range(1, 20)
)


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("epochs: 2020-13-45", "is not valid YAML: a value in it cannot be read (month must be in 1..12)."),
        ("epochs: 1" + "0" * 5000, "is not valid YAML: a value in it cannot be read (Exceeds the limit "),
        ('name: "\\ud800"', ": name holds '\\ud800', but must be text without zero bytes and halves of "),
        ("epochs: !!bool 12", "is not valid YAML: a value in it cannot be read ('12')."),
        ("epochs: !!int ''", "is not valid YAML: a value in it cannot be read (string index out of range)."),
        ("name: " + "[" * 100_000, " must be nested less deeply, in at most 50 levels."),
        ("name: " + "{a: " * 3000, " must be nested less deeply, in at most 50 levels."),
        ("name: " + "x" * 4_000_000, " must have at most 4,000,000 characters, not "),
        ("name: " + "[" * 60 + "]" * 60, " must be nested less deeply, in at most 50 levels."),
        ("name: &name [*name]", ": name[0] holds itself, through an alias (`*name`)."),
        (BOMB, " must hold at most 100,000 values, its aliases (`*name`) written out, not "),
    ],
)
def test_files_that_no_program_can_walk_through(tmp_path: Path, text: str, end: str) -> None:
    before = time.process_time()
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert end in str(error.value)
    assert "\n" not in str(error.value)
    assert time.process_time() - before < 20


def test_values_are_counted_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "MAX_VALUES", 100)
    with pytest.raises(InputError, match=r"line 100: it must hold at most 100 keys and values\.$"):
        load(tmp_path, "- 1\n" * 101)


def test_a_file_that_never_ends(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"params\.yaml cannot be read as text: it is a pipe, a socket or a"):
        load_params(tmp_path / "params.yaml")


def test_yaml_is_read_as_version_1_2(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text()
    params = load(tmp_path, text.replace("lr: 3e-3", "lr: 1e-3").replace("weights: none", "weights: no"))
    assert params.train.lr == 0.001
    assert params.model.backbone.weights == "no"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "is empty: every setting of the experiment stands in it."),
        ("# nothing but a comment\n", "is empty: every setting of the experiment stands in it."),
        ("- 1\n", "must hold sections of settings, not [1]."),
        ("a: 1\nb: 2\na: 3\n", 'is not valid YAML, line 3: found duplicate key "a" with value "3" '),
        ("train:\n  lr: 1\n  lr: 2\n", 'is not valid YAML, line 3: found duplicate key "lr" with value '),
        ("a: [1\nb: 2\n", "is not valid YAML, line 2: expected ',' or ']', but got ':'."),
        ("a: 1\n---\nb: 2\n", "is not valid YAML, line 2: but found another document."),
        (
            "a: !!python/object:os.system x\n",
            "is not valid YAML, line 1: could not determine a constructor for ",
        ),
        ("a: \x00\n", "is not valid YAML: "),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(InputError) as error:
        load(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'params.yaml'} {sentence}")
    assert "\n" not in str(error.value)
    assert str(error.value).endswith(".")


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params.yaml is missing: every setting .* with `osr init`\."):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(InputError, match=r"cannot be read as text: .*directory.*\.$"):
        load_params(tmp_path)
    (tmp_path / "params.yaml").write_bytes(b"a: \xff\xfe\n")
    with pytest.raises(InputError, match=r"cannot be read as text: .*utf-8.*\.$"):
        load_params(tmp_path / "params.yaml")


def test_what_is_read_is_the_callers_own(tmp_path: Path) -> None:
    """Of a text that was read before, too, which is not parsed again."""
    path = tmp_path / "params.yaml"
    path.write_text("a: {b: [1]}\n")
    for _ in range(2):
        content = read_yaml(path)
        assert content == {"a": {"b": [1]}}
        content["a"]["b"].append(2)
    path.write_text("a: {b: [3]}\n")
    assert read_yaml(path) == {"a": {"b": [3]}}
