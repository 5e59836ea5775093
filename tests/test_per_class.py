"""Results by class: hand-computed, and against scikit-learn and the pooled metrics."""

import numpy as np
import pytest
from sklearn.metrics import multilabel_confusion_matrix, roc_auc_score

from osr.errors import InputError
from osr.metrics.decisions import confusion_matrix
from osr.metrics.open_set import headline_metrics
from osr.metrics.per_class import Unknowns, known_classes, unknown_classes
from osr.metrics.thresholds import count_accepted

rng = np.random.default_rng(0)
KNOWN, UNKNOWN, K = 300, 240, 4
NAMES = ("cat", "dog", "elk", "fox")
SETS = (("held_out", "gnu"), ("held_out", "emu"), ("near", "gnu"), ("near", "nobody"))


def drawn(decimals=1):
    """Tied scores of known and unknown images, labels, predictions, and the class of each unknown image."""
    labels = rng.integers(0, K, KNOWN)
    wrong = rng.random(KNOWN) < 0.2
    predictions = np.where(wrong, (labels + 1) % K, labels)
    classes = rng.integers(0, 3, UNKNOWN)
    known = rng.normal(size=KNOWN).round(decimals)
    unknown = (rng.normal(size=UNKNOWN) + classes).round(decimals)
    return known, unknown, labels, predictions, classes, rng.integers(0, K, UNKNOWN)


def matrix(known, unknown, labels, predictions, unknown_predictions, threshold=1.0):
    return confusion_matrix(
        threshold,
        known,
        known_labels=labels,
        known_predictions=predictions,
        unknown_scores=unknown,
        unknown_predictions=unknown_predictions,
        num_classes=K,
    )


def test_known_classes_against_scikit_learn():
    known, unknown, labels, predictions, _, guesses = drawn()
    rows = known_classes(
        matrix(known, unknown, labels, predictions, guesses),
        labels=labels,
        predictions=predictions,
        names=NAMES,
    )
    truth = np.append(labels, np.full(UNKNOWN, K))
    verdict = np.where(np.append(known, unknown) <= 1.0, np.append(predictions, guesses), K)
    tables = multilabel_confusion_matrix(truth, verdict, labels=range(K))
    for code, (row, table) in enumerate(zip(rows, tables, strict=True)):
        mine, accepted = labels == code, known <= 1.0
        assert row.name == NAMES[code]
        assert row.images == mine.sum()
        assert row.accuracy == pytest.approx((predictions == code)[mine].mean(), abs=1e-12)
        assert row.acceptance == pytest.approx(accepted[mine].mean(), abs=1e-12)
        assert [
            [row.true_negative, row.false_positive],
            [row.false_negative, row.true_positive],
        ] == table.tolist()
        assert row.recall == pytest.approx(table[1, 1] / table[1].sum(), abs=1e-12)
        assert row.precision == pytest.approx(table[1, 1] / table[:, 1].sum(), abs=1e-12)


def test_unknown_classes_against_scikit_learn_and_counting():
    known, unknown, _, _, classes, guesses = drawn()
    rows = unknown_classes(
        1.0, known, unknown, unknowns=Unknowns(classes, SETS), predictions=guesses, known_names=NAMES
    )
    assert len(rows) == 3  # "nobody" has no image
    assert [row.auroc for row in rows] == sorted(row.auroc for row in rows)
    for row in rows:
        mine = classes == SETS.index((row.source, row.name))
        truth = np.r_[np.zeros(KNOWN), np.ones(mine.sum())]
        assert row.images == mine.sum()
        assert row.auroc == pytest.approx(roc_auc_score(truth, np.r_[known, unknown[mine]]), abs=1e-12)
        taken = mine & (unknown <= 1.0)
        assert row.accepted == pytest.approx(taken.sum() / mine.sum(), abs=1e-12)
        counts = np.bincount(guesses[taken], minlength=K)
        assert row.mistaken_share == pytest.approx(counts.max() / mine.sum(), abs=1e-12)
        assert counts[NAMES.index(row.mistaken_for)] == counts.max()
        counts = np.bincount(guesses[mine], minlength=K)
        assert row.nearest_share == pytest.approx(counts.max() / mine.sum(), abs=1e-12)


