"""The shipped settings with some keys changed, and what is said of them."""

import re
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from osr.errors import InputError
from osr.params import check_params

ROOT = Path(__file__).parents[1]
SHIPPED = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
MISSING = object()


def changed(changes: dict) -> dict:
    """The shipped settings with some keys replaced, added or, for MISSING, removed."""
    content = dict(SHIPPED)
    for key, value in changes.items():
        *sections, last = key.split(".")
        section = content
        for name in sections:
            section[name] = dict(section[name])
            section = section[name]
        if value is MISSING:
            del section[last]
        else:
            section[last] = value
    return content


def complaint(changes: dict) -> str:
    """The error of the shipped settings with `changes`, which must be one sentence."""
    with pytest.raises(InputError) as error:
        check_params(changed(changes), source="params.yaml")
    text = str(error.value)
    assert "\n" not in text
    assert re.search(r"[^.?][.?]$", text)
    assert text.startswith("params.yaml: ")
    return text.removeprefix("params.yaml: ")
