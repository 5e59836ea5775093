"""The schema of the `detectors` section: one class for each detector that has settings."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from osr.settings.base import MANY, Count, Positive, Section, Share, Space, ThresholdRule, Weight
from osr.settings.own_code import OwnClass, is_custom

Distance = Literal["euclidean", "cosine", "eucos"]
BankFraction = Annotated[float, Field(ge=1e-9, le=1)]

DetectorName = Literal[
    "msp",
    "maxlogit",
    "energy",
    "entropy",
    "gen",
    "kplus1",
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
    "nci",
    "cosine",
    "rcos",
    "pnml",
    "relation",
    "neco",
    "residual",
    "postmax",
    "odin",
    "rotpred",
    "ensemble",
]


class EnergySettings(Section):
    """Energy score (Liu et al. 2020)."""

    temperature: Positive


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
    distance: Distance
    tail_size: Annotated[int, Field(ge=2, le=MANY)]
    alpha: Count
    weighting: Literal["code", "paper"]
    correct_only: bool
    translation: Literal["none", "libmr", "osdn"]


class GaussianSettings(Section):
    """Mahalanobis distances (Lee et al. 2018) and their relative form (Ren et al. 2021)."""

    ridge: Annotated[float, Field(ge=1e-12, le=1e6)] | Literal["auto"]
    normalize: bool


class KnnSettings(Section):
    """Distance to the k-th nearest training feature (Sun et al. 2022)."""

    num_neighbors: Count
    bank_fraction: BankFraction


class NNGuideSettings(Section):
    """Nearest neighbour guidance (Park et al. 2023)."""

    num_neighbors: Count
    bank_fraction: BankFraction


class VimSettings(Section):
    """Virtual-logit matching and its residual alone (Wang et al. 2022)."""

    dimension: Count | Literal["auto"]


class ReactSettings(Section):
    """Rectified activations (Sun et al. 2021), from below, too, in VRA (Xu et al. 2023)."""

    quantile: Share
    lower_quantile: Annotated[float, Field(ge=0, lt=1)]

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.lower_quantile >= self.quantile:
            raise ValueError(
                f"detectors.react.lower_quantile is {self.lower_quantile:g}, but must be below "
                f"detectors.react.quantile ({self.quantile:g})"
            )
        return self


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


class NciSettings(Section):
    """Neural-collapse score (Liu and Qin 2025)."""

    alpha: Weight


class RelationSettings(Section):
    """Relations with training images (Kim et al. 2023)."""

    power: Positive
    bank_fraction: BankFraction


class NecoSettings(Section):
    """Share of the principal directions (Ammar et al. 2024)."""

    dimension: Count | Literal["auto"]
    by_maxlogit: bool


class OdinSettings(Section):
    """ODIN (Liang et al. 2018), which needs the network again."""

    temperature: Positive
    epsilon: Weight


class EnsembleSettings(Section):
    """Several detectors on one scale."""

    members: tuple[DetectorName | OwnClass, ...]

    @field_validator("members")
    @classmethod
    def _two_or_more(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(names) < 2 or "ensemble" in names:
            raise ValueError(
                f"detectors.ensemble.members is {list(names)}, but must hold at least two detectors, and not "
                "the ensemble itself"
            )
        return each_once(names, "detectors.ensemble.members")


class DetectorsSettings(Section):
    """Which detectors are fitted, each with its settings, and what their thresholds aim at."""

    enabled: tuple[DetectorName | OwnClass, ...]
    options: dict[str, dict[str, Any]]
    threshold_rule: ThresholdRule
    target_acceptance: Share
    target_false_acceptance: Share
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
    nci: NciSettings
    relation: RelationSettings
    neco: NecoSettings
    residual: VimSettings
    odin: OdinSettings
    ensemble: EnsembleSettings

    @property
    def ranked(self) -> tuple[str, ...]:
        """The members of an enabled ensemble, which learn their scale from the training images."""
        return self.ensemble.members if "ensemble" in self.enabled else ()

    @property
    def used(self) -> tuple[str, ...]:
        """The enabled detectors, and the members of an enabled ensemble."""
        return self.enabled + self.ranked

    @field_validator("enabled")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if not names:
            raise ValueError("detectors.enabled is [], but must hold at least one detector")
        return each_once(names, "detectors.enabled")

    @property
    def own(self) -> tuple[str, ...]:
        """The `module:Class` of each detector of the user's that is used."""
        return tuple(dict.fromkeys(filter(is_custom, self.used)))

    @model_validator(mode="after")
    def _options_of_own(self) -> Self:
        for name in self.options:
            if name not in self.own:
                raise ValueError(
                    f"detectors.options holds {name!r}, but must hold settings of those detectors alone that "
                    f"are your own and used: {', '.join(self.own) or 'there is none'}"
                )
        return self


def each_once(names: tuple[str, ...], key: str) -> tuple[str, ...]:
    """The names, none of which stands twice; `key` stands in the error."""
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise ValueError(
            f"{key} is {list(names)}, but must hold each detector once, "
            f"not several times {', '.join(repeated)}"
        )
    return names
