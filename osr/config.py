"""The schema of params.yaml: every key is required, unknown ones are refused, ranges are checked."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

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
ClassName = Annotated[int | str, Field(union_mode="left_to_right")]


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
                "val_fraction + test_fraction must be below 1, so that images are left to train on"
            )
        lists = {"known": self.known, "unknown": self.unknown}
        if self.protocol != "explicit":
            filled = [name for name, classes in lists.items() if classes]
            if filled:
                raise ValueError(f"{' and '.join(filled)} must be [] unless protocol is explicit")
            return self
        if len(self.known) < 2:
            raise ValueError("known must name at least 2 classes when protocol is explicit")
        if not self.unknown:
            raise ValueError("unknown must name at least 1 class when protocol is explicit")
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
            raise ValueError("warmup_epochs must be below epochs")
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
            raise ValueError("min_temperature must be below 1 and max_temperature above 1")
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

    enabled: tuple[DetectorName, ...] = Field(min_length=1)
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
    def _no_repeats(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"each detector may stand in the list once; repeated: {', '.join(repeated)}")
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
                f"plot.detector is {self.plot.detector!r}, which detectors.enabled does not list: "
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
    except YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    return check_params(content, source=str(path))


def check_params(content: Any, *, source: str) -> Params:
    """Check settings that were read from `source`.

    Raises:
        InputError: one sentence per broken rule: key, rule, value, choices.
    """
    if not isinstance(content, dict):
        raise InputError(f"{source} must hold sections of settings, not {content!r}.")
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        sentences = [_sentence(dict(detail), source) for detail in error.errors()]
        raise InputError("\n".join(dict.fromkeys(sentences))) from None


def flatten(params: BaseModel | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, as `dvc exp run -S` and the MLflow row name them."""
    content = params.model_dump(mode="json") if isinstance(params, BaseModel) else params
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _sentence(detail: dict[str, Any], source: str) -> str:
    """One pydantic error as one sentence."""
    location, value = detail["loc"], detail.get("input")
    model = _model_at(location)
    # Union branches append their own tags to the location; the user's key ends before them.
    key = ".".join(str(part) for part in location if not str(part).startswith(("int", "literal[", "str")))
    match detail["type"]:
        case "extra_forbidden":
            return (
                f"{source}: unknown key {key!r}{_did_you_mean(str(location[-1]), list(model.model_fields))}."
            )
        case "missing":
            return f"{source}: the key {key!r} is missing; every setting must be given."
        case "literal_error":
            choices = detail["ctx"]["expected"].replace(" or ", ", ")
            guess = _did_you_mean(
                str(value), [choice.strip("' ") for choice in choices.split(",")], only_guess=True
            )
            return f"{source}: {key} is {value!r}, but must be one of {choices}{guess}."
        case "value_error":
            where = f"{key}: " if key else ""
            return f"{source}: {where}{detail['ctx']['error']}{_value(value)}."
        case _:
            rule = detail["msg"].removeprefix("Input should be ").removeprefix("a valid ")
            return f"{source}: {key} is {value!r}, but must be {rule}."


def _value(value: Any) -> str:
    return "" if isinstance(value, dict | BaseModel) else f" (is {value!r})"


def _model_at(location: tuple[Any, ...]) -> type[BaseModel]:
    """The section that a location's last key stands in."""
    model: type[BaseModel] = Params
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is None or not (
            isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
        ):
            break
        model = field.annotation
    return model


def _did_you_mean(word: str, choices: list[str], *, only_guess: bool = False) -> str:
    guesses = difflib.get_close_matches(word, choices, n=1)
    if guesses:
        return f"; did you mean {guesses[0]!r}?" if not only_guess else f" (did you mean {guesses[0]!r}?)"
    return "" if only_guess else f"; known keys here: {', '.join(choices)}"
