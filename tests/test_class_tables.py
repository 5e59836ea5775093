"""Tables by class, by unknown set and by shift, each from the images that it is of, and groups of them."""

from __future__ import annotations

import math
from pathlib import Path

import finished_run
import numpy as np
import pytest
from test_class_thresholds import outputs_of

from osr.calibration.calibrators import Temperature
from osr.metrics.class_tables import class_tables, source_metrics, unknowns_of
from osr.metrics.decisions import closed_set_metrics
from osr.metrics.groups import Groups, groups_of
from osr.metrics.intervals import (
    by_metric,
    drawn_units,
    known_risks_with_ends,
    metrics_with_ends,
    share_with_ends,
)
from osr.metrics.judged import Judged, closed_set, detector_metrics, known_metrics, threshold_check
from osr.metrics.open_set import headline_metrics, metrics_of, oracle_threshold
from osr.metrics.per_class import unknown_classes
from osr.metrics.shifts import shift_metrics
from osr.metrics.thresholds import Threshold, count_accepted
from osr.outputs import Outputs
from osr.splits.split import Split

SETTINGS = finished_run.params_of(Path(__file__).parents[1]).evaluate
SETTINGS = SETTINGS.model_copy(update={"bootstrap_replicates": 20})
CONFIDENCE = SETTINGS.confidence
RNG = np.random.default_rng(0)
PER_CLASS = 36
TARGETS = RNG.permutation(np.arange(7).repeat(PER_CLASS))
GROUPS = np.arange(len(TARGETS)) // 4
PLACE = np.repeat([0, 1, 2], [20, 20, len(GROUPS) // 4 - 40 + 1])[GROUPS]  # the part of a whole group
KNOWN, UNKNOWN = (3, 1, 5), (6, 0, 2)  # class 4 is in no part


def split_of(*, grouped):
    known, tested = np.isin(TARGETS, KNOWN), np.isin(TARGETS, KNOWN + UNKNOWN)
    return Split(
        targets=TARGETS,
        class_names=("ant", "bee", "far/cow", "dog", "elk", "fox", "near/gnu"),
        known=KNOWN,
        background=(),
        unknown=UNKNOWN,
        train=np.flatnonzero(known & (PLACE == 0)),
        val=np.flatnonzero(known & (PLACE == 1)),
        test=np.flatnonzero(tested & (PLACE == 2)),
        groups=GROUPS if grouped else None,
        sources=("held_out", "held_out", "far", "held_out", "held_out", "held_out", "near"),
    )


def outputs_in(split, *, without=None, unknowns=True):
    """Outputs of the test images in some order, and thresholds of their predicted classes."""
    rows = RNG.permutation(split.test)
    rows = rows[(split.labels[rows] != without) & (unknowns | (split.labels[rows] >= 0))]
    labels = split.labels[rows]
    guesses = np.where((labels >= 0) & (RNG.random(len(rows)) < 0.7), labels, RNG.integers(0, 3, len(rows)))
    made = outputs_of(guesses, labels)
    outputs = Outputs(made.logits, made.features, labels, rows, made.weight, made.bias)
    scores, theta = RNG.normal(size=len(rows)) + 0.7 * (labels < 0), np.array([-0.2, 0.4, 1.0])[guesses]
    scores[::4], scores[1::4] = theta[::4], RNG.choice([0.1, 0.3, 0.5], len(scores[1::4]))  # at thresholds
    return outputs, scores, theta


def test_every_unknown_image_has_its_class_and_set():
    split = split_of(grouped=False)
    outputs, *_ = outputs_in(split)
    unknowns = unknowns_of(split, outputs)
    assert unknowns.names == (("near", "gnu"), ("held_out", "ant"), ("far", "cow"))
    named = {6: ("near", "gnu"), 0: ("held_out", "ant"), 2: ("far", "cow")}
    found = [unknowns.names[code] for code in unknowns.classes]
    assert found == [named[number] for number in split.targets[outputs.index[outputs.labels < 0]].tolist()]


@pytest.mark.parametrize("grouped", [False, True])
def test_each_known_class_has_the_interval_of_its_images(grouped):
    split = split_of(grouped=grouped)
    outputs, scores, theta = outputs_in(split, without=1)
    groups = groups_of(split, outputs)
    assert (groups is None) == (not grouped)
    if grouped:
        assert groups.tolist() == GROUPS[outputs.index].tolist()
        assert groups.dtype == np.int64
    tables = class_tables(
        outputs,
        {"a": scores, "b": scores},
        confusions=dict.fromkeys("ab", Judged(outputs, scores).confusion(theta)),
        thresholds={"a": theta, "b": 0.5},
        split=split,
        confidence=CONFIDENCE,
    )
    assert list(tables) == ["a", "b"]
    for name, limit in (("a", theta), ("b", 0.5)):
        for code, row in enumerate(tables[name][0]):
            mine = outputs.labels == code
            assert (row.name, row.images) == (("dog", "bee", "fox")[code], mine.sum())
            if code == 1:  # no image of it is tested
                assert math.isnan(row.acceptance_low)
                assert math.isnan(row.acceptance_high)
                continue
            own = groups[mine] if grouped else None
            ends = share_with_ends((scores <= limit)[mine], confidence=CONFIDENCE, groups=own)
            assert (row.acceptance_low, row.acceptance_high) == ends[1:]
        known = outputs.labels >= 0
        assert tables[name][1] == unknown_classes(
            np.broadcast_to(limit, scores.shape)[~known],
            scores[known],
            scores[~known],
            unknowns=unknowns_of(split, outputs),
            predictions=outputs.predictions[~known],
            known_names=("dog", "bee", "fox"),
        )


def test_without_unknown_images_their_table_is_empty():
    split = split_of(grouped=False)
    outputs, scores, theta = outputs_in(split, unknowns=False)
    asked = {"confusions": {"a": Judged(outputs, scores).confusion(theta)}, "thresholds": {"a": theta}}
    known, unknown = class_tables(outputs, {"a": scores}, **asked, split=split, confidence=0.9)["a"]
    assert (len(known), unknown) == (3, [])


@pytest.mark.parametrize("grouped", [False, True])
def test_each_unknown_set_is_tested_against_all_known_images(grouped):
    split = split_of(grouped=grouped)
    outputs, scores, theta = outputs_in(split)
    found = source_metrics(
        outputs,
        {"a": scores, "b": -scores},
        thresholds={"a": theta, "b": 0.5},
        split=split,
        settings=SETTINGS,
    )
    assert list(found) == ["near", "held_out", "far"]
    known, groups = outputs.labels >= 0, groups_of(split, outputs)
    for source, number in (("held_out", 0), ("far", 2), ("near", 6)):
        chosen = split.targets[outputs.index] == number
        of = Groups(groups[known], groups[chosen]) if grouped else None
        for name, sign, limit in (("a", 1, theta[chosen]), ("b", -1, 0.5)):
            alone = metrics_with_ends(
                sign * scores[known], outputs.correct[known], sign * scores[chosen], SETTINGS, groups=of
            )
            expected = {key: value for key, value in alone.items() if "accuracy" not in key}
            expected["unknown_rejection"] = np.mean(sign * scores[chosen] > limit)
            assert {metric: values[name] for metric, values in found[source].items()} == expected


@pytest.mark.parametrize("grouped", [False, True])
def test_shifted_images_are_judged_at_their_thresholds(grouped):
    split = split_of(grouped=False)
    outputs, scores, theta = outputs_in(split, unknowns=False)
    groups = np.arange(len(scores)) // 5 if grouped else None
    unknown = {"a": RNG.normal(1, 1, 9), "b": np.empty(0)}
    found = shift_metrics(
        outputs, {"a": scores, "b": scores}, {"a": theta, "b": 0.1}, unknown, confidence=0.9, groups=groups
    )
    expected = {"": {}, "_low": {}, "_high": {}}
    for name, limit in (("a", theta), ("b", 0.1)):
        ends = share_with_ends(scores <= limit, confidence=0.9, groups=groups)
        for end, value in zip(expected, ends, strict=True):
            expected[end][name] = value
    accuracy = share_with_ends(outputs.correct, confidence=0.9, groups=groups)
    pooled = headline_metrics(count_accepted(scores, outputs.correct, unknown["a"]))
    assert found == {
        **dict(zip(("accuracy", "accuracy_low", "accuracy_high"), accuracy, strict=True)),
        **{f"known_acceptance{end}": values for end, values in expected.items()},
        "auroc": {"a": pooled["auroc"]},
    }


# ---- one detector


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("theta", [-99.0, 0.3])
def test_known_images_alone(theta, grouped):
    split = split_of(grouped=grouped)
    outputs, scores, _ = outputs_in(split, unknowns=False)
    groups = Groups.of(groups_of(split, outputs), outputs.labels)
    found = known_metrics(Judged(outputs, scores, groups), theta, SETTINGS)
    accepted, correct = scores <= theta, outputs.correct
    numbers = groups.known if grouped else None
    expected = {
        "accuracy": share_with_ends(correct, confidence=CONFIDENCE, groups=numbers),
        "known_acceptance": share_with_ends(accepted, confidence=CONFIDENCE, groups=numbers),
        "selective_accuracy": (math.nan,) * 3,
    }
    if theta > -99:
        own = numbers[accepted] if grouped else None
        expected["selective_accuracy"] = share_with_ends(correct[accepted], confidence=CONFIDENCE, groups=own)
    risks = known_risks_with_ends(scores, correct, SETTINGS, groups=groups)
    named = {
        f"{name}{end}": value
        for name, ends in expected.items()
        for end, value in zip(("", "_low", "_high"), ends, strict=True)
    }
    assert found == pytest.approx(named | risks, nan_ok=True)
    assert {"aurc", "aurc_low", "aurc_high"} < set(risks)


@pytest.mark.parametrize("grouped", [False, True])
def test_all_numbers_of_a_detector(grouped):
    split = split_of(grouped=grouped)
    outputs, scores, theta = outputs_in(split)
    groups, known = Groups.of(groups_of(split, outputs), outputs.labels), outputs.labels >= 0
    test = Judged(outputs, scores, groups)
    found = detector_metrics(test, test.confusion(theta), SETTINGS)
    scored = scores[known], outputs.correct[known], scores[~known]
    accepted = count_accepted(*scored)
    assert found.items() >= metrics_with_ends(*scored, SETTINGS, groups=groups).items()
    assert found.items() >= metrics_of(accepted).items()
    assert found["known_acceptance"] == (scores <= theta)[known].mean()
    assert found["unknown_rejection"] == (scores > theta)[~known].mean()
    best = oracle_threshold(accepted)
    assert found["oracle_known_acceptance"] == (scores <= best)[known].mean()
    assert found["oracle_unknown_rejection"] == (scores > best)[~known].mean()
    right = (scores <= best) & known & outputs.correct | (scores > best) & ~known
    assert found["oracle_kplus1_accuracy"] == right.mean()
    fit = Threshold(1.0, "conformal_per_class", 0.9, 0.9, 50, per_class=(-0.2, 0.4, 1.0))
    ends = [
        share_with_ends(hits, confidence=CONFIDENCE, groups=of)[1:]
        for hits, of in (
            ((scores <= theta)[known], groups.known if grouped else None),
            ((scores > theta)[~known], groups.unknown if grouped else None),
        )
    ]
    assert threshold_check(test, fit, SETTINGS) == {
        "known_acceptance_low": ends[0][0],
        "known_acceptance_high": ends[0][1],
        "unknown_rejection_low": ends[1][0],
        "unknown_rejection_high": ends[1][1],
        "asked_acceptance": 0.9,
        "asked_of": 50,
    }
    count = (known.sum(), (~known).sum())
    if grouped:
        count = (len(set(groups.known)), len(set(groups.unknown)))
    assert drawn_units(outputs.labels, groups) == {
        "by_group": int(grouped),
        "known_units": count[0],
        "unknown_units": count[1],
    }


def test_the_closed_set_before_and_after_calibration():
    outputs, *_ = outputs_in(split_of(grouped=False))
    known = outputs.select(outputs.labels >= 0)
    found = closed_set(outputs, Temperature(2.5))
    before = closed_set_metrics(known.logits, known.labels, temperature=1.0, bins=15)
    after = closed_set_metrics(known.logits, known.labels, temperature=2.5, bins=15)
    expected = {name: before[name] for name in ("accuracy", "balanced_accuracy", "macro_f1")}
    for name in ("nll", "brier", "ece"):
        expected |= {f"{name}_before": before[name], f"{name}_after": after[name]}
    assert found == pytest.approx(expected)


def test_metrics_are_turned_by_their_names():
    found = by_metric({"a": {"x": 1.0, "y": 2.0}, "b": {"x": 3.0, "y": 4.0}})
    assert found == {"x": {"a": 1.0, "b": 3.0}, "y": {"a": 2.0, "b": 4.0}}
