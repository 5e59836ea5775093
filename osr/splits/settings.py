"""The section `split` of params.yaml."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from osr.settings.base import MANY, Count, CountOrZero, Section, Seed, Share

ProtocolName = Literal[
    "A",
    "A+10",
    "A+50",
    "B",
    "B+10",
    "B+50",
    "seed_8_2",
    "seed_9_1",
    "seed_7_3",
    "seed_5_5",
    "seed_40_3",
    "seed_37_6",
    "seed_34_9",
    "SSB_easy",
    "SSB_medium",
    "SSB_hard",
    "first_k",
    "random",
    "explicit",
]
ClassId = Annotated[int, Field(ge=0, le=MANY)]
ClassName = Annotated[str | ClassId, Field(union_mode="left_to_right")]


class SplitSettings(Section):
    """Which classes are known and which images train, validate and test."""

    protocol: ProtocolName
    lists_of: str
    trial: CountOrZero
    num_known: CountOrZero
    num_unknown: CountOrZero | Literal["all"]
    known: tuple[ClassName, ...]
    background: tuple[ClassName, ...]
    unknown: tuple[ClassName, ...]
    val_fraction: Share
    test_fraction: Share
    background_val_fraction: Annotated[float, Field(ge=0, lt=1)]
    duplicates: Literal["report", "drop", "error"]
    max_per_class: Count | Literal["none"]
    seed: Seed

    @model_validator(mode="after")
    def _fractions(self) -> Self:
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError(
                f"split.val_fraction is {self.val_fraction} and split.test_fraction is {self.test_fraction}, "
                "but their sum must be below 1, so that images are left to train on"
            )
        return self

    @model_validator(mode="after")
    def _lists(self) -> Self:
        if self.protocol != "explicit":
            lists = {"split.known": self.known, "split.unknown": self.unknown}
            filled = [f"{key} is {list(classes)}" for key, classes in lists.items() if classes]
            if filled:
                raise ValueError(
                    f"{' and '.join(filled)}, but must be [] while split.protocol is {self.protocol!r}; "
                    "explicit takes your lists"
                )
        elif len(self.known) == 1:
            raise ValueError(
                f"split.known is {list(self.known)}, but must hold at least 2 of the classes, or none, "
                "which means all others, when split.protocol is 'explicit'"
            )
        return self

    @model_validator(mode="after")
    def _counts(self) -> Self:
        counted = self.protocol in ("first_k", "random")
        if counted and self.num_known < 2:
            raise ValueError(
                f"split.num_known is {self.num_known}, but must be at least 2 when split.protocol is "
                f"{self.protocol!r}"
            )
        if not counted and (self.num_known, self.num_unknown) != (0, "all"):
            raise ValueError(
                f"split.num_known is {self.num_known} and split.num_unknown is {self.num_unknown}, but must "
                f"be 0 and all while split.protocol is {self.protocol!r}; first_k and random take numbers"
            )
        return self
