"""What a SPACE.yaml of `osr search` says, checked: what is varied, how often, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from osr.detectors.registry import DETECTORS
from osr.errors import InputError
from osr.params import Params, check_params, flatten
from osr.settings.base import Count, CountOrZero, Section, Seed
from osr.settings.guesses import did_you_mean
from osr.settings.reading import read_yaml
from osr.settings.sentences import sentences
from pipeline.experiments.identity import decides
from pipeline.experiments.overrides import merge, nested
from pipeline.experiments.preset import Settings, load_presets, override_text
from pipeline.workspace.stages import PARAMS

LEARNED = ("model", "train", "losses", "detectors")  # sections that change what known classes tell
VARIANT = "variant"
_RANGE = ("low", "high", "step", "log")
Names = tuple[Annotated[str, Field(min_length=1)], ...]


class _File(Section):
    """The keys of a SPACE.yaml; docs/search.md says what they mean."""

    presets: Names = ()
    settings: dict[str, Any] = Field(default_factory=dict)
    space: dict[str, Any]
    variants: tuple[dict[str, Any], ...] = ()
    trials: Count
    split_trials: tuple[CountOrZero, ...]
    parts: Annotated[int, Field(ge=2, le=1000)]
    trainings: Count | Literal["all"]
    detector: Annotated[str, Field(min_length=1)]
    prune_at: tuple[Count, ...]
    prune_after: CountOrZero
    seed: Seed


@dataclass(frozen=True)
class Range:
    """Numbers from low to high, whole ones if `whole`; in equal steps, or evenly on a logarithmic scale."""

    low: float
    high: float
    step: float | None
    log: bool
    whole: bool

    def holds(self, value: Any) -> bool:
        """Whether a value lies in it."""
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not self.low <= value <= self.high
        ):
            return False
        steps = 0.0 if self.step is None else (value - self.low) / self.step
        return abs(steps - round(steps)) < 1e-6


@dataclass(frozen=True)
class Space:
    """What is searched.

    Args:
        name: of the file, without its ending.
        source: the file, for messages.
        common: settings of all trials, nested like params.yaml.
        ranges: dotted key -> numbers.
        choices: dotted key -> text of each value -> value; under `variant` settings that go together.
        rest: the other keys of the file.
    """

    name: str
    source: Path
    common: Settings
    ranges: Mapping[str, Range]
    choices: Mapping[str, Mapping[str, Any]]
    rest: _File

    def settings(self, point: Mapping[str, Any]) -> Settings:
        """What a trial changes in params.yaml: key -> number, or text of the choice."""
        changes = self.common
        for key, value in point.items():
            chosen = self.choices[key][value] if key in self.choices else value
            changes = merge(changes, nested(chosen if key == VARIANT else {key: chosen}))
        return changes

    def default(self, params: Params) -> dict[str, Any] | None:
        """The point that is params.yaml with the common settings; None where it lies outside of the space."""
        flat, point = flatten(params), {}
        for key, numbers in self.ranges.items():
            if not numbers.holds(flat.get(key)):
                return None
            point[key] = flat[key]
        for key, choices in self.choices.items():
            same = [text for text, value in choices.items() if _agrees(value, flat, key)]
            if not same:
                return None
            point[key] = same[0]
        return point


def load_space(path: Path) -> Space:
    """Read a space and check it against params.yaml.

    Raises:
        InputError: one sentence per fault: a key that must not be there, or a range or choice that the
            settings refuse.
    """
    content = read_yaml(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold the keys {', '.join(_File.model_fields)}.")
    try:
        rest = _File.model_validate(content)
    except ValidationError as error:
        told = sentences(error, _File)
    else:
        return _space(path, rest)
    raise InputError("\n".join(f"{path}: {text}" for text in told))


def _space(path: Path, rest: _File) -> Space:
    common = merge(load_presets(rest.presets), nested(rest.settings))
    ours = read_yaml(PARAMS)
    base = check_params(merge(ours, common), source=f"{path}, settings")
    if not rest.space and not rest.variants:
        raise InputError(f"{path}: space is {{}}, but must hold a key of {PARAMS}, or `variants` must.")
    if base.train.regime == "none":
        raise InputError(f"{path}: train.regime is 'none', which learns nothing: there is nothing to search.")
    if base.train.devices not in (1, "auto") or base.train.num_nodes != 1:
        raise InputError(f"{path}: train.devices and train.num_nodes must be 1 in a search.")
    _check_detector(path, rest.detector, merge(ours, common))
    faults: list[str] = []
    ranges: dict[str, Range] = {}
    choices: dict[str, Mapping[str, Any]] = {}
    for key, values in rest.space.items():
        try:
            _check_key(key, base)
            if isinstance(values, dict):
                ranges[key] = _range(key, values, merge(ours, common))
            else:
                choices[key] = _choices(key, values, merge(ours, common))
        except InputError as error:
            faults.append(f"{path}, space: {error}")
    try:
        if rest.variants:
            choices[VARIANT] = _variants(rest.variants, rest.space, base, merge(ours, common))
    except InputError as error:
        faults.append(f"{path}, variants: {error}")
    if faults:
        raise InputError("\n".join(faults))
    return Space(path.stem, path, common, ranges, choices, rest)


def _check_detector(path: Path, name: str, ours: Settings) -> None:
    names = [each for each in DETECTORS if each != "odin"]  # which needs the network again
    if name not in names:
        hint = did_you_mean(name, names) or "."
        raise InputError(f"{path}: detector is {name!r}, but must be one of {', '.join(names)}{hint}")
    alone = {"detectors": {"enabled": [name]}, "plot": {"detector": name}}
    check_params(merge(ours, alone), source=f"{path}, detector")


def _check_key(key: str, base: Params) -> None:
    """Refuse keys that do not change what is learned from known classes, or choose luck."""
    section = key.partition(".")[0]
    if section not in Params.model_fields:
        _checked(key, 0, base.model_dump(mode="json"))
    if section not in LEARNED or not decides(key, base):
        raise InputError(
            f"{key} must be a key of {', '.join(LEARNED)} that changes what is learned; others change which "
            "images are judged, or nothing."
        )
    if key in ("train.seed", "detectors.enabled"):
        raise InputError(f"{key} must stay as it is: a seed is luck, and `detector` says which score judges.")


def _range(key: str, values: Mapping[str, Any], ours: Settings) -> Range:
    shown = f"{key} is {_text(values)}, but must be"
    form = "{low: …, high: …}, and may hold a step, or log: true"
    if not {"low", "high"} <= values.keys() <= set(_RANGE):
        raise InputError(f"{shown} {form}.")
    numbers = {name: values[name] for name in ("low", "high", "step") if name in values}
    log = values.get("log", False)
    if not isinstance(log, bool) or not all(_is_number(value) for value in numbers.values()):
        raise InputError(f"{shown} {form}; with numbers, and true or false.")
    low, high, step = values["low"], values["high"], values.get("step")
    if not low < high:
        raise InputError(f"{shown} a range whose low is below its high.")
    if log and (low <= 0 or step is not None):
        raise InputError(f"{shown} above 0 and without a step while log is true.")
    ends = [flatten(_checked(key, end, ours))[key] for end in (low, high)]
    whole = isinstance(ends[0], int)
    if step is not None:
        if step <= 0 or (whole and not isinstance(step, int)):
            raise InputError(f"{shown} a range with a step above 0{', a whole number' if whole else ''}.")
        count = (high - low) / step
        if abs(count - round(count)) > 1e-6:
            raise InputError(f"{shown} a range from low to high in whole steps.")
    return Range(ends[0], ends[1], step, log, whole)


def _choices(key: str, values: Any, ours: Settings) -> dict[str, Any]:
    if not isinstance(values, list | tuple) or len(values) < 2:
        raise InputError(f"{key} is {_text(values)}, but must be a range, or a list of 2 values or more.")
    for value in values:
        _checked(key, value, ours)
    texts = [override_text(list(value) if isinstance(value, tuple) else value) for value in values]
    if len(set(texts)) < len(texts):
        raise InputError(f"{key} is {_text(values)}, but must be values that differ.")
    return dict(zip(texts, values, strict=True))


def _variants(
    variants: Sequence[Mapping[str, Any]], space: Mapping[str, Any], base: Params, ours: Settings
) -> dict[str, Any]:
    """Settings that go together, by their number."""
    if len(variants) < 2:
        raise InputError("there must be 2 or more.")
    for number, variant in enumerate(variants):
        for key in flatten(nested(variant)):
            _check_key(key, base)
            if key in space:
                raise InputError(f"{key} stands in `space`, too: it must stand in one of them.")
        check_params(merge(ours, nested(variant)), source=f"the one at place {number}")
    return {str(number): variant for number, variant in enumerate(variants)}


def _checked(key: str, value: Any, ours: Settings) -> Params:
    """All settings with this value.

    Raises:
        InputError: the settings refuse it: the key, the value, the rule.
    """
    try:
        return check_params(merge(ours, nested({key: value})), source="")
    except InputError as error:
        raise InputError(str(error).replace("\n: ", " And ").removeprefix(": ")) from None


def _agrees(value: Any, flat: Mapping[str, Any], key: str) -> bool:
    wanted = flatten(nested(value)) if key == VARIANT else {key: value}
    return all(
        flat.get(name) == (list(held) if isinstance(held, tuple) else held) for name, held in wanted.items()
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _text(value: Any) -> str:
    return override_text(list(value) if isinstance(value, tuple) else value)
