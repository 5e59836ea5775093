"""Detectors by name: made from settings, read from files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from pydantic import BaseModel, Field, ValidationError

from osr.detectors.activations import Ash, Dice, React, Scale
from osr.detectors.base import FORMAT, Detector
from osr.detectors.boundaries import Fdbd, Nci
from osr.detectors.distances import Mav
from osr.detectors.ensemble import Ensemble
from osr.detectors.gaussian import Mahalanobis, Rmds
from osr.detectors.leverage import Pnml
from osr.detectors.logit_scores import Energy, Entropy, Gen, GradNorm, KPlus1, MaxLogit, Msp
from osr.detectors.neco import Neco
from osr.detectors.neighbors import Knn, NNGuide, Relation
from osr.detectors.network_again import NetworkAgain
from osr.detectors.odin import Odin
from osr.detectors.openmax import OpenMax
from osr.detectors.postmax import PostMax
from osr.detectors.rotpred import RotPred
from osr.detectors.settings import DetectorName, DetectorsSettings
from osr.detectors.templates import Cosine, Klm, RCos, She
from osr.detectors.vim import Residual, Vim
from osr.errors import InputError
from osr.outputs import Outputs
from osr.settings.base import Section
from osr.settings.gone import without_gone
from osr.settings.own_code import Allowed, OwnClass, check_allowed, is_custom, own_class
from osr.stored.arrays import read_tensors
from osr.stored.files import checked, damaged

_KIND = "class of osr.detectors.base.Detector"
Size = Annotated[int, Field(ge=1, le=1 << 16)]


class Description(Section):
    """What a detector's file says of it."""

    format: int
    detector: DetectorName | OwnClass
    settings: dict[str, Any]
    shape: tuple[Size, Size] | None


def build_detectors(
    settings: DetectorsSettings, *, device: torch.device | str = "cpu"
) -> dict[str, Detector]:
    """The enabled detectors, not fitted, in the order of the list.

    Args:
        settings: the `detectors` section of params.yaml.
        device: where they compute.
    """
    return {name: _built(name, settings).to(device) for name in settings.enabled}


def members_of(detector: Detector) -> tuple[Detector, ...]:
    """The detector itself, and the members of an ensemble."""
    return (detector, *(detector.members if isinstance(detector, Ensemble) else ()))


def network_again_of(*detectors: Detector) -> tuple[NetworkAgain, ...]:
    """Those that need the network again, members of ensembles among them; one for each column."""
    members = (each for one in detectors for each in members_of(one))
    return tuple({each.column: each for each in members if isinstance(each, NetworkAgain)}.values())


def needs_more_than_features(detector: Detector) -> str:
    """Why a detector cannot be fitted anew on stored features under another head; empty where it can."""
    for candidate in members_of(detector):
        if isinstance(candidate, Odin):
            return "odin needs the network again, with the head that is fitted anew"
        if isinstance(candidate, KPlus1):
            return "kplus1 reads an extra class, which no head has that is fitted to known images alone"
    return ""


def anew(detector: Detector) -> Detector:
    """A detector of the same settings that is not fitted."""
    if isinstance(detector, Ensemble):
        return Ensemble(members=tuple(map(anew, detector.members)))
    return type(detector)(**detector.settings())


def detector_class(name: str) -> type[Detector]:
    """The class of a detector: ours, or that of the user which `module:Class` names.

    Raises:
        InputError: no such module or class, no detector, or one that is called otherwise.
        KeyError: it is neither of these.
    """
    if not is_custom(name):
        return DETECTORS[name]
    # mypy takes the abstract class for a wrong argument: nothing here is made of it.
    found: type[Detector] = own_class(name, Detector, key="detectors.enabled", kind=_KIND)  # type: ignore[type-abstract]
    if found.name != name:
        raise InputError(
            f"detectors.enabled {name!r}: the class calls itself {found.name!r}. Leave `name` out of it, and "
            "name it by the module that defines it."
        )
    return found


def own_detector(name: str, options: Mapping[str, Any]) -> Detector:
    """A detector of the user's own, not fitted.

    Args:
        name: `module:Class`.
        options: its settings, those of `detectors.options`.

    Raises:
        InputError: see `detector_class`; or other settings than it takes.
    """
    try:
        return detector_class(name)(**options)
    except TypeError as error:
        raise InputError(f"The settings {dict(options)} do not fit detector {name} ({error}).") from error


