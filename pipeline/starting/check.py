"""Command check: whether a detector, a loss or a backbone of one's own keeps what all of its kind promise."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

from osr.errors import InputError
from osr.params import Params, load_params
from osr.settings.own_code import Broken, own_class, source_file
from pipeline.workspace.own_files import missing_deps, source_in_project
from pipeline.workspace.stages import PARAMS

KEY = "osr check"


class Subject(NamedTuple):
    """What is checked.

    Args:
        kind: detector, loss or backbone.
        promises: the checks of this kind; each takes `make`.
        make: makes what a check asks for.
        stages: whose deps in dvc.yaml must hold its file.
    """

    kind: str
    promises: tuple[Callable[..., None], ...]
    make: Callable[[], Any]
    stages: tuple[str, ...]


def run(options: argparse.Namespace) -> int:
    """Print each promise and whether it is kept; the status is 1 where one is broken.

    Raises:
        InputError: no such class, or none of the three kinds; or settings that do not fit it.
    """
    subject = subject_of(options.name, load_params(PARAMS) if PARAMS.is_file() else None)
    subject.make()  # what cannot be made is told once
    broken = 0
    for promise in subject.promises:
        told = (promise.__doc__ or "").strip()
        reason = reason_of(promise, subject.make, options.name)
        broken += reason is not None
        sys.stdout.write(f"{'ok    ' if reason is None else 'BROKEN'}  {told}\n")
        if reason is not None:
            sys.stdout.write(f"        {reason}\n")
    kept = len(subject.promises) - broken
    sys.stdout.write(f"{options.name}, a {subject.kind}, keeps {kept} of {len(subject.promises)} promises.\n")
    for line in _deps(options.name, subject.stages):
        sys.stdout.write(f"{line}\n")
    return int(broken > 0)


def subject_of(name: str, params: Params | None) -> Subject:
    """The class by its kind, with the settings that params.yaml gives it, where that uses it.

    Raises:
        InputError: see `run`.
    """
    from torch import nn

    from osr.detectors.base import Detector
    from osr.losses.base import Loss

    found: type[Any] = own_class(name, object, key=KEY, kind="class")
    if issubclass(found, Detector):
        return _detector(name, params)
    if issubclass(found, Loss):
        return _loss(name, found, params)
    if issubclass(found, nn.Module):
        return _backbone(name, params)
    raise InputError(
        f"{KEY} {name}: the class must be one of osr.detectors.base.Detector, osr.losses.base.Loss or "
        f"torch.nn.Module (a backbone), not of {', '.join(base.__name__ for base in found.__bases__)}."
    )


def reason_of(promise: Callable[..., None], make: Callable[[], Any], name: str) -> str | None:
    """Why a promise is not kept; None where it is."""
    try:
        promise(make)
    except Broken as error:
        return str(error)
    except Exception as error:  # noqa: BLE001, whatever the user's code raises is the answer
        return f"{type(error).__name__}: {' '.join(str(error).split())}{_place(error, name)}"
    return None


def _place(error: Exception, name: str) -> str:
    """The line of the user's file that an error went through last."""
    file = source_file(name)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(file)
    ]
    return f" ({file.name}, line {lines[-1]})" if file is not None and lines else ""


def _detector(name: str, params: Params | None) -> Subject:
    from osr.detectors.contract import PROMISES
    from osr.detectors.registry import own_detector

    options = {} if params is None else params.detectors.options.get(name, {})
    return Subject("detector", PROMISES, partial(own_detector, name, options), ("fit-openmax", "evaluate"))


def _loss(name: str, found: type[Any], params: Params | None) -> Subject:
    import torch

    from osr.losses.contract import CLASS_COUNTS, PROMISES, head_for
    from osr.losses.registry import own_loss

    used = params is not None and params.train.loss == name
    options = params.losses.options if used and params else {}
    head_name = params.model.head.name if used and params else "linear"

    def make() -> tuple[Any, Any]:
        torch.manual_seed(0)
        head = head_for(found, kind=head_name)
        loss = own_loss(name, options, label_smoothing=0.0, head=head, class_counts=CLASS_COUNTS)
        return loss.double(), head

    return Subject("loss", PROMISES, make, ("train",))


def _backbone(name: str, params: Params | None) -> Subject:
    import torch

    from osr.models.contract import PROMISES
    from osr.models.custom import build_custom

    used = params is not None and params.model.backbone.name == name
    options = params.model.backbone.options if used and params else {}
    size = params.model.image_size if used and params else "auto"
    side = 32 if isinstance(size, str) else size

    def make() -> tuple[Any, Any]:
        torch.manual_seed(0)
        backbone = build_custom(name, channels=3, image_size=side, options=options)
        return backbone, torch.randn(4, 3, side, side)

    return Subject("backbone", PROMISES, make, ("train",))


def _deps(name: str, stages: tuple[str, ...]) -> Iterator[str]:
    """What dvc.yaml lacks, so that a stage runs again when the file changes."""
    file = source_in_project(name)
    lacking = [stage for stage in stages if file is not None and missing_deps(stage, [file])]
    if lacking:
        yield f"dvc.yaml: add the line `- {file}` to the deps of {' and '.join(lacking)}."
