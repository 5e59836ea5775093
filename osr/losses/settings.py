"""The schema of the `losses` section: one class for each loss that has settings of its own."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from osr.settings.base import Positive, Section, Weight

LossName = Literal[
    "ce",
    "logitnorm",
    "logit_adjusted",
    "one_vs_rest",
    "center",
    "arpl",
    "entropic",
    "objectosphere",
    "outlier_exposure",
    "energy_reg",
    "kplus1",
    "proser",
    "penalty",
    "threshold",
    "combined",
    "supcon",
]
# What the schema must know of the losses without importing them; a test compares.
SOFT_LABEL_LOSSES: tuple[LossName, ...] = ("ce", "logitnorm", "logit_adjusted", "one_vs_rest")
EXTRA_CLASS_LOSSES: tuple[LossName, ...] = ("kplus1", "proser", "penalty", "threshold", "combined")
BACKGROUND_LOSSES: tuple[LossName, ...] = (
    *("entropic", "objectosphere", "outlier_exposure", "energy_reg"),
    *("kplus1", "penalty", "threshold", "combined"),
)

Shape = Annotated[float, Field(ge=1e-3, le=1e3)]  # of a Beta distribution: below, its draws underflow
Energy = Annotated[float, Field(ge=-1e6, le=1e6)]
Rho = Annotated[float, Field(ge=1, le=1e6)]
Tau = Annotated[float, Field(ge=0, le=1)]


class LogitNormSettings(Section):
    """Logit normalisation (Wei et al. 2022)."""

    temperature: Positive


class LogitAdjustedSettings(Section):
    """Logit-adjusted cross-entropy (Menon et al. 2021)."""

    tau: Weight


class CenterSettings(Section):
    """Center loss (Wen et al. 2016)."""

    weight: Positive


class ArplSettings(Section):
    """Reciprocal points (Chen et al. 2021)."""

    weight: Weight
    margin: Weight


class ObjectosphereSettings(Section):
    """Objectosphere loss (Dhamija et al. 2018)."""

    weight: Weight
    min_norm: Positive


class OutlierExposureSettings(Section):
    """Outlier exposure (Hendrycks et al. 2019)."""

    weight: Weight


class EnergyRegSettings(Section):
    """Energy-bounded learning (Liu et al. 2020)."""

    weight: Weight
    known_energy: Energy
    background_energy: Energy

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.known_energy >= self.background_energy:
            raise ValueError(
                f"losses.energy_reg.known_energy is {self.known_energy}, but must be below "
                f"losses.energy_reg.background_energy, {self.background_energy}"
            )
        return self


class ProserSettings(Section):
    """Placeholders for unknowns (Zhou et al. 2021)."""

    second_weight: Weight
    mixed_weight: Weight
    alpha: Shape


class PenaltySettings(Section):
    """The seed's penalty on images of the extra class that a known class wins."""

    rho: Rho


class ThresholdSettings(Section):
    """The seed's margin below a known probability."""

    tau: Tau


class CombinedSettings(Section):
    """The seed's penalty and threshold, weighted; rho and tau are theirs."""

    alpha_p: Weight
    alpha_t: Weight


class SupConSettings(Section):
    """Supervised contrastive loss (Khosla et al. 2020)."""

    temperature: Positive


class RotationSettings(Section):
    """Quarter turns told apart by a second head (Hendrycks et al. 2019), beside any loss."""

    weight: Positive


class LossesSettings(Section):
    """The settings of each loss; `train.loss` chooses one, `model.rotation_head` adds `rotation`.

    `options` are those of a class of the user's own.
    """

    options: dict[str, Any]
    logitnorm: LogitNormSettings
    logit_adjusted: LogitAdjustedSettings
    center: CenterSettings
    arpl: ArplSettings
    objectosphere: ObjectosphereSettings
    outlier_exposure: OutlierExposureSettings
    energy_reg: EnergyRegSettings
    proser: ProserSettings
    penalty: PenaltySettings
    threshold: ThresholdSettings
    combined: CombinedSettings
    supcon: SupConSettings
    rotation: RotationSettings
