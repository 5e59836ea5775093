"""The schema of params.yaml: every key is required, unknown ones are refused, ranges are checked."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from osr.errors import InputError

DatasetName = Literal["digits"]
DetectorName = Literal[
    "msp",
    "maxlogit",
    "energy",
    "entropy",
    "gen",
    "gradnorm",
    "mav",
    "openmax",
    "mahalanobis",
    "rmds",
    "knn",
    "nnguide",
    "vim",
    "klm",
    "she",
    "react",
    "ash",
    "scale",
    "dice",
    "fdbd",
]
LossName = Literal["ce"]
Space = Literal["features", "logits"]

Seed = Annotated[int, Field(ge=0, lt=2**32)]
Share = Annotated[float, Field(gt=0, lt=1)]
Count = Annotated[int, Field(ge=1)]
ClassName = Annotated[str | int, Field(union_mode="left_to_right")]


class Section(BaseModel):
    """Base of every section: frozen, strict about types, unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _lists_are_tuples(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class DatasetSettings(Section):
    """Which images."""

    name: DatasetName


class SplitSettings(Section):
    """Which classes are known and which images train, validate and test."""

    protocol: Literal["A", "explicit"]
    trial: Annotated[int, Field(ge=0)]
    known: tuple[ClassName, ...]
    unknown: tuple[ClassName, ...]
    val_fraction: Share
    test_fraction: Share
    seed: Seed

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"split.val_fraction is {self.val_fraction} and split.test_fraction is {self.test_fraction}, "
                "but their sum must be below 1, so that images are left to train on"
            )
        lists = {"split.known": self.known, "split.unknown": self.unknown}
        if self.protocol != "explicit":
            filled = [f"{key} is {list(classes)}" for key, classes in lists.items() if classes]
            if filled:
                raise ValueError(
                    f"{' and '.join(filled)}, but must be [] while split.protocol is {self.protocol!r}; "
                    "explicit takes your lists"
                )
            return self
        for (key, classes), fewest in zip(lists.items(), (2, 1), strict=True):
            if len(classes) < fewest:
                raise ValueError(
                    f"{key} is {list(classes)}, but must hold at least {fewest} of the classes when "
                    "split.protocol is 'explicit'"
                )
        return self


class BackboneSettings(Section):
    """The network from image to features, and where its weights come from."""

    name: str
    weights: str


class NeckSettings(Section):
    """What stands between backbone and head."""

    name: Literal["identity", "linear"]
    width: Count


class HeadSettings(Section):
    """The linear classifier."""

    bias: bool


class ModelSettings(Section):
    """Backbone, neck and head."""

    image_size: Annotated[int, Field(ge=4)] | Literal["auto"]
    backbone: BackboneSettings
    neck: NeckSettings
    head: HeadSettings


class TrainSettings(Section):
    """How the network learns."""

    seed: Seed
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    loss: LossName
    label_smoothing: Annotated[float, Field(ge=0, lt=1)]
    optimizer: Literal["adamw", "sgd"]
    lr: Annotated[float, Field(gt=0)]
    momentum: Annotated[float, Field(ge=0, lt=1)]
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_epochs: Annotated[int, Field(ge=0)]
    shift_pixels: Annotated[int, Field(ge=0)]
    accelerator: Literal["auto", "cpu", "gpu"]
    precision: Literal["32-true", "bf16-mixed", "16-mixed"]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"train.warmup_epochs is {self.warmup_epochs}, but must be below train.epochs, {self.epochs}"
            )
        return self


class ExtractionSettings(Section):
    """Forward passes without training."""

    batch_size: Count


class CalibrateSettings(Section):
    """The bracket of the temperature search, and the bins of the calibration error."""

    min_temperature: Annotated[float, Field(gt=0)]
    max_temperature: Annotated[float, Field(gt=0)]
    ece_bins: Count

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if not self.min_temperature < 1 < self.max_temperature:
            raise ValueError(
                f"calibrate.min_temperature is {self.min_temperature} and calibrate.max_temperature is "
                f"{self.max_temperature}, but the first must be below 1 and the second above 1"
            )
        return self


class EnergySettings(Section):
    """Energy score (Liu et al. 2020)."""

    temperature: Annotated[float, Field(gt=0)]


class GenSettings(Section):
    """Generalised entropy (Liu et al. 2023)."""

    gamma: Share
    num_top: Count