def load_detector(path: Path, *, device: torch.device | str = "cpu", allow_code: Allowed = None) -> Detector:
    """Read what `Detector.save` wrote; never runs stored code.

    A detector of somebody's own needs its module, which is imported if `allow_code` names it.

    Args:
        path: a safetensors file whose name is that of the detector in it.
        device: where the detector computes.
        allow_code: each `module:Class` that may be imported, such as `detectors.enabled` of your own
            params.yaml; None for none.

    Raises:
        InputError: the file is missing, was changed, is no detector of this version, has another's name, or
            asks for other code.
    """
    stored, state = read_tensors(path, "detector")
    description = checked(path, Description, stored.content)
    if description.format != FORMAT:
        raise damaged(path, f"format is {description.format}, but must be {FORMAT}")
    if path.stem != description.detector:
        right = f"{description.detector}{path.suffix}"
        raise InputError(f"{path} holds detector {description.detector}: its name must be {right}.")
    for name in filter(is_custom, _names(description)):
        check_allowed(path, name, allow_code)
        detector_class(name)
    try:
        detector = _restored(description.detector, description.settings)
        detector.restore(state, description.shape)
    except ValidationError as error:
        raise damaged(path, f"settings: {error.errors()[0]['loc']} {error.errors()[0]['msg']}") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise damaged(path, f"no such detector or settings: {error}") from None
    detector.made_from, detector.digest = stored.made_from, stored.digest
    _try(path, detector, description.shape)
    return detector.to(device)


def _try(path: Path, detector: Detector, shape: tuple[int, int] | None) -> None:
    """Let a detector score two made-up images: arrays that are missing, or of another shape, show."""
    num_classes, width = shape or (2, 2)
    ones = np.ones((2, num_classes), np.float32)
    features = np.full((2, width), 0.5, np.float32)
    try:
        detector.score(
            Outputs(
                logits=ones,
                features=features,
                labels=np.zeros(2, np.int64),
                index=np.arange(2),
                weight=np.broadcast_to(ones[0, :1], (num_classes, width)),
                bias=ones[0],
                extra_logits=ones[:, :1],
                odin=np.zeros((2, 1)),
                rotation=np.zeros((2, 1)),
            )
        )
    except (LookupError, RuntimeError, ValueError, TypeError, ArithmeticError, MemoryError) as error:
        raise damaged(path, f"{detector.name} cannot score with its arrays: {error}") from None


def _built(name: str, settings: DetectorsSettings) -> Detector:
    """One detector with its settings; the members of an ensemble with theirs."""
    if name == Ensemble.name:
        return Ensemble(
            members=tuple(_built(member, settings) for member in sorted(settings.ensemble.members))
        )
    section: BaseModel | None = getattr(settings, name, None)
    if is_custom(name):
        return own_detector(name, settings.options.get(name, {}))
    return DETECTORS[name](**(section.model_dump() if section else {}))


def _names(description: Description) -> tuple[str, ...]:
    """The detector that a file holds, and the members of an ensemble."""
    members = description.settings.get("members", {}) if description.detector == Ensemble.name else {}
    return description.detector, *map(str, members)


def _restored(name: str, stored: dict[str, Any]) -> Detector:
    """One detector with the settings of a file, which are checked as those of params.yaml are."""
    if name == Ensemble.name:
        members = tuple(_restored(*one) for one in stored["members"].items())
        return Ensemble(**{**stored, "members": members})
    if is_custom(name):
        return own_detector(name, stored)
    field = DetectorsSettings.model_fields.get(name)
    stored = {**_defaults(name), **without_gone(stored, section=f"detectors.{name}")}
    if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
        return DETECTORS[name](**stored)
    return DETECTORS[name](**field.annotation.model_validate(stored).model_dump())


def _defaults(name: str) -> dict[str, Any]:
    """Settings that files have lacked that were written before these were: what held then."""
    return {
        entry.name: entry.default
        for entry in fields(DETECTORS[name])
        if entry.init and entry.default is not MISSING
    }


DETECTORS: dict[str, type[Detector]] = {
    "msp": Msp,
    "maxlogit": MaxLogit,
    "energy": Energy,
    "entropy": Entropy,
    "gen": Gen,
    "kplus1": KPlus1,
    "gradnorm": GradNorm,
    "mav": Mav,
    "openmax": OpenMax,
    "mahalanobis": Mahalanobis,
    "rmds": Rmds,
    "knn": Knn,
    "nnguide": NNGuide,
    "vim": Vim,
    "klm": Klm,
    "she": She,
    "react": React,
    "ash": Ash,
    "scale": Scale,
    "dice": Dice,
    "fdbd": Fdbd,
    "nci": Nci,
    "cosine": Cosine,
    "rcos": RCos,
    "pnml": Pnml,
    "relation": Relation,
    "neco": Neco,
    "residual": Residual,
    "postmax": PostMax,
    "odin": Odin,
    "rotpred": RotPred,
    "ensemble": Ensemble,
}
