"""Registering a model: an alias that MLflow would refuse is refused before anything is made."""

from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.utils.validation import _validate_model_alias_name, _validate_model_alias_name_reserved

from osr.errors import InputError
from pipeline import cli
from pipeline.serving import register

ROOT = Path(__file__).parents[1]
REFUSED = ["", "bad alias!", "a.b", "a@b", "a/b", "x" * 256, "latest", "LATEST", "v1", "V20"]
TAKEN = ["champion", "v", "v1a", "version1", "1", "-", "Größe_2", "latest_", "x" * 255]


def mlflow_takes(alias: str) -> bool:
    try:
        _validate_model_alias_name(alias)
        _validate_model_alias_name_reserved(alias)
    except MlflowException:
        return False
    return True


@pytest.mark.parametrize("alias", [*REFUSED, *TAKEN])
def test_the_rule_for_aliases_is_that_of_mlflow(alias: str) -> None:
    assert mlflow_takes(alias) == (alias in TAKEN)
    if alias in TAKEN:
        register.check_alias(alias)
    else:
        with pytest.raises(InputError, match="--alias "):
            register.check_alias(alias)


@pytest.mark.parametrize(
    ("alias", "sentence"),
    [
        ("v1", "--alias 'v1' must not be 'latest' or v and a number"),
        ("bad alias!", "--alias 'bad alias!' must be 1 to 255 letters, digits, _ and -."),
        ("", "--alias '' must be 1 to 255 letters"),
    ],
)
def test_a_bad_alias_is_one_sentence_before_anything_is_made(
    alias: str, sentence: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    for name in ("export", "connect"):
        monkeypatch.setattr(register, name, lambda *_: pytest.fail("the alias was not checked first"))
    assert cli.main(["register", "digits", "--alias", alias]) == 1
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