class MavSettings(Section):
    """Distance to the nearest mean activation vector."""

    space: Space


class OpenMaxSettings(Section):
    """OpenMax (Bendale and Boult 2016) and its dialects."""

    space: Space
    distance: Literal["euclidean", "cosine", "eucos"]
    tail_size: Annotated[int, Field(ge=2)]
    alpha: Count
    weighting: Literal["code", "paper"]
    correct_only: bool


class GaussianSettings(Section):
    """Mahalanobis distances (Lee et al. 2018) and their relative form (Ren et al. 2021)."""

    ridge: Annotated[float, Field(gt=0, le=1)]


class KnnSettings(Section):
    """Distance to the k-th nearest training feature (Sun et al. 2022)."""

    num_neighbors: Count


class NNGuideSettings(Section):
    """Nearest neighbour guidance (Park et al. 2023)."""

    num_neighbors: Count
    bank_fraction: Annotated[float, Field(gt=0, le=1)]
    seed: Seed


class VimSettings(Section):
    """Virtual-logit matching (Wang et al. 2022)."""

    dimension: Count | Literal["auto"]


class ReactSettings(Section):
    """Rectified activations (Sun et al. 2021)."""

    quantile: Share


class AshSettings(Section):
    """Activation shaping (Djurisic et al. 2023)."""

    variant: Literal["S", "B", "P"]
    pruned_fraction: Share


class ScaleSettings(Section):
    """Activation scaling (Xu et al. 2024)."""

    pruned_fraction: Share


class DiceSettings(Section):
    """Sparsified head (Sun and Li 2022)."""

    masked_fraction: Share


class DetectorsSettings(Section):
    """Which detectors are fitted, each with its settings, and what their thresholds aim at."""

    enabled: tuple[DetectorName, ...]
    target_acceptance: Share
    energy: EnergySettings
    gen: GenSettings
    mav: MavSettings
    openmax: OpenMaxSettings
    mahalanobis: GaussianSettings
    rmds: GaussianSettings
    knn: KnnSettings
    nnguide: NNGuideSettings
    vim: VimSettings
    react: ReactSettings
    ash: AshSettings
    scale: ScaleSettings
    dice: DiceSettings

    @field_validator("enabled")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("detectors.enabled is [], but must hold at least one detector")
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"detectors.enabled is {list(names)}, but must hold each detector once, "
                f"not several times {', '.join(repeated)}"
            )
        return names


class EvaluateSettings(Section):
    """Bootstrap intervals."""

    bootstrap_replicates: Annotated[int, Field(ge=100)]
    confidence: Share
    seed: Seed


class PlotSettings(Section):
    """How the figures look."""

    detector: DetectorName
    dpi: Annotated[int, Field(ge=30, le=600)]
    tsne_images: Annotated[int, Field(ge=10)]
    tsne_perplexity: Annotated[float, Field(gt=1)]
    tsne_seed: Seed


class Params(Section):
    """The whole of params.yaml."""

    dataset: DatasetSettings
    split: SplitSettings
    model: ModelSettings
    train: TrainSettings
    extraction: ExtractionSettings
    calibrate: CalibrateSettings
    detectors: DetectorsSettings
    evaluate: EvaluateSettings
    plot: PlotSettings

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.plot.detector not in self.detectors.enabled:
            raise ValueError(
                f"plot.detector is {self.plot.detector!r}, but must be one of detectors.enabled: "
                f"{', '.join(self.detectors.enabled)}"
            )
        return self


def load_params(path: Path) -> Params:
    """Read and check a params.yaml.

    Raises:
        InputError: the file is missing, is no YAML, or breaks the schema; one sentence per broken rule.
    """
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} is missing: every setting of the experiment stands in it.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as text: {error}.") from None
    except YAMLError as error:
        raise InputError(f"{path} is not valid YAML{_yaml_problem(error)}.") from None
    return check_params(content, source=str(path))


def check_params(content: Any, *, source: str) -> Params:
    """Check settings that were read from `source`.

    Raises:
        InputError: one sentence per broken rule: key, rule, value, choices.
    """
    if content is None:
        raise InputError(f"{source} is empty: every setting of the experiment stands in it.")
    if not isinstance(content, dict):
        raise InputError(f"{source} must hold sections of settings, not {content!r}.")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        details = [dict(detail) for detail in error.errors(include_url=False)]
        raise InputError("\n".join(f"{source}: {sentence}" for sentence in _sentences(details))) from None


