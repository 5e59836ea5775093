"""Losses by name, and the images each is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

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
from osr.losses.settings import LossesSettings
from osr.losses.supcon import SupCon
from osr.models.heads import Head
from osr.settings.own_code import is_custom, own_class, taken

_KIND = "class of osr.losses.base.Loss"


def build_loss(
    name: str,
    settings: LossesSettings,
    *,
    label_smoothing: float,
    head: Head,
    class_counts: Sequence[int] = (),
) -> Loss:
    """The loss of `train.loss`.

    Args:
        name: a key of `LOSSES`, or `module:Class` of the user's own, see `own_loss`.
        settings: the `losses` section of params.yaml.
        label_smoothing: `train.label_smoothing`, in 0..1, of the known images' labels in every loss.
        head: of the network: gives losses with parameters their shapes.
        class_counts: training images of each known class, for `logit_adjusted`.

    Raises:
        InputError: the loss needs another head, or a training image of every class; or see `own_loss`.
    """
    if is_custom(name):
        return own_loss(
            name, settings.options, label_smoothing=label_smoothing, head=head, class_counts=class_counts
        )
    section = getattr(settings, name, None)
    values = {"label_smoothing": label_smoothing, **(section.model_dump() if section else {})}
    if name == "arpl":
        return Arpl(head, **values)
    if name == "combined":
        values |= settings.penalty.model_dump() | settings.threshold.model_dump()
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


def loss_class(name: str) -> type[Loss]:
    """The class of a loss: ours, or that of the user which `module:Class` names.

    Raises:
        InputError: no such module or class, or it is no loss.
    """
    if not is_custom(name):
        return LOSSES[name]
    # mypy takes the abstract class for a wrong argument: nothing here is made of it.
    return own_class(name, Loss, key="train.loss", kind=_KIND)  # type: ignore[type-abstract]


def own_loss(
    name: str,
    options: Mapping[str, Any],
    *,
    label_smoothing: float,
    head: Head,
    class_counts: Sequence[int] = (),
) -> Loss:
    """A loss of the user's own: `Class(**options)`, with those of the arguments below that it names.

    Args:
        name: `module:Class`.
        options: `losses.options` of params.yaml.
        label_smoothing: see `build_loss`.
        head: of the network.
        class_counts: training images of each known class.

    Raises:
        InputError: no such class, other arguments than it takes, a `train.label_smoothing` that it does not
            take, or a head with too few or too many outputs for it.
    """
    found = loss_class(name)
    shape = dict(zip(("num_classes", "num_features"), head.weight.shape, strict=True))
    offered = {"head": head, "class_counts": class_counts, **shape, "label_smoothing": label_smoothing}
    given = taken(found, {**offered, "num_extra": head.num_outputs - head.num_classes})
    if label_smoothing and "label_smoothing" not in given:
        raise InputError(
            f"train.label_smoothing is {label_smoothing:g}, but must be 0 for train.loss {name!r}, which "
            "takes no label_smoothing."
        )
    extra = head.num_outputs - head.num_classes
    if found.needs_extra_class != bool(extra):
        raise InputError(
            f"model.head.extra_classes is {extra}, but must be "
            f"{'at least 1' if found.needs_extra_class else '0'} for train.loss {name!r}."
        )
    try:
        return found(**{**given, **options})
    except TypeError as error:
        raise InputError(
            f"train.loss {name!r} must be a class that takes the keys of losses.options, and nothing else "
            f"but {', '.join(offered)} and num_extra ({error})."
        ) from error


def check_soft_labels(name: str, *, mixing: bool) -> None:
    """Refuse a loss that does not go with labels of mixed images.

    Raises:
        InputError: images are mixed and the loss takes no shares of classes.
    """
    if mixing and not loss_class(name).takes_soft_labels:
        raise InputError(
            f"train.loss is {name!r}, which takes no soft labels, but train.augmentation.mixup_alpha or "
            "cutmix_alpha is above 0 and mixes labels, too: set both to 0."
        )


def check_background(name: str, num_background: int, *, pseudo_unknowns: bool = False) -> None:
    """Refuse a loss that does not go with the background images of a split.

    Args:
        name: a key of `LOSSES`.
        num_background: background images to train on.
        pseudo_unknowns: whether batches bring others, which are made of known images.

    Raises:
        InputError: the loss learns from background images and there is none, or it would ignore them.
    """
    needs = loss_class(name).needs_background
    others = ", ".join(other for other, loss in LOSSES.items() if loss.needs_background != needs)
    if needs and not num_background and not pseudo_unknowns:
        raise InputError(
            f"train.loss is {name!r}, which learns from background images, but the split has no background "
            f"class: give it one, set train.augmentation.pseudo_unknowns to pixmix, or use one of {others}."
        )
    if pseudo_unknowns and not needs:  # of our own losses the settings know it
        raise InputError(
            f"train.augmentation.pseudo_unknowns must be 'none' for train.loss {name!r}, which learns from "
            f"known images alone; {others} learn from such pictures, too."
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
