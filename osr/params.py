"""The schema of params.yaml: every key is required, unknown ones are refused, ranges are checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ValidationError, model_validator

from osr.calibration.settings import CalibrateSettings
from osr.data.settings import FLIP_SAFE, DatasetSettings
from osr.detectors.settings import DetectorsSettings
from osr.errors import InputError
from osr.inference.settings import ExtractionSettings
from osr.losses.settings import EXTRA_CLASS_LOSSES, LossesSettings
from osr.metrics.settings import EvaluateSettings
from osr.models.settings import ModelSettings
from osr.plots.settings import PlotSettings
from osr.settings.base import Section
from osr.settings.own_code import is_custom
from osr.settings.reading import check_tree, read_yaml
from osr.settings.sentences import sentences, shown
from osr.splits.settings import SplitSettings
from osr.training.settings import TrainSettings


class Params(Section):
    """The whole of params.yaml."""

    dataset: DatasetSettings
    split: SplitSettings
    model: ModelSettings
    train: TrainSettings
    losses: LossesSettings
    extraction: ExtractionSettings
    calibrate: CalibrateSettings
    detectors: DetectorsSettings
    evaluate: EvaluateSettings
    plot: PlotSettings

    @model_validator(mode="after")
    def _relations(self) -> Self:
        if self.plot.detector == "auto":
            if self.evaluate.estimate_folds == 0:
                raise ValueError(
                    "evaluate.estimate_folds is 0, but must be at least 2 when plot.detector is 'auto'"
                )
            if self.detectors.threshold_rule == "conformal_per_class":
                raise ValueError(
                    "plot.detector is 'auto', but must be one of detectors.enabled when "
                    "detectors.threshold_rule is 'conformal_per_class': thresholds per class are not made "
                    "without some of the classes"
                )
        elif self.plot.detector not in self.detectors.enabled:
            raise ValueError(
                f"plot.detector is {self.plot.detector!r}, but must be auto or one of detectors.enabled: "
                f"{', '.join(self.detectors.enabled)}"
            )
        self._check_regime()
        if self.train.loss == "arpl" and self.model.head.name != "reciprocal":
            raise ValueError(
                f"model.head.name is {self.model.head.name!r}, but must be 'reciprocal' when train.loss is "
                "'arpl'"
            )
        if self.train.loss == "supcon" and self.model.head.name != "linear":
            raise ValueError(
                f"model.head.name is {self.model.head.name!r}, but must be 'linear' when train.loss is "
                "'supcon', whose second phase is a logistic regression"
            )
        if self.train.augmentation.flip:
            self._check_flip()
        extra, needed = self.model.head.extra_classes, self.train.loss in EXTRA_CLASS_LOSSES
        if self.losses.options and not is_custom(self.train.loss):
            raise ValueError(
                f"losses.options is {self.losses.options}, but must be {{}} for train.loss "
                f"{self.train.loss!r}: only a class of your own takes options"
            )
        if needed != bool(extra) and not is_custom(self.train.loss):
            raise ValueError(
                f"model.head.extra_classes is {extra}, but must be {'at least 1' if needed else '0'} when "
                f"train.loss is {self.train.loss!r}; {', '.join(EXTRA_CLASS_LOSSES)} learn extra classes"
            )
        self._check_network_again()
        if self.train.loss == "objectosphere" and self.model.neck.name == "t2fnorm":
            raise ValueError(
                "model.neck.name is 't2fnorm', but must be another when train.loss is 'objectosphere', which "
                "learns from the length of the features: that neck makes all of one length"
            )
        held_out = self.split.background and self.split.background_val_fraction
        if self.detectors.threshold_rule == "background" and not held_out:
            raise ValueError(
                "detectors.threshold_rule is 'background', but must be acceptance or conformal unless "
                "split.background names classes and split.background_val_fraction is above 0"
            )
        if "kplus1" in self.detectors.used and not extra:
            raise ValueError(
                "detectors.enabled holds 'kplus1', but must not while model.head.extra_classes is 0: it "
                f"reads the extra class that train.loss {', '.join(EXTRA_CLASS_LOSSES)} learn"
            )
        return self

    @property
    def own_code(self) -> tuple[str, ...]:
        """Each `module:Class` that judging images may import: of the network and of the detectors."""
        return (self.model.backbone.name, *self.own_detectors)

    @property
    def own_detectors(self) -> tuple[str, ...]:
        """The `module:Class` of each detector of the user's that is used."""
        return self.detectors.own

    @property
    def rotation_weight(self) -> float:
        """Of the second head, against the loss; 0 without it."""
        return self.losses.rotation.weight if self.model.rotation_head else 0.0

    @property
    def learns_features(self) -> bool:
        """Whether the features have learned the known classes: here, or where a finished classifier was made.

        Not with a frozen backbone and a neck without weights.
        """
        if self.train.is_frozen:
            return self.train.regime == "none"
        return self.model.backbone.frozen_stages != "all" or self.model.neck.name == "linear"

    def check_training_images(self, counts: Mapping[str, int]) -> None:
        """Refuse a detector that needs more training images of each known class than there are.

        Args:
            counts: name of each known class -> its training images.

        Raises:
            InputError: OpenMax is used, alone or in an ensemble, and its tail is larger than a class.
        """
        fewest, tail_size = min(counts, key=counts.__getitem__), self.detectors.openmax.tail_size
        if "openmax" in self.detectors.used and counts[fewest] < tail_size:
            raise InputError(
                f"detectors.openmax.tail_size is {tail_size}, but must be at most {counts[fewest]}, the "
                f"training images of class {fewest!r}, which has the fewest; lower it, or leave openmax out "
                "of the detectors."
            )

    def _check_regime(self) -> None:
        """Refuse a backbone that never learns, and what a probe cannot fit."""
        regime, backbone, head = self.train.regime, self.model.backbone, self.model.head
        if backbone.frozen_stages != "auto" and regime != "tune_last":
            raise ValueError(
                f"model.backbone.frozen_stages is {backbone.frozen_stages!r}, but must be 'auto' unless "
                f"train.regime is 'tune_last'; it is {regime!r}"
            )
        if regime != "tune" and backbone.weights == "none" and ":" not in backbone.name:
            raise ValueError(
                f"train.regime is {regime!r}, but must be 'tune' while model.backbone.weights is 'none': "
                "what starts at random has to learn"
            )
        if regime == "none" and (self.model.neck.name, head.name, head.bias) != ("identity", "linear", True):
            raise ValueError(
                f"model.neck.name is {self.model.neck.name!r}, model.head.name {head.name!r} and "
                f"model.head.bias {str(head.bias).lower()}, but must be 'identity', 'linear' and true when "
                "train.regime is 'none': the head is the classifier of the weights"
            )
        if regime == "probe" and (self.model.neck.name, head.name) != ("identity", "linear"):
            raise ValueError(
                f"model.neck.name is {self.model.neck.name!r} and model.head.name is {head.name!r}, but must "
                "be 'identity' and 'linear' when train.regime is 'probe', which is a logistic regression; "
                "for others take tune_last with model.backbone.frozen_stages: all"
            )

    def _check_network_again(self) -> None:
        """Refuse detectors without what they ask of the network, and a second head that nobody trains."""
        used, extraction = self.detectors.used, self.extraction
        for name, key, is_on in (
            ("odin", "odin", extraction.odin),
            ("rotpred", "rotations", extraction.rotations),
        ):
            if name in used and not is_on:
                raise ValueError(
                    f"detectors.enabled holds {name!r}, but must not while extraction.{key} is false: it "
                    "needs the network again"
                )
        if extraction.rotations and not self.model.rotation_head:
            raise ValueError(
                "extraction.rotations is true, but must be false while model.rotation_head is false: there "
                "is no head that tells the turns apart"
            )
        if self.model.rotation_head and self.train.strategy == "fsdp":
            raise ValueError(
                "model.rotation_head is true, but must be false when train.strategy is 'fsdp', which shares "
                "out what one head reads"
            )
        if self.model.rotation_head and self.train.is_frozen:
            raise ValueError(
                f"model.rotation_head is true, but must be false when train.regime is {self.train.regime!r}, "
                "which trains no second head; take tune or tune_last"
            )

    def _check_flip(self) -> None:
        """Refuse to mirror images of named sets whose classes it changes, and of others by default."""
        names = {self.dataset.name, self.split.lists_of}
        never = sorted(name for name in names if FLIP_SAFE.get(name) is False)
        if never:
            raise ValueError(
                f"train.augmentation.flip is true, but must be false for {never[0]}: a mirrored image is no "
                "longer of its class"
            )
        if self.dataset.name not in FLIP_SAFE and self.dataset.flip_safe is not True:
            raise ValueError(
                "train.augmentation.flip is true, but must be false unless dataset.flip_safe is true, which "
                f"says that mirrored images of {self.dataset.name} keep their class"
            )


def load_params(path: Path) -> Params:
    """Read and check a params.yaml.

    Raises:
        InputError: the file is missing, is no YAML, or breaks the schema; one sentence per broken rule.
    """
    return check_params(read_yaml(path), source=str(path))


def check_params(content: Any, *, source: str) -> Params:
    """Check settings that were read from `source`.

    Raises:
        InputError: one sentence per broken rule: key, rule, value, choices.
    """
    if content is None:
        raise InputError(f"{source} is empty: every setting of the experiment stands in it.")
    if not isinstance(content, dict):
        raise InputError(f"{source} must hold sections of settings, not {shown(content)}.")
    check_tree(content, source=source)
    try:
        return Params.model_validate(content)
    except ValidationError as error:
        raise InputError("\n".join(f"{source}: {text}" for text in sentences(error, Params))) from None


def flatten(params: BaseModel | dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted keys, as `dvc exp run -S` and the MLflow row name them."""
    content = params.model_dump(mode="json") if isinstance(params, BaseModel) else params
    flat: dict[str, Any] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
