"""Which detector is chosen when known classes are left out, by AUROCs made up for it."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from osr.errors import InputError
from osr.estimation.choice import choose
from osr.estimation.rejection import Estimate
from pipeline.report.judge import in_words

LABELS = ("cat", "dog", "cow", "owl")


def estimate(aurocs):
    """What leaving four classes out found; each detector lists the classes in another order."""
    rows = {
        name: sorted(
            (
                SimpleNamespace(row=SimpleNamespace(name=label), values={"auroc": value})
                for label, value in zip(LABELS, values, strict=True)
            ),
            key=lambda row: row.values["auroc"],
        )
        for name, values in aurocs.items()
    }
    return Estimate(rows, {}, 1.0, 1.0, {"odin": "it needs the network"}, 4)


def chosen(aurocs, confidence=0.95, *, seen=False):
    return choose(estimate(aurocs), confidence=confidence, seed=0, seen=seen)


def test_the_best_is_chosen_where_it_is_better_in_each_class() -> None:
    choice = chosen({"mahalanobis": [0.5, 0.9, 0.6, 0.7], "knn": [0.6, 1.0, 0.7, 0.8]})
    assert (choice.detector, choice.alike, choice.sure) == ("knn", ["knn"], 1.0)
    first, second = choice.ranking
    assert (first.detector, first.behind, first.margin) == ("knn", 0, 0)
    assert second.behind == pytest.approx(0.1)
    assert second.margin == pytest.approx(0, abs=1e-12)
    assert first.auroc == pytest.approx(0.775)
    assert first.low < first.auroc < first.high


NEAR = {"knn": [0.6, 1.0, 0.7, 0.8], "msp": [0.5, 1.0, 0.8, 0.76], "mav": [0.3, 0.7, 0.4, 0.5]}


def test_what_does_not_differ_is_told_class_by_class() -> None:
    """The margin is that of a paired t-test; without a trusted detector the first of the ranking is taken."""
    choice = chosen(NEAR)
    assert (choice.detector, choice.alike) == ("knn", ["knn", "msp"])
    test = ttest_1samp(np.subtract(NEAR["knn"], NEAR["msp"]), 0).confidence_interval(0.95)
    assert choice.ranking[1].behind - choice.ranking[1].margin == pytest.approx(test.low)
    assert choice.ranking[1].behind + choice.ranking[1].margin == pytest.approx(test.high)
    assert chosen(NEAR, confidence=0.1).alike == ["knn"]


def test_a_trusted_detector_judges_unless_another_is_better_beyond_chance() -> None:
    trusted = {("ensemble" if name == "msp" else name): values for name, values in NEAR.items()}
    choice = chosen(trusted)
    assert (choice.detector, choice.alike) == ("ensemble", ["knn", "ensemble"])
    assert 0 < choice.sure < 1
    assert chosen(trusted, confidence=0.1).detector == "knn"


def test_classes_that_the_network_has_seen_have_no_say_beside_a_trusted_detector() -> None:
    trusted = {("ensemble" if name == "mav" else name): values for name, values in NEAR.items()}
    choice = chosen(trusted, seen=True)
    assert (choice.detector, choice.alike, choice.sure) == ("ensemble", ["knn", "msp"], 0.0)
    assert in_words(choice).endswith("so that the ranking may mislead: it has no say.")
    assert "do not tell it apart" not in in_words(choice)
    assert chosen(trusted).detector == "knn"
    assert chosen(NEAR, seen=True).detector == "knn"
    assert in_words(chosen(NEAR, seen=True)).endswith("so that the ranking may mislead.")


def test_how_sure_a_choice_is_falls_with_what_classes_disagree() -> None:
    apart = chosen({"knn": [0.9, 0.9, 0.9, 0.5], "msp": [0.6, 0.6, 0.6, 0.6]})
    assert apart.detector == "knn"
    assert 0.6 < apart.sure < 1


def test_without_an_estimate_there_is_no_choice() -> None:
    with pytest.raises(InputError, match="none has an estimate: odin: it needs the network"):
        chosen({})
