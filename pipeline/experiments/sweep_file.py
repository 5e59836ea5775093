"""What a file in sweeps/ says: presets, settings, variants and a grid, checked before anything is queued."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from osr.errors import InputError
from osr.params import check_params, flatten
from osr.settings.guesses import did_you_mean
from osr.settings.reading import read_yaml
from osr.settings.sentences import shown
from pipeline.experiments.named import read_named
from pipeline.experiments.overrides import flat_overrides, merge, nested
from pipeline.experiments.preset import Settings, load_presets
from pipeline.workspace.stages import PARAMS

FOLDER = Path("sweeps")
KEYS = ("presets", "settings", "variants", "grid")
MAX_EXPERIMENTS = 5000


@dataclass(frozen=True)
class Sweep:
    """The experiments of a table.

    Args:
        name: of the file.
        common: settings of all experiments, nested like params.yaml.
        variants: dotted key -> value, what each method of the table adds.
        grid: dotted key -> values, whose combinations every variant runs through.
    """

    name: str
    common: Settings
    variants: tuple[Mapping[str, Any], ...]
    grid: Mapping[str, Sequence[Any]]

    def experiments(self) -> list[Settings]:
        """What each experiment changes in params.yaml, nested, in the order of variants and grid."""
        points = [
            dict(zip(self.grid, values, strict=True)) for values in itertools.product(*self.grid.values())
        ]
        return [
            merge(merge(self.common, nested(variant)), nested(point))
            for variant in self.variants
            for point in points
        ]


def load_sweep(name: str, overrides: Sequence[str] = (), variant: str | None = None) -> Sweep:
    """Read a sweep and check each of its experiments.

    Args:
        name: of a file in sweeps/, without .yaml.
        variant: the name of the only one that is wanted.
        overrides: `key=value`, for all experiments; a key of the grid then has this value alone.

    Raises:
        InputError: no such sweep or variant, a key or value it must not have, an override of what tells its
            variants apart, or an experiment that breaks the schema.
    """
    path, content = read_named(FOLDER, name, kind="sweep")
    return make_sweep(name, content, path, overrides, variant)


def make_sweep(
    name: str, content: Any, path: Path, overrides: Sequence[str] = (), variant: str | None = None
) -> Sweep:
    """The sweep of such a file's content; `path` is where it stands, for errors.

    Raises:
        InputError: as `load_sweep`.
    """
    _check_shape(path, content)
    common = load_presets(content.get("presets", []))
    ours = read_yaml(PARAMS)
    settings = _flat(content.get("settings", {}), ours, f"{path}, settings")
    wanted = _wanted(path, content.get("variants", [{}]), variant)
    variants = tuple(_flat(part, ours, f"{path}, variants") for part in wanted)
    chosen = _flat(flat_overrides(overrides), ours, "-S")
    for key, value in chosen.items():
        if any(key in variant for variant in variants):
            raise InputError(f"-S: {key} is {value!r}, but must be left to the variants of {path}.")
    _check_set_once(path, settings, variants, _flat(content["grid"], ours, f"{path}, grid"))
    grid = {key: [chosen[key]] if key in chosen else values for key, values in content["grid"].items()}
    number = len(variants) * math.prod(map(len, grid.values()))
    if number > MAX_EXPERIMENTS:
        raise InputError(f"{path} must make at most {MAX_EXPERIMENTS:,} experiments, not {number:,}.")
    sweep = Sweep(name, merge(merge(common, nested(settings)), nested(chosen)), variants, grid)
    for experiment in sweep.experiments():
        check_params(merge(ours, experiment), source=f"{PARAMS} with sweep {name}")
    return sweep


def _check_shape(path: Path, content: Any) -> None:
    """Refuse a file whose parts are not what they must be, whatever params.yaml says of their keys."""
    rule = f"{path} must hold a grid, and may hold {', '.join(KEYS[:-1])}; nothing else"
    for key in content if isinstance(content, dict) else ():
        if key not in KEYS:
            raise InputError(f"{rule}: unknown key {shown(key)}{did_you_mean(str(key), KEYS) or '.'}")
    if not isinstance(content, dict) or not content.get("grid"):
        raise InputError(f"{rule}.")

    def check(key: str, value: Any, fits: bool, rule: str) -> None:
        if not fits:
            raise InputError(f"{path}: {key[:200]} is {shown(value)}, but must be {rule}.")

    presets, variants = content.get("presets", []), content.get("variants", [{}])
    check("presets", presets, _is_list(presets, str), "a list of names")
    named = variants if isinstance(variants, dict) else {}
    fits = bool(variants) and _is_list(list(named.values()) if named else variants, dict)
    check("variants", variants, fits, "a list of settings, or settings by name")
    sections = {"settings": content.get("settings", {}), "grid": content["grid"]}
    sections |= {f"variants[{key}]": part for key, part in (named or dict(enumerate(variants))).items()}
    for key, value in sections.items():
        check(key, value, _is_settings(value), "settings, each as key: value")
    for key, values in content["grid"].items():
        is_list = isinstance(values, list)
        fits = is_list and not any(isinstance(value, dict) for value in values)
        check(f"grid.{key}", values, fits, "a list of values")
        check(f"grid.{key}", values, values != [], "a list of one value or more: it must not be empty")
        check(f"grid.{key}", values, not _repeated(values), "a list that holds each value once")


def _repeated(values: Sequence[Any]) -> list[Any]:
    """The values that stand in a list again."""
    return [value for position, value in enumerate(values) if value in values[:position]]


def _check_set_once(
    path: Path, settings: Settings, variants: Sequence[Settings], grid: Mapping[str, Any]
) -> None:
    """Refuse what the grid would overwrite, and variants that would be the same experiments.

    Raises:
        InputError: a key of the grid stands in settings or a variant, too, or two variants are the same.
    """
    for place, part in [("settings", settings), *(("a variant", variant) for variant in variants)]:
        if twice := [key for key in grid if key in part]:
            raise InputError(
                f"{path}: {twice[0]} stands in {place} and in grid, but must stand in one of them."
            )
    if same := _repeated(variants):
        raise InputError(f"{path}: two variants are {shown(same[0])}, but each must be another one.")


def _wanted(path: Path, variants: Any, name: str | None) -> list[Settings]:
    """The variants that take part: all, or the one of a name.

    Raises:
        InputError: none has the name.
    """
    named = variants if isinstance(variants, dict) else {}
    if name is None:
        return list(named.values()) or variants
    if name not in named:
        names = list(map(str, named))
        there = f"there are: {', '.join(names)}." if names else "its variants have no names."
        raise InputError(f"{path} has no variant {name!r}{did_you_mean(name, names) or f'; {there}'}")
    return [named[name]]


def _is_list(value: Any, kind: type) -> bool:
    return isinstance(value, list) and all(isinstance(part, kind) for part in value)


def _is_settings(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _flat(settings: Mapping[str, Any], ours: Settings, source: str) -> dict[str, Any]:
    """Settings with dotted keys alone.

    Raises:
        InputError: a value for a section of params.yaml, or below a setting of it. The schema would not see
            one of them where another part of the sweep sets something in the same section.
    """
    flat = flatten(nested(settings))
    for key, value in {**settings, **flat}.items():
        _check_key(key, value, ours, source)
    return flat


def _check_key(key: str, value: Any, ours: Settings, source: str) -> None:
    held: Any = ours
    for part in key.split("."):
        if not isinstance(held, Mapping):
            raise InputError(f"{source}: {key} is {value!r}, but must not stand below a setting.")
        if part not in held:
            return  # the schema knows whether there may be such a key
        held = held[part]
    if isinstance(held, Mapping) and not isinstance(value, Mapping):
        raise InputError(f"{source}: {key} is {value!r}, but must name a setting; it names a section.")
