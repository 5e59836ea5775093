"""What dvc.lock says of the stages that ran; read in parts, since parsing all of it takes long."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from osr.params import flatten
from osr.settings.reading import parse_yaml, read_yaml
from osr.settings.sentences import listed, shown
from pipeline.workspace.stages import LOCK, PARAMS

# DVC's own layout.
_STAGE = re.compile(r"^  ([\w\-]+):\n", re.MULTILINE)
_SETTINGS = re.compile(rf"^    params:\n      {re.escape(str(PARAMS))}:\n((?: {{8}}.*\n)+)", re.MULTILINE)
_CLASSIFIER = ("prepare-split", "train", "calibrate", "fit-openmax")
_NAMED = 3  # settings in a warning


def recorded_stages() -> dict[str, str]:
    """What dvc.lock says of each stage, as it stands there; {} without the file."""
    text = LOCK.read_text(encoding="utf-8") if LOCK.is_file() else ""
    _, *parts = _STAGE.split(text)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def settings_since() -> str:
    """A sentence on settings that the present classifier was not made with; empty where there are none.

    Settings that only metrics and figures depend on are left out.
    """
    told = [f"{key} (now {now}, then {then})" for key, (now, then) in _changed().items()]
    if not told:
        return ""
    return (
        f"{PARAMS} was changed since the present run: {listed(told, _NAMED)}. What follows is of that run; "
        "`osr run` makes it anew."
    )


def _changed() -> dict[str, tuple[str, str]]:
    """Each setting that is another one now, with its value now and then."""
    changed: dict[str, tuple[str, str]] = {}
    for name, stage in recorded_stages().items():
        if name in _CLASSIFIER and (found := _SETTINGS.search(stage)):
            settings, recorded = read_yaml(PARAMS), parse_yaml(found[1])
            now = flatten({key: _at(settings, key) for key in recorded})
            then = flatten(recorded)
            changed |= {
                key: (_text(now, key), _text(then, key))
                for key in [*now, *(key for key in then if key not in now)]
                if key not in now or key not in then or now[key] != then[key]
            }
    return changed


def _at(settings: Any, key: str) -> Any:
    """What stands at a dotted key; None where nothing does."""
    for part in key.split("."):
        settings = settings.get(part) if isinstance(settings, Mapping) else None
    return settings


def _text(values: Mapping[str, Any], key: str) -> str:
    return shown(values[key]) if key in values else "not given"
