"""What is computed once never changes: dataclasses are frozen, but for states."""

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import FrozenInstanceError, fields

import pytest

import osr
from osr.detectors.base import Detector
from osr.metrics.thresholds import Threshold

STATES = {"Monitor", "Keeper", "_Run", "Progress", "TrainingState"}


def dataclasses() -> Iterator[type]:
    for found in pkgutil.walk_packages(osr.__path__, "osr."):
        module = importlib.import_module(found.name)
        for kind in vars(module).values():
            is_own = isinstance(kind, type) and kind.__module__ == found.name
            if is_own and "__dataclass_params__" in vars(kind):
                yield kind


def test_results_are_frozen_and_detectors_compare_by_identity() -> None:
    kinds = list(dataclasses())
    assert len(kinds) > 80, "all rooms were walked through"
    for kind in kinds:
        how = vars(kind)["__dataclass_params__"]
        if issubclass(kind, Detector):
            settings = [field for field in fields(kind) if field.init]
            assert not how.eq, kind
            assert all(field.kw_only for field in settings), kind
        else:
            assert how.frozen != (kind.__name__ in STATES), kind


def test_a_frozen_one_says_so() -> None:
    fit = Threshold(1.5, "acceptance", 0.9, 0.9, 100)
    with pytest.raises(FrozenInstanceError):
        fit.value = 2.0  # type: ignore[misc]
