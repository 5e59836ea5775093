"""osr.metrics.risk against its definitions one threshold at a time, and numbers of two other programs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from test_metrics import KINDS, sample, samples

from osr.metrics import counting
from osr.metrics.open_set import open_set_metrics
from osr.metrics.risk import RISKS, Selection, risk_metrics
from osr.metrics.thresholds import count_accepted, count_known


def by_definition(known, correct, unknown):
    """Every threshold in turn, in float64."""
    scores = np.concatenate((known, unknown))
    wrong = np.concatenate((~correct, np.ones(len(unknown), bool)))
    points = [
        ((scores <= theta).mean(), wrong[scores <= theta].mean(), (wrong & (scores <= theta)).mean())
        for theta in np.unique(scores)
    ]
    coverage, risk, generalised = (np.array(column) for column in zip(*points, strict=True))
    enough = [risk[coverage >= share - 1e-12][0] for share in (0.8, 0.95)]
    kept = coverage[risk <= 0.05 + 1e-12]
    return {
        "aurc": np.trapezoid(np.append(risk[0], risk), np.append(0, coverage)),
        "augrc": np.trapezoid(np.append(0, generalised), np.append(0, coverage)),
        "risk_at_80_coverage": enough[0],
        "risk_at_95_coverage": enough[1],
        "coverage_at_5_risk": kept.max() if len(kept) else 0.0,
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (20, 20), (100, 1000)])
def test_definitions(kind, size):
    drawn = sample(kind, 1, *size)
    assert risk_metrics(count_accepted(*drawn)) == pytest.approx(by_definition(*drawn), abs=1e-12)


@settings(deadline=None, max_examples=50)
@given(samples())
def test_definitions_on_drawn_samples(drawn):
    ours = open_set_metrics(*drawn)
    assert {name: ours[name] for name in RISKS} == pytest.approx(by_definition(*drawn), abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_small_risk_allows_a_few_mistakes(seed):
    rng = np.random.default_rng(seed)
    drawn = rng.normal(size=200), rng.random(200) > 0.03, rng.normal(2, size=10)
    found = risk_metrics(count_accepted(*drawn))
    assert found == pytest.approx(by_definition(*drawn), abs=1e-12)
    first_mistake = min(drawn[0][~drawn[1]].min(), drawn[2].min())
    assert found["coverage_at_5_risk"] > (np.concatenate([drawn[0], drawn[2]]) < first_mistake).mean()


def test_by_hand():
    """Scores 1 2 2 3: right, then a wrong known tied with an unknown, then right."""
    found = risk_metrics(count_accepted([1.0, 2.0, 3.0], np.array([True, False, True]), [2.0]))
    assert found["aurc"] == pytest.approx((0 + 0 + 2 * (0 + 2 / 3) / 2 + (2 / 3 + 1 / 2) / 2) / 4)
    assert found["augrc"] == pytest.approx((0 + 2 * (0 + 2 / 4) / 2 + (2 / 4 + 2 / 4) / 2) / 4)
    assert found["risk_at_80_coverage"] == found["risk_at_95_coverage"] == 0.5
    assert found["coverage_at_5_risk"] == 0.25


def test_equal_scores_and_their_order_do_not_matter():
    known, correct, unknown = sample("tied", 5, 90, 60)
    order = np.random.default_rng(0).permutation(90)
    turned = risk_metrics(count_accepted(known[order], correct[order], unknown[::-1]))
    assert turned == risk_metrics(count_accepted(known, correct, unknown))
    errors = (60 + (~correct).sum()) / 150
    same = risk_metrics(count_accepted(np.zeros(90), correct, np.zeros(60)))
    assert [same["aurc"], same["augrc"]] == pytest.approx([errors, errors / 2])
    assert same["risk_at_80_coverage"] == pytest.approx(errors)
    assert same["coverage_at_5_risk"] == 0


def test_nothing_wrong_is_no_risk():
    known = np.arange(10.0)
    found = risk_metrics(count_accepted(known, np.ones(10, bool), [99.0]))
    assert found["risk_at_80_coverage"] == 0
    assert found["coverage_at_5_risk"] == 10 / 11
    assert found["aurc"] == pytest.approx(1 / 11**2 / 2)


def test_one_image_is_its_own_risk():
    for right, risk in ((True, 0.0), (False, 1.0)):
        found = risk_metrics(count_known([1.0], np.array([right])))
        assert found == {
            "aurc": risk,
            "augrc": risk / 2,
            "risk_at_80_coverage": risk,
            "risk_at_95_coverage": risk,
            "coverage_at_5_risk": 1 - risk,
        }
    several = Selection.of(count_known([1.0, 1.0, 2.0], np.array([True, False, True])))
    assert several.risk_at_coverage(1e-9) == several.first_risk == 1 / 2
    assert several.risk_at_coverage(1.0) == 1 / 3


def test_the_curve_has_the_area_and_windows_do_not_change_it(monkeypatch):
    counts = count_accepted(*sample("tied", 7, 300, 200))
    coverage, risk = Selection.of(counts).curve()
    whole = risk_metrics(counts)
    assert np.trapezoid(risk, coverage) == pytest.approx(whole["aurc"], abs=1e-12)
    assert coverage[0] == 0
    assert coverage[-1] == 1
    monkeypatch.setattr(counting, "ROWS", 3)
    assert risk_metrics(counts) == pytest.approx(whole, abs=1e-12)


def images(seed, *, tied):
    rng = np.random.default_rng(seed)
    known, right, unknown = rng.uniform(0, 0.7, 300), rng.random(300) < 0.85, rng.uniform(0.2, 1, 200)
    return (known.round(1), right, unknown.round(1)) if tied else (known, right, unknown)


# fd-shifts, commit 8ac4f6db: trapezoids of selective_risk_stats, generalized_risk_stats (rc_stats_utils.py),
# which RiskCoverageStats.aurc and .augrc are, but for a factor 1000; confids = 1 - score, residuals = wrong.
FD_SHIFTS = {
    (0, False): (0.3133669655615945, 0.18964999999999999),
    (1, True): (0.29621781993189333, 0.18146799999999996),
}


@pytest.mark.parametrize(("seed", "tied"), FD_SHIFTS)
def test_areas_are_those_of_fd_shifts(seed, tied):
    ours = risk_metrics(count_accepted(*images(seed, tied=tied)))
    assert (ours["aurc"], ours["augrc"]) == pytest.approx(FD_SHIFTS[seed, tied], abs=1e-12)


def test_torch_uncertainty_has_the_same_numbers_without_ties():
    """Version 0.13.0; probabilities (p, 1 - p) with p = 1 - score / 2 in float64, target `wrong`.

    AURC().compute() and so on; CovAtxRisk(0.05) is in float32 there. Its areas begin at a coverage of 1 / n.
    """
    known, right, unknown = images(0, tied=False)
    ours, n = risk_metrics(count_accepted(known, right, unknown)), 500
    wrong = np.concatenate((~right, np.ones(200, bool)))
    first = wrong[np.argmin(np.concatenate((known, unknown)))]
    assert (n * ours["aurc"] - first) / (n - 1) == pytest.approx(0.3139949556214563, abs=1e-9)
    assert (n * ours["augrc"] - first / (2 * n)) / (n - 1) == pytest.approx(0.19003006022226895, abs=1e-9)
    assert ours["risk_at_80_coverage"] == pytest.approx(0.3925, abs=1e-9)
    assert ours["risk_at_95_coverage"] == pytest.approx(0.45052631578947366, abs=1e-9)
    assert ours["coverage_at_5_risk"] == pytest.approx(0.029999999329447746, abs=1e-9)
