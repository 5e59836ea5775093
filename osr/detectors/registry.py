"""Detectors by name: made from settings, read from files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError, safe_open

from osr.detectors.activations import Ash, Dice, React, Scale
from osr.detectors.base import FORMAT, Detector
from osr.detectors.boundaries import Fdbd
from osr.detectors.distances import Mav
from osr.detectors.ensemble import Ensemble
from osr.detectors.gaussian import Mahalanobis, Rmds
from osr.detectors.logit_scores import Energy, Entropy, Gen, GradNorm, KPlus1, MaxLogit, Msp
from osr.detectors.neighbors import Knn, NNGuide
from osr.detectors.odin import Odin
from osr.detectors.openmax import OpenMax
from osr.detectors.settings import DetectorsSettings
from osr.detectors.templates import Klm, She
from osr.detectors.vim import Vim
from osr.errors import InputError


def build_detectors(
    settings: DetectorsSettings, *, device: torch.device | str = "cpu"
) -> dict[str, Detector]:
    """The enabled detectors, not fitted, in the order of the list.

    Args:
        settings: the `detectors` section of params.yaml.
        device: where they compute.
    """
    return {name: _built(name, settings).to(device) for name in settings.enabled}


def odin_of(detector: Detector) -> Odin | None:
    """The detector itself or the member of an ensemble that needs the network again, if there is one."""
    for candidate in (detector, *(detector.members if isinstance(detector, Ensemble) else ())):
        if isinstance(candidate, Odin):
            return candidate
    return None


def needs_more_than_features(detector: Detector) -> str:
    """Why a detector cannot be fitted anew on stored features under another head; empty where it can."""
    for candidate in (detector, *(detector.members if isinstance(detector, Ensemble) else ())):
        if isinstance(candidate, Odin):
            return "odin needs the network again, with the head that is fitted anew"
        if isinstance(candidate, KPlus1):
            return "kplus1 reads an extra class, which no head has that is fitted to known images alone"
    return ""


def anew(detector: Detector) -> Detector:
    """A detector of the same settings that is not fitted."""
    return _restored(detector.name, detector.settings())


def load_detector(path: Path, *, device: torch.device | str = "cpu") -> Detector:
    """Read what `Detector.save` wrote; never runs stored code.

    Args:
        path: a safetensors file.
        device: where the detector computes.

    Raises:
        InputError: the file is missing, or no detector of this version.
    """
    if not path.is_file():
        raise InputError(f"{path} is missing: run `dvc repro` to make it.")
    try:
        with safe_open(path, framework="pt") as file:
            content = json.loads((file.metadata() or {})["osr"])
            state = {key: file.get_tensor(key) for key in sorted(file.keys())}
        if content.get("format") != FORMAT:
            raise ValueError(f"its format is {content.get('format')}, not {FORMAT}")
        name, shape = content["detector"], content["shape"]
        detector = _restored(name, content["settings"])
    except (SafetensorError, KeyError, TypeError, ValueError, ValidationError) as error:
        raise InputError(
            f"{path} is no detector file of this version ({error}): run `dvc repro` to make it."
        ) from None
    return detector.restore(state, tuple(shape) if shape else None).to(device)


def _built(name: str, settings: DetectorsSettings) -> Detector:
    """One detector with its settings; the members of an ensemble with theirs."""
    if name == Ensemble.name:
        return Ensemble(
            members=tuple(_built(member, settings) for member in sorted(settings.ensemble.members))
        )
    section: BaseModel | None = getattr(settings, name, None)
    return DETECTORS[name](**(section.model_dump() if section else {}))


def _restored(name: str, stored: dict[str, Any]) -> Detector:
    """One detector with the settings of a file, which are checked as those of params.yaml are."""
    if name == Ensemble.name:
        return Ensemble(members=tuple(_restored(*member) for member in stored["members"].items()))
    field = DetectorsSettings.model_fields.get(name)
    if field is None or not (isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)):
        return DETECTORS[name](**stored)
    return DETECTORS[name](**field.annotation.model_validate(stored).model_dump())


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
    "odin": Odin,
    "ensemble": Ensemble,
}
