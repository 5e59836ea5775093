"""Presets: named sets of settings, presets/NAME.yaml, that hold only what differs from params.yaml."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.params import check_params, flatten
from osr.settings.reading import read_yaml
from pipeline.experiments.named import list_of, read_named
from pipeline.experiments.overrides import merge
from pipeline.experiments.params_file import apply
from pipeline.workspace.stages import PARAMS

FOLDER = Path("presets")

# Printed when something is wrong: `dvc exp run $(…)` must then stop, not run without the preset. A setting
# that DVC cannot read makes it say one line; an option that it does not know would bring its page of usage.
REFUSED = "-S the-preset-was-refused-as-said-above"

Settings = dict[str, Any]

# What DVC's parser of overrides reads back as the same text; anything else is quoted for it.
_PLAIN_TEXT = re.compile(r"[A-Za-z_][\w./\-]*(?::[\w./\-]+)?")
_WORDS_OF_YAML = ("null", "none", "true", "false", "yes", "no", "on", "off", "nan", "inf")


def load_presets(names: Sequence[str]) -> Settings:
    """What presets change together, nested like params.yaml; of two that set one key the later counts.

    Raises:
        InputError: no such preset, no settings in it, or they break the schema together with params.yaml.
    """
    merged: Settings = {}
    for name in names:
        merged = merge(merged, read_preset(name))
    ours = read_yaml(PARAMS)
    if not isinstance(ours, dict):
        check_params(ours, source=str(PARAMS))
    try:
        check_params(merge(ours, merged), source=f"{PARAMS} with preset {' '.join(names)}")
    except InputError:
        check_params(ours, source=str(PARAMS))  # where the fault stands there already, it is not the preset's
        raise
    return merged


def assignments(changes: Settings) -> list[str]:
    """Settings as `dvc exp run -S` takes them, without blanks: `split.trial=1`, `++new.key=1`.

    Raises:
        InputError: a text with a blank, at which a shell would split it.
    """
    known = flatten(read_yaml(PARAMS))
    found = []
    for key, value in flatten(changes).items():
        text = override_text(value)
        if re.search(r"\s", text):
            raise InputError(f"{key} is {value!r}: a flag cannot hold a blank; use --apply instead.")
        found.append(f"{'' if key in known else '++'}{key}={text}")
    return found


def run(options: argparse.Namespace) -> int:
    """Command preset: print presets as flags, write them into params.yaml, or list them.

    Raises:
        InputError: no such preset, or its settings break the schema.
    """
    if not (options.list or options.names):
        raise InputError("Name a preset, or ask for --list.")
    try:
        sys.stdout.write(_answer(options))
    except InputError:
        if not (options.list or options.apply or sys.stdout.isatty()):
            sys.stdout.write(f"{REFUSED}\n")
        raise
    return 0


def _answer(options: argparse.Namespace) -> str:
    if options.list:
        return list_of(FOLDER)
    changes = load_presets(options.names)
    if not options.apply:
        return " ".join(f"-S {text}" for text in assignments(changes)) + "\n"
    lines = apply(changes)
    return "\n".join([f"{PARAMS}: {len(lines)} settings changed", *lines]) + "\n"


def read_preset(name: str) -> Settings:
    """What one preset changes, unchecked.

    Raises:
        InputError: no such preset, or no settings in it.
    """
    path, content = read_named(FOLDER, name, kind="preset")
    if not isinstance(content, dict) or not flatten(content):
        raise InputError(f"{path} must hold settings, in sections as in {PARAMS}.")
    return content


def override_text(value: Any) -> str:
    """A value as DVC's parser of overrides reads it."""
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case list():
            return f"[{','.join(map(override_text, value))}]"
        case dict():
            return "{" + ",".join(f"{key}:{override_text(inner)}" for key, inner in value.items()) + "}"
        case str():
            plain = _PLAIN_TEXT.fullmatch(value) and value.lower() not in _WORDS_OF_YAML
            return value if plain else json.dumps(value, ensure_ascii=False)
    return str(value)