def test_pooled_auroc_is_the_mean_over_classes_weighted_by_images():
    known, unknown, labels, predictions, classes, guesses = drawn()
    rows = unknown_classes(
        1.0, known, unknown, unknowns=Unknowns(classes, SETS), predictions=guesses, known_names=NAMES
    )
    pooled = headline_metrics(count_accepted(known, labels == predictions, unknown))["auroc"]
    assert sum(row.auroc * row.images for row in rows) / UNKNOWN == pytest.approx(pooled, abs=1e-12)


def test_by_hand():
    (hard, easy) = unknown_classes(
        0.4,
        [0.1, 0.2, 0.3, 0.4],
        [0.2, 0.35, 0.9, 0.8],
        unknowns=Unknowns(np.array([1, 1, 0, 0]), (("far", "sky"), ("near", "wolf"))),
        predictions=[1, 1, 0, 1],
        known_names=("cat", "dog"),
    )
    # wolf: 0.2 stands above one known and ties with one, 0.35 above three
    assert (hard.name, hard.auroc, hard.accepted, hard.mistaken_for) == ("wolf", (1.5 + 3) / 8, 1.0, "dog")
    assert (easy.name, easy.auroc, easy.accepted, easy.mistaken_for) == ("sky", 1.0, 0.0, "")
    assert (easy.mistaken_share, easy.nearest, easy.nearest_share) == (0.0, "cat", 0.5)


def test_a_class_that_nobody_has_or_predicts_is_nan_not_zero():
    (cat, dog) = known_classes(
        np.array([[2, 0, 1], [0, 0, 0], [1, 0, 3]]),
        labels=[0, 0, 0],
        predictions=[0, 0, 0],
        names=("cat", "dog"),
    )
    assert (cat.accuracy, cat.acceptance, cat.recall, cat.precision) == (1.0, 2 / 3, 2 / 3, 2 / 3)
    assert dog.images == 0
    assert np.isnan([dog.accuracy, dog.acceptance, dog.recall, dog.precision]).all()


def test_a_class_of_one_image_has_shares_and_one_of_none_has_not():
    (cat, dog, elk) = known_classes(
        np.array([[0, 1, 0, 0], [0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]),
        labels=[0, 1],
        predictions=[1, 1],
        names=("cat", "dog", "elk"),
    )
    assert (cat.accuracy, cat.acceptance, cat.recall) == (0.0, 1.0, 0.0)
    assert (dog.accuracy, dog.acceptance, dog.recall, dog.precision) == (1.0, 1.0, 1.0, 0.5)
    assert np.isnan([elk.accuracy, elk.acceptance, elk.recall]).all()


@pytest.mark.parametrize("number", [1, 3])
def test_each_unknown_image_needs_a_class(number):
    with pytest.raises(InputError, match="2 unknown images need as many classes"):
        unknown_classes(
            0,
            [0.0],
            [1.0, 2.0],
            unknowns=Unknowns(np.zeros(number, int), SETS),
            predictions=[0, 0],
            known_names=NAMES,
        )


def test_sources():
    unknowns = Unknowns(np.array([2, 0, 0]), SETS)
    assert unknowns.sources == ("held_out", "near")
    assert unknowns.of_source("held_out").tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Unknowns(np.array([0, 4]), SETS), "must lie in 0..3, but span 0..4"),
        (lambda: known_classes(np.eye(3, dtype=int), labels=[0], predictions=[0], names=NAMES), "of 5 rows"),
        (
            lambda: known_classes(np.eye(5, dtype=int), labels=[-1], predictions=[0], names=NAMES),
            "must be known classes 0..3",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
