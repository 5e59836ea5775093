"""The last value that the sections split and evaluate take, and the first that they refuse."""

from dataclasses import replace
from pathlib import Path

import pytest
from changed_settings import changed, complaint

from osr.errors import InputError
from osr.metrics.threshold_files import load_thresholds, save_thresholds
from osr.metrics.thresholds import Threshold
from osr.params import check_params, flatten
from osr.splits.classes import FOLDER
from osr.stored.origin import Origin

EXPLICIT = {"split.protocol": "explicit"}
FIRST_K = {"split.protocol": "first_k", "split.num_known": 2}
LIMITS = [
    ("evaluate.estimate_folds", 0, -1),
    ("evaluate.estimate_folds", 1000, 1001),
    ("evaluate.bootstrap_replicates", 100, 99),
    ("evaluate.bootstrap_replicates", 1_000_000, 1_000_001),
    ("evaluate.prevalence", 0.0, -0.01),
    ("evaluate.prevalence", 1.0, 1.01),
    ("evaluate.assumed_auroc", 0.5, 0.499),
    ("evaluate.assumed_auroc", 0.9999, 0.99995),
    ("evaluate.shifts.severities", [1, 5], [0]),
    ("evaluate.shifts.severities", [5, 1], [6]),
    ("evaluate.costs.rejected_unknown", 0.0, -0.1),
    ("split.trial", 0, -1),
    ("split.val_fraction", 0.69, 0.7),  # beside a test_fraction of 0.3
    ("split.test_fraction", 0.79, 0.8),  # beside a val_fraction of 0.2
    ("split.max_per_class", 1, 0),
    ("split.background_val_fraction", 0.0, -0.01),
    ("split.background_val_fraction", 0.999, 1.0),
]


def accepted(changes: dict) -> dict:
    flat = flatten(check_params(changed(changes), source="params.yaml"))
    return {key: flat[key] for key in changes}


@pytest.mark.parametrize(("key", "last", "refused"), LIMITS)
def test_limits(key: str, last: object, refused: object) -> None:
    beside = {"split.val_fraction": 0.2, "split.test_fraction": 0.3}
    assert accepted(beside | {key: last}) == beside | {key: last}
    told = complaint(beside | {key: refused})
    assert key in told
    assert "must" in told


@pytest.mark.parametrize(("last", "refused"), [(0, -1), (10**9, 10**9 + 1)])
@pytest.mark.parametrize("role", ["known", "background", "unknown"])
def test_ids_of_classes(role: str, last: int, refused: int) -> None:
    key = f"split.{role}"
    changes = EXPLICIT | {key: [last, "a"]}
    assert accepted(changes) == changes
    assert complaint(EXPLICIT | {key: [refused, "a"]}).startswith(key)


@pytest.mark.parametrize(
    ("last", "refused"),
    [
        (EXPLICIT | {"split.known": ["a", "b"]}, EXPLICIT | {"split.known": ["a"]}),
        (EXPLICIT | {"split.unknown": ["a"]}, {"split.unknown": ["a"]}),
        (FIRST_K, FIRST_K | {"split.num_known": 1}),
        (
            FIRST_K | {"split.protocol": "random"},
            FIRST_K | {"split.protocol": "random", "split.num_known": 0},
        ),
        (FIRST_K | {"split.num_unknown": 0}, FIRST_K | {"split.num_unknown": -1}),
        (FIRST_K | {"split.num_unknown": "all"}, EXPLICIT | {"split.num_unknown": 1}),
        ({"split.num_known": 0}, {"split.num_known": 2}),
        ({"evaluate.estimate_folds": 2}, {"evaluate.estimate_folds": 1}),
        (
            {"evaluate.shifts.corruptions": ["blur", "noise"], "evaluate.shifts.severities": [1]},
            {"evaluate.shifts.corruptions": ["blur"], "evaluate.shifts.severities": [1, 1]},
        ),
        (
            {"evaluate.shifts.corruptions": [], "evaluate.shifts.severities": []},
            {"evaluate.shifts.corruptions": ["blur"], "evaluate.shifts.severities": []},
        ),
    ],
)
def test_settings_that_hang_together(last: dict, refused: dict) -> None:
    assert accepted(last) == last
    assert complaint(refused).startswith(("split.", "evaluate."))


@pytest.mark.parametrize(
    ("key", "choices"),
    [
        ("split.protocol", tuple(path.stem for path in FOLDER.glob("*.json"))),
        ("split.duplicates", ("report", "drop", "error")),
        ("split.max_per_class", ("none", 7)),
        ("evaluate.prevalence", ("test", 0.5)),
    ],
)
def test_choices(key: str, choices: tuple) -> None:
    for choice in choices:
        assert accepted({key: choice}) == {key: choice}
    assert "must be" in complaint({key: "something else"})


@pytest.mark.parametrize(
    "name", ["misclassified_known", "accepted_unknown", "rejected_known", "rejected_unknown"]
)
def test_one_cost_must_be_above_0_whichever(name: str) -> None:
    costs = dict.fromkeys(
        ("misclassified_known", "accepted_unknown", "rejected_known", "rejected_unknown"), 0.0
    )
    params = check_params(changed({"evaluate.costs": costs | {name: 3.0}}), source="params.yaml")
    assert params.evaluate.costs.largest == 3


@pytest.mark.parametrize("name", ["target", "acceptance", "false_acceptance"])
@pytest.mark.parametrize(("last", "refused"), [(0.0, -0.01), (1.0, 1.01)])
def test_a_stored_threshold_has_shares(tmp_path: Path, name: str, last: float, refused: float) -> None:
    check_stored(tmp_path, name, last, refused)


@pytest.mark.parametrize(
    ("name", "last", "refused"), [("num_images", 1, 0), ("num_background", 0, -1), ("num_groups", 1, 0)]
)
def test_a_stored_threshold_has_counts(tmp_path: Path, name: str, last: int, refused: int) -> None:
    check_stored(tmp_path, name, last, refused)


def check_stored(folder: Path, name: str, last: float, refused: float) -> None:
    fit, path = Threshold(1.0, "background", 0.5, 0.5, 10, 0.5), folder / "thresholds.json"
    for value in (last, refused):
        save_thresholds(path, {"msp": replace(fit, **{name: value})}, {"msp": "0" * 16}, Origin())
        if value == last:
            assert getattr(load_thresholds(path).of["msp"], name) == value
    with pytest.raises(InputError, match=rf"thresholds.json .*\(msp: {name} is {refused}, but must be at"):
        load_thresholds(path)


def test_thresholds_are_of_the_detectors_that_they_name(tmp_path: Path) -> None:
    fit, path = Threshold(1.0, "acceptance", 0.5, 0.5, 10), tmp_path / "thresholds.json"
    save_thresholds(path, {"msp": fit, "mav": fit}, {"msp": "0" * 16, "mav": "1" * 16}, Origin())
    stored, file = load_thresholds(path), Path("mav.safetensors")
    assert stored.check_detector(file, "mav", "1" * 16) == fit
    with pytest.raises(InputError, match=r"has no threshold for vim; there are: mav, msp\.$"):
        stored.check_detector(file, "vim", "1" * 16)
    for digest in ("0" * 16, None):
        with pytest.raises(
            InputError, match=rf"^mav.safetensors is not the mav that .*\({digest}, not 1{{16}}\)"
        ):
            stored.check_detector(file, "mav", digest)
