"""The section `plot` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.detectors.settings import DetectorName
from osr.settings.base import MANY, Section
from osr.settings.own_code import OwnClass


class PlotSettings(Section):
    """How the figures look."""

    detector: Literal[DetectorName, "auto"] | OwnClass
    dpi: Annotated[int, Field(ge=30, le=600)]
    tsne_images: Annotated[int, Field(ge=10, le=MANY)]
    tsne_perplexity: Annotated[float, Field(gt=1, le=1e6)]
    umap: bool | Literal["auto"]
    gallery_images: Annotated[int, Field(ge=1, le=200)]
    vector: Literal["pdf", "svg", "none"]

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.tsne_perplexity >= self.tsne_images:
            raise ValueError(
                f"plot.tsne_perplexity is {self.tsne_perplexity:g}, but must be below plot.tsne_images "
                f"({self.tsne_images})"
            )
        return self
