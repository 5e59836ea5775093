"""Losses by name, and the images each is shown."""

from __future__ import annotations

from collections.abc import Sequence

from osr.errors import InputError
from osr.losses.arpl import Arpl
from osr.losses.base import Loss
from osr.losses.center import Center
from osr.losses.cross_entropy import CrossEntropy
from osr.losses.energy_reg import EnergyReg
from osr.losses.entropic import Entropic
from osr.losses.extra_class import Combined, KPlus1, Penalty, Threshold
from osr.losses.logit_adjusted import LogitAdjusted
from osr.losses.logitnorm import LogitNorm
from osr.losses.objectosphere import Objectosphere
from osr.losses.one_vs_rest import OneVsRest
from osr.losses.outlier_exposure import OutlierExposure
from osr.losses.proser import Proser
from osr.losses.settings import LossesSettings, LossName
from osr.losses.supcon import SupCon
from osr.models.heads import Head


def build_loss(
    name: LossName,
    settings: LossesSettings,
    *,
    label_smoothing: float,
    head: Head,
    class_counts: Sequence[int] = (),
) -> Loss:
    """The loss of `train.loss`.

    Args:
        name: a key of `LOSSES`.
        settings: the `losses` section of params.yaml.
        label_smoothing: `train.label_smoothing`, in 0..1, of the known images' labels in every loss.
        head: of the network: gives losses with parameters their shapes.
        class_counts: training images of each known class, for `logit_adjusted`.

    Raises:
        InputError: the loss needs another head, or a training image of every class.
    """
    section = getattr(settings, name, None)
    values = {"label_smoothing": label_smoothing, **(section.model_dump() if section else {})}
    if name == "arpl":
        return Arpl(head, **values)
    if LOSSES[name].needs_extra_class:
        values["num_extra"] = head.num_outputs - head.num_classes
    if name == "logit_adjusted":
        if len(class_counts) != head.num_classes or min(class_counts) < 1:
            raise InputError(
                f"train.loss is 'logit_adjusted', which needs a training image of each of the "
                f"{head.num_classes} known classes, not {list(class_counts)}."
            )
        values["class_counts"] = class_counts
    if name == "proser":
        return Proser(head, **values)
    if name == "supcon":
        return SupCon(head, **values)
    if name == "center":
        num_classes, num_features = head.weight.shape
        return Center(num_classes=num_classes, num_features=num_features, **values)
    return LOSSES[name](**values)


def check_background(name: LossName, num_background: int, *, pseudo_unknowns: bool = False) -> None:
    """Refuse a loss that does not go with the background images of a split.

    Args:
        name: a key of `LOSSES`.
        num_background: background images to train on.
        pseudo_unknowns: whether batches bring others, which are made of known images.

    Raises:
        InputError: the loss learns from background images and there is none, or it would ignore them.
    """
    needs = LOSSES[name].needs_background
    others = ", ".join(other for other, loss in LOSSES.items() if loss.needs_background != needs)
    if needs and not num_background and not pseudo_unknowns:
        raise InputError(
            f"train.loss is {name!r}, which learns from background images, but the split has no background "
            f"class: give it one, set train.augmentation.pseudo_unknowns to pixmix, or use one of {others}."
        )
    if num_background and not needs:
        raise InputError(
            f"train.loss is {name!r}, which would ignore the {num_background} background images of the "
            f"split: leave its background classes out, or use one of {others}."
        )


LOSSES: dict[str, type[Loss]] = {
    "ce": CrossEntropy,
    "logitnorm": LogitNorm,
    "logit_adjusted": LogitAdjusted,
    "one_vs_rest": OneVsRest,
    "center": Center,
    "arpl": Arpl,
    "entropic": Entropic,
    "objectosphere": Objectosphere,
    "outlier_exposure": OutlierExposure,
    "energy_reg": EnergyReg,
    "kplus1": KPlus1,
    "proser": Proser,
    "penalty": Penalty,
    "threshold": Threshold,
    "combined": Combined,
    "supcon": SupCon,
}
