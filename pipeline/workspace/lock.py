"""What dvc.lock says of the stages that ran; read in parts, since parsing all of it takes long."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from osr.errors import InputError
from osr.params import flatten
from osr.settings.reading import parse_yaml, read_yaml
from osr.settings.sentences import listed, shown
from pipeline.workspace.files import md5_of
from pipeline.workspace.stages import LOCK, PARAMS, STAGES

# DVC's own layout.
_STAGE = re.compile(r"^  ([\w\-]+):\n", re.MULTILINE)
_SETTINGS = re.compile(rf"^    params:\n      {re.escape(str(PARAMS))}:\n((?: {{8}}.*\n)+)", re.MULTILINE)
_FILES = re.compile(r"^    - path: (.+)\n(?:      (?!md5:).+\n)*      md5: (\S+)\n", re.MULTILINE)
_CLASSIFIER = ("prepare-split", "train", "calibrate", "fit-openmax")
_RESULTS = (*_CLASSIFIER, "evaluate")
_NAMED = 3  # settings in a sentence
_ANEW = "`osr run` makes it anew"


def recorded_stages() -> dict[str, str]:
    """What dvc.lock says of each stage, as it stands there; {} without the file."""
    text = LOCK.read_text(encoding="utf-8") if LOCK.is_file() else ""
    _, *parts = _STAGE.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def settings_since() -> str:
    """A sentence on settings that the present classifier was not made with; empty where there are none.

    Settings that only metrics and figures depend on are left out.
    """
    told = _told(_CLASSIFIER)
    if not told:
        return ""
    return f"{PARAMS} was changed since the present run: {told}. What follows is of that run; {_ANEW}."


def check_results() -> None:
    """Refuse numbers of the present run that were not all made with the settings in params.yaml.

    Raises:
        InputError: a setting is another one now, a stage was not run since one that it reads from, metrics
            are not those that a stage wrote, or dvc.lock does not say so.
    """
    stages = recorded_stages()
    if lacking := [name for name in _RESULTS if not _SETTINGS.search(stages.get(name, ""))]:
        raise InputError(
            f"{LOCK} does not say with which settings stage {lacking[0]} made what is here: {_ANEW}."
        )
    if told := _told(_RESULTS):
        raise InputError(
            f"{PARAMS} was changed since the run whose numbers are here: {told}; {_ANEW}, or put them back."
        )
    for told in _of_another_run({name: stages[name] for name in _RESULTS}):
        raise InputError(f"{told}: {_ANEW}.")


def _of_another_run(stages: Mapping[str, str]) -> Iterator[str]:
    """What does not belong to one run of these stages, by what DVC wrote down of their files."""
    made: dict[str, tuple[str, str]] = {}
    for name, stage in stages.items():
        read, _, written = stage.partition("    outs:\n")
        for path, digest in _FILES.findall(read):
            maker, newest = made.get(path, (name, digest))
            if digest != newest:
                yield f"Stage {name} was not run since stage {maker} made {path}"
        made |= {path: (name, digest) for path, digest in _FILES.findall(written)}
        metrics = STAGES[name].metrics
        if metrics.is_file() and made.get(str(metrics), ("", ""))[1] != md5_of(metrics):
            yield f"{metrics} is not what stage {name} made last, as {LOCK} has it"


def _told(names: Sequence[str]) -> str:
    """The settings that stages were not run with, in words; empty where there are none."""
    return listed([f"{key} (now {now}, then {then})" for key, (now, then) in _changed(names).items()], _NAMED)


def _changed(names: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Each setting of these stages that is another one now, with its value now and then."""
    settings, changed = read_yaml(PARAMS), dict[str, tuple[str, str]]()
    for name, stage in recorded_stages().items():
        if name in names and (found := _SETTINGS.search(stage)):
            recorded = _parsed(found[1])
            now = flatten({key: _at(settings, key) for key in recorded})
            then = flatten(recorded)
            changed |= {
                key: (_text(now, key), _text(then, key))
                for key in [*now, *(key for key in then if key not in now)]
                if key not in now or key not in then or now[key] != then[key]
            }
    return changed


def _parsed(text: str) -> Any:
    try:
        return parse_yaml(text)
    except ValueError as error:
        raise InputError(f"{LOCK}: what it says of settings {error}.") from None


def _at(settings: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings


def _text(values: Mapping[str, Any], key: str) -> str:
    return shown(values[key]) if key in values else "not given"