def flatten(params: BaseModel | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, as `dvc exp run -S` and the MLflow row name them."""
    content = params.model_dump(mode="json") if isinstance(params, BaseModel) else params
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


# What pydantic's error types ask for, in words of this file's readers.
_RULES = {
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "string_type": "text",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "model_type": "a section of settings",
    "greater_than": "above {gt:.12g}",
    "greater_than_equal": "at least {ge:.12g}",
    "less_than": "below {lt:.12g}",
    "less_than_equal": "at most {le:.12g}",
}


def _sentences(details: list[dict[str, Any]]) -> list[str]:
    """Pydantic's errors as one sentence for each key; it reports every branch of a union on its own."""
    of_key: dict[str, list[dict[str, Any]]] = {}
    for detail in details:
        key, detail["section"] = _place(detail["loc"])
        of_key.setdefault(key, []).append(detail)
    sentences = [_sentence(key, errors) for key, errors in of_key.items() if errors[0]["type"] != "missing"]
    for key, errors in of_key.items():
        # A misspelt key is unknown, and missing under its right name: one mistake, one sentence.
        if errors[0]["type"] == "missing" and not any(f"did you mean {key!r}" in text for text in sentences):
            sentences.append(f"the key {key!r} is missing; every setting must be given.")
    return sentences


def _sentence(key: str, errors: list[dict[str, Any]]) -> str:
    """The errors of one key as one sentence."""
    first = errors[0]
    match first["type"]:
        case "extra_forbidden" | "invalid_key":
            section, _, name = key.rpartition(".")
            known = first["section"].model_fields
            guess = _did_you_mean(name, known, section) or f"; known keys here: {', '.join(known)}."
            return f"unknown key {key!r}{guess}"
        case "value_error":
            return f"{first['ctx']['error']}."
    rules = " or ".join(_rule(detail) for detail in errors)
    choices = [
        choice for detail in errors if detail["type"] == "literal_error" for choice in _choices(detail)
    ]
    guess = _did_you_mean(str(first["input"]), choices) or "."
    return f"{key} is {_shown(first['input'])}, but must be {rules}{guess}"


def _rule(detail: dict[str, Any]) -> str:
    if detail["type"] == "literal_error":
        choices = _choices(detail)
        return ("one of " if len(choices) > 1 else "") + ", ".join(map(repr, choices))
    return _RULES[detail["type"]].format(**detail.get("ctx", {}))


def _choices(detail: dict[str, Any]) -> list[str]:
    return re.findall(r"'([^']*)'", detail["ctx"]["expected"])


def _shown(value: Any) -> str:
    """A value as it stands in the file."""
    match value:
        case None:
            return "empty"
        case bool():
            return str(value).lower()
        case tuple():
            return repr(list(value))
    return repr(value)


def _place(location: tuple[int | str, ...]) -> tuple[str, type[Section]]:
    """The key as its user writes it, and the section it stands in."""
    key = ""
    section: type[Section] = Params
    for depth, part in enumerate(location):
        key = _dotted(key, str(part))
        field = section.model_fields.get(str(part))
        inner = field.annotation if field else None
        if not (isinstance(inner, type) and issubclass(inner, Section) and location[depth + 1 :]):
            # What follows are positions in a list, and pydantic's names for the branches of a union.
            return key + "".join(f"[{i}]" for i in location[depth + 1 :] if isinstance(i, int)), section
        section = inner
    return key, section


def _dotted(prefix: str, name: str) -> str:
    return f"{prefix}.{name}" if prefix else name


def _did_you_mean(word: str, choices: Iterable[str], section: str = "") -> str:
    """The end of a sentence that names the nearest choice, whatever the case; empty when none is near."""
    of_lower = {choice.lower(): choice for choice in choices}
    guesses = difflib.get_close_matches(word.lower(), of_lower, n=1)
    return f"; did you mean {_dotted(section, of_lower[guesses[0]])!r}?" if guesses else ""


def _yaml_problem(error: YAMLError) -> str:
    """Line and problem of a parser's error; without a mark, all it says."""
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        return f", line {error.problem_mark.line + 1}: {error.problem}"
    return f": {' '.join(str(error).split())}"
