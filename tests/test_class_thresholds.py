"""A threshold for each predicted class: its promise, its errors, its file, and where it does not judge."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import finished_run
import numpy as np
import pytest

from osr.errors import InputError
from osr.metrics.class_tables import class_tables, worst_classes
from osr.metrics.judged import Judged, decision_metrics, threshold_check
from osr.metrics.threshold_files import load_thresholds, save_thresholds
from osr.metrics.thresholds import Threshold, fit_class_thresholds, fit_threshold, threshold_like
from osr.outputs import Outputs
from osr.stored.origin import Origin

ROOT = Path(__file__).parents[1]


def test_each_class_has_the_conformal_threshold_of_its_images():
    rng = np.random.default_rng(0)
    scores, predictions = rng.normal(size=90), np.arange(90) % 3
    groups = np.arange(90) // 6 * 3 + predictions
    for used in (None, groups):
        found = fit_class_thresholds(
            scores, predictions, class_names=("a", "b", "c"), target_acceptance=0.8, groups=used
        )
        for code in range(3):
            rows = predictions == code
            alone = fit_threshold(
                scores[rows],
                target_acceptance=0.8,
                conformal=True,
                groups=None if used is None else used[rows],
            )
            assert found.per_class[code] == alone.value
        assert found.value == max(found.per_class)
        assert found.acceptance == np.mean(scores <= np.array(found.per_class)[predictions])
        assert (found.rule, found.num_images) == ("conformal_per_class", 90)
        assert found.num_groups == (None if used is None else 45)
    np.testing.assert_array_equal(found.at(np.array([2, 0])), np.array(found.per_class)[[2, 0]])
    assert fit_threshold(scores, target_acceptance=0.8).at(predictions) == np.sort(scores)[71]


def test_a_hard_rare_class_is_accepted_as_often_as_was_asked():
    """The pooled threshold rejects it three times as often; the simulation says both."""
    rng, shares = np.random.default_rng(1), {"pooled": [], "per class": []}
    for _ in range(200):
        classes = np.repeat([0, 1], [180, 20])
        scores = rng.normal(size=200) + 1.5 * classes
        new = rng.normal(size=500) + 1.5
        pooled = fit_threshold(scores, target_acceptance=0.9, conformal=True).value
        own = fit_class_thresholds(scores, classes, class_names=("often", "rare"), target_acceptance=0.9)
        shares["pooled"].append(np.mean(new <= pooled))
        shares["per class"].append(np.mean(new <= own.per_class[1]))
    assert np.mean(shares["pooled"]) < 0.75
    assert np.mean(shares["per class"]) == pytest.approx(
        19 / 21, abs=0.015
    )  # rank 19 of 20, 21 with the new one


def test_too_few_images_of_a_class_are_refused_by_its_name():
    with pytest.raises(InputError, match=r"18 images of known classes are predicted as 'owl', .* needs 19"):
        fit_class_thresholds(
            np.zeros(118), np.repeat([0, 1], [100, 18]), class_names=("cat", "owl"), target_acceptance=0.95
        )
    fit = fit_class_thresholds(np.zeros(40), np.arange(40) % 2, class_names=("a", "b"), target_acceptance=0.9)
    with pytest.raises(InputError, match="thresholds per class"):
        threshold_like(fit, np.zeros(40), None)


def outputs_of(predictions, labels):
    logits = np.eye(3, dtype=np.float32)[predictions]
    return Outputs(
        logits=logits,
        features=logits,
        labels=labels,
        index=np.arange(len(labels)),
        weight=np.eye(3, dtype=np.float32),
        bias=np.zeros(3, np.float32),
    )


def test_every_number_counts_each_image_at_the_threshold_of_its_class():
    split = finished_run.split_of()
    rng, rows = np.random.default_rng(2), split.test
    labels, predictions = split.labels[rows], rng.integers(0, 3, len(rows))
    outputs = replace(outputs_of(predictions, labels), index=rows)
    scores = rng.normal(size=len(rows))
    fit = Threshold(2.0, "conformal_per_class", 0.9, 0.9, 100, per_class=(-0.5, 0.0, 2.0))
    theta = fit.at(predictions)
    accepted = scores <= np.array([-0.5, 0.0, 2.0])[predictions]
    test = Judged(outputs, scores)
    matrix = test.confusion(theta)
    assert matrix[:-1, :-1].sum() == (accepted & (labels >= 0)).sum()
    assert matrix[-1, -1] == (~accepted & (labels < 0)).sum()
    tables = class_tables(
        outputs,
        {"a": scores},
        confusions={"a": matrix},
        thresholds={"a": theta},
        split=split,
        confidence=0.95,
    )["a"]
    for code, row in enumerate(tables[0]):
        assert row.acceptance == accepted[labels == code].mean()
        assert row.acceptance_low < row.acceptance < row.acceptance_high
    total = sum(row.accepted * row.images for row in tables[1])
    assert total == pytest.approx((accepted & (labels < 0)).sum())
    assert worst_classes({"a": tables}) == {
        "worst_known_recall": {"a": min(row.recall for row in tables[0])},
        "worst_known_acceptance": {"a": min(row.acceptance for row in tables[0])},
        "worst_unknown_auroc": {"a": min(row.auroc for row in tables[1])},
        "worst_unknown_rejection": {"a": min(1 - row.accepted for row in tables[1])},
    }
    assert worst_classes({"a": (tables[0], [])}).keys() == {"worst_known_recall", "worst_known_acceptance"}
    settings = finished_run.params_of(ROOT).evaluate
    found = threshold_check(test, fit, settings)
    share = accepted[labels >= 0].mean()
    assert found["known_acceptance_low"] < share < found["known_acceptance_high"]


def test_a_threshold_of_background_images_was_asked_for_no_share():
    labels = np.array([0, 1, 1, -1])
    test = Judged(outputs_of(np.array([0, 1, 0, 2]), labels), np.array([0.0, 1.0, 2.0, 3.0]))
    settings = finished_run.params_of(ROOT).evaluate
    ends = {f"{of}_{end}" for of in ("known_acceptance", "unknown_rejection") for end in ("low", "high")}
    asked = {"asked_acceptance": 0.9, "asked_of": 100}
    fit = Threshold(1.5, "background", 0.9, 0.9, 100)
    assert threshold_check(test, fit, settings).keys() == ends
    found = threshold_check(test, replace(fit, rule="acceptance"), settings)
    assert found.keys() == ends | asked.keys()
    assert found.items() >= asked.items()
    assert threshold_check(test, replace(fit, rule="acceptance", num_groups=7), settings)["asked_of"] == 7


def test_verdicts_that_need_no_threshold_are_an_operating_point():
    labels, verdicts = np.array([0, 0, 1, -1, -1]), np.array([0, -1, 1, -1, 0])
    found = decision_metrics(outputs_of(np.zeros(5, int), labels), verdicts)
    assert found["decision_known_acceptance"] == pytest.approx(2 / 3)
    assert found["decision_unknown_rejection"] == 1 / 2
    assert found["decision_kplus1_accuracy"] == 3 / 5


def test_the_file_keeps_them_and_is_as_before_without(tmp_path):
    fit = fit_class_thresholds(
        np.arange(40.0), np.arange(40) % 2, class_names=("a", "b"), target_acceptance=0.9
    )
    plain = fit_threshold(np.arange(40.0), target_acceptance=0.9)
    path = tmp_path / "thresholds.json"
    save_thresholds(path, {"msp": fit, "mav": plain}, dict.fromkeys(("msp", "mav"), "0" * 16), Origin())
    assert load_thresholds(path).of == {"msp": fit, "mav": plain}
    assert path.read_text().count("per_class") == 2  # the rule and the numbers of msp
