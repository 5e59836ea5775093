"""osr.metrics.legacy: hand-computed cases where published code differs from our metrics, and its loops."""

import ast
import itertools
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import auc, precision_recall_curve, roc_curve

from osr.calibration.reliability import Reliability
from osr.errors import InputError
from osr.metrics import legacy
from osr.metrics.open_set import ccr_at_fpr, open_set_metrics
from osr.metrics.thresholds import count_accepted

ROOT = Path(__file__).parents[1]
PERFECT = [1.0, 2.0, 3.0, 4.0], [5.0, 6.0]


def ours(known, unknown, correct=None):
    correct = np.ones(len(known), bool) if correct is None else np.asarray(correct)
    return open_set_metrics(known, correct, unknown)


def sample(seed):
    """Known scores, correctness and unknown scores: without ties, or with many."""
    rng = np.random.default_rng(seed)
    num_known, num_unknown = rng.integers(1, 60, 2)
    known, unknown = rng.normal(size=num_known), rng.normal(size=num_unknown) + 0.7
    if seed % 2:
        known, unknown = np.round(known), np.round(unknown)
    return known, rng.random(num_known) < 0.7, unknown


@pytest.mark.parametrize("package", ["osr", "pipeline"])
def test_nothing_imports_it(package):
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            assert not [name for name in names if name.startswith("osr.metrics.legacy")], path


# ---- ARPL


def test_arpl_counts_ties_as_zero():
    # pairs: 1 < 2, 1 < 3, 2 = 2, 2 < 3
    known, unknown = [1.0, 2.0], [2.0, 3.0]
    assert legacy.arpl_auroc(known, unknown) == 3 / 4
    assert ours(known, unknown)["auroc"] == 3.5 / 4
    assert legacy.arpl_auroc([0.0] * 3, [0.0] * 5) == 0
    assert ours([0.0] * 3, [0.0] * 5)["auroc"] == 0.5
    assert legacy.arpl_auroc(*PERFECT) == 1


def test_arpl_fpr_takes_the_nearest_share_and_the_unknowns_after_it():
    # 9 knowns: 9/9 is nearest to 95 %, and accepting all takes every unknown along
    assert legacy.arpl_fpr_at_95tpr(np.arange(9.0), [100.0]) == 1
    assert ours(np.arange(9.0), [100.0])["fpr_at_95tpr_known"] == 0
    # 20 knowns: 19 are accepted up to 18; theirs also accepts 18.5, for the next known stands at 19
    assert legacy.arpl_fpr_at_95tpr(np.arange(20.0), [18.5, 30.0]) == 0.5
    assert ours(np.arange(20.0), [18.5, 30.0])["fpr_at_95tpr_known"] == 0
    # 13 knowns: 12/13 = 92 % is nearer than 13/13; ours insists on 95 % and accepts 11.5 and 12
    assert legacy.arpl_fpr_at_95tpr(np.arange(13.0), [12.0, 30.0]) == 0.5
    assert legacy.arpl_fpr_at_95tpr(np.arange(13.0), [12.5, 30.0]) == 0
    assert ours(np.arange(13.0), [12.0, 30.0])["fpr_at_95tpr_known"] == 0.5


def test_arpl_pr_areas_lose_half_an_image_at_the_end():
    assert legacy.arpl_auin(*PERFECT) == 1 - 1 / 8
    assert legacy.arpl_auout(*PERFECT) == 1 - 1 / 4
    assert ours(*PERFECT)["aupr_known"] == ours(*PERFECT)["aupr_unknown"] == 1
    # from the most known: K, U, K gives precision 0, 1, 1/2, 2/3 at recall 0, 1/2, 1/2, 1
    assert legacy.arpl_auin([0.0, 2.0], [1.0]) == pytest.approx(1 / 4 + (1 / 2 + 2 / 3) / 4)
    # a tie: the unknown is taken first from either end's point of view of the other class
    assert legacy.arpl_auin([1.0], [1.0]) == pytest.approx(1 / 4)
    assert legacy.arpl_auout([1.0], [1.0]) == pytest.approx(1 / 4)


def test_arpl_oscr_is_one_image_off():
    # s rising: K U K U, all right. True: (1 + 2) / 4. Unknown 1 has K next below it, unknown 2 as well:
    # each loses half a known image of two, 2 * (1/2) / (2 * 2)
    known, unknown = [0.0, 2.0], [1.0, 3.0]
    assert ours(known, unknown)["auoscr"] == 3 / 4
    assert legacy.arpl_oscr(known, [True, True], unknown) == 3 / 4 - 2 / 8
    # one unknown behind all four knowns loses half a known: 1 / (2 * 4)
    assert legacy.arpl_oscr([0.0, 1.0, 2.0, 3.0], [True] * 4, [4.0]) == 1 - 1 / 8
    # nothing is lost where the image next below an unknown is a wrong known
    assert (
        legacy.arpl_oscr([0.0, 2.0], [True, False], [3.0]) == ours([0, 2.0], [3.0], [True, False])["auoscr"]
    )


@pytest.mark.parametrize("seed", range(30))
def test_arpl_oscr_against_its_loop(seed):
    known, correct, unknown = sample(seed)
    order = np.argsort(-np.append(known, unknown), kind="stable")
    right = np.append(correct, np.zeros(len(unknown)))[order]
    novel = np.append(np.zeros(len(known)), np.ones(len(unknown)))[order]
    points = [(novel[k:].sum(), right[k + 1 :].sum()) for k in range(len(order) - 1)] + [(0, 0)]
    fpr, ccr = np.array(points[::-1]).T
    expected = np.trapezoid(ccr, fpr) / (len(known) * len(unknown))
    assert legacy.arpl_oscr(known, correct, unknown) == pytest.approx(expected, abs=1e-12)
    if seed % 2 == 0:
        short = ours(known, unknown, correct)["auoscr"] - expected
        assert -1e-12 <= short <= 1 / (2 * max(len(known), len(unknown))) + 1e-12


# ---- OpenOOD


def test_fpr_at_95_has_two_orientations():
    # half of U stands below all of K: accepting 95 % of K takes it along, rejecting 95 % of U costs all of K
    known, unknown = np.arange(100.0), np.append(np.full(10, -1.0), np.full(10, 200.0))
    assert legacy.openood_v1_fpr_at_95tpr(known, unknown) == 0.5
    assert legacy.openood_fpr_at_95tpr(known, unknown) == 1
    found = ours(known, unknown)
    assert (found["fpr_at_95tpr_known"], found["fpr_at_95tpr_unknown"]) == (0.5, 1)


def test_openood_v1_fpr_rounds_down_and_leaves_ties_out():
    # 10 knowns: floor(9.5) = 9 gives theta 8, ours needs 10 and theta 9
    assert legacy.openood_v1_fpr_at_95tpr(np.arange(10.0), [8.5, 20.0]) == 0
    assert ours(np.arange(10.0), [8.5, 20.0])["fpr_at_95tpr_known"] == 0.5
    # 20 knowns: theta is 18 for both, but an unknown at 18 counts only for us
    assert legacy.openood_v1_fpr_at_95tpr(np.arange(20.0), [18.0, 30.0]) == 0
    assert ours(np.arange(20.0), [18.0, 30.0])["fpr_at_95tpr_known"] == 0.5


def test_openood_fpr_skips_the_points_of_a_straight_piece():
    # one known and one unknown at each of 20 scores: of the diagonal only the ends are kept
    scores = np.arange(20.0)
    assert ours(scores, scores)["fpr_at_95tpr_unknown"] == 19 / 20
    assert legacy.openood_fpr_at_95tpr(scores, scores) == 1
    # all unknown images at the largest score, two of four knowns with them: the first point is enough
    assert legacy.openood_fpr_at_95tpr([0.0, 1.0, 5.0, 5.0], [5.0] * 4) == 0.5


def test_openood_pr_areas_draw_straight_lines():
    # K, U, K: (0, 1) (1/2, 1) (1/2, 1/2) (1, 2/3); steps give 1/2 + 1/3
    assert legacy.openood_aupr_in([0.0, 2.0], [1.0]) == pytest.approx(1 / 2 + (1 / 2 + 2 / 3) / 4)
    assert ours([0.0, 2.0], [1.0])["aupr_known"] == pytest.approx(5 / 6)
    # equal scores, a quarter unknown
    assert legacy.openood_aupr_out([0.0] * 3, [0.0]) == (1 + 1 / 4) / 2
    assert legacy.openood_aupr_in([0.0] * 3, [0.0]) == (1 + 3 / 4) / 2
    assert ours([0.0] * 3, [0.0])["aupr_unknown"] == 1 / 4


def test_openood_ccr_allows_one_unknown_fewer():
    known, unknown = np.arange(10.0), np.arange(10.0) + 0.5
    correct = np.ones(10, bool)
    # FPR 0.2 of 10: ours accepts 2 unknowns up to s < 2.5, theirs only what lies below 1.5
    assert legacy.openood_v1_ccr_at_fpr(known, correct, unknown, fpr=0.2) == 0.2
    assert ccr_at_fpr(count_accepted(known, correct, unknown), 0.2) == 0.3
    # FPR 0.001 of 10 cannot be measured
    assert legacy.openood_v1_ccr_at_fpr(known, correct, unknown, fpr=0.001) == 0.1
    assert np.isnan(ccr_at_fpr(count_accepted(known, correct, unknown), 0.001))
    with pytest.raises(InputError, match="above 0 and at most 1, not 0"):
        legacy.openood_v1_ccr_at_fpr(known, correct, unknown, fpr=0)


@pytest.mark.parametrize("seed", range(30))
def test_openood_against_scikit_learn_by_its_recipes(seed):
    known, _, unknown = sample(seed)
    scores = np.append(known, unknown)
    is_unknown = np.arange(len(scores)) >= len(known)
    fpr, tpr, _ = roc_curve(is_unknown, scores)
    assert legacy.openood_fpr_at_95tpr(known, unknown) == fpr[tpr >= 0.95][0]
    assert legacy.openood_fpr_at_95tpr(known, unknown) >= ours(known, unknown)["fpr_at_95tpr_unknown"]
    for positive, sign, function in (
        (~is_unknown, -1, legacy.openood_aupr_in),
        (is_unknown, 1, legacy.openood_aupr_out),
    ):
        precision, recall, _ = precision_recall_curve(positive, sign * scores)
        assert function(known, unknown) == pytest.approx(auc(recall, precision), abs=1e-12)


def test_openood_ece_bins_raw_logits_and_drops_certainty():
    labels = np.array([0, 0, 1])
    logits = np.array([[5.0, -5.0], [-3.0, 4.0], [-2.0, 6.0]])
    assert legacy.openood_ece(logits, labels, bins=15) == 0  # no logit lies in 0..1
    logits[0] = [0.75, 0.0]
    assert legacy.openood_ece(logits, labels, bins=2) == 0.25  # one image counts: |1 - 0.75|
    # given probabilities it leaves out the image of confidence 1, which is wrong
    probabilities = np.array([[0.75, 0.25], [0.0, 1.0], [0.25, 0.75]])
    assert legacy.openood_ece(probabilities, labels, bins=2) == 0.25
    whole = Reliability.of(probabilities.max(1), probabilities.argmax(1) == labels, bins=2).ece()
    assert whole == pytest.approx((3 * (2.5 / 3 - 2 / 3)) / 3)
    with pytest.raises(InputError, match="at least 1 bin"):
        legacy.openood_ece(logits, labels, bins=0)


@pytest.mark.parametrize("bins", [1, 4, 15])
def test_openood_ece_against_its_loop(bins):
    rng = np.random.default_rng(bins)
    logits, labels = rng.uniform(-1.5, 1.3, (300, 3)), rng.integers(0, 3, 300)
    logits[:40] = np.round(logits[:40] * bins) / bins  # some on the edges of bins, 0 and 1 among them
    confidence, right = logits.max(axis=1), logits.argmax(axis=1) == labels
    edges, errors, counted = np.linspace(0, 1, bins + 1), 0.0, 0
    for low, high in itertools.pairwise(edges):
        inside = (confidence >= low) & (confidence < high)
        counted += inside.sum()
        errors += abs(right[inside].sum() - confidence[inside].sum())
    assert 0 < counted < 300
    assert legacy.openood_ece(logits, labels, bins=bins) == pytest.approx(errors / counted)


# ---- the seed


def test_seed_swaps_in_and_out():
    known, unknown = [0.0, 2.0], [1.0]
    assert legacy.seed_aupr_out(known, unknown) == ours(known, unknown)["aupr_known"] == pytest.approx(5 / 6)
    assert legacy.seed_aupr_in(known, unknown) == ours(known, unknown)["aupr_unknown"] == 1 / 2
    # where others' AUPR-In has K as positives
    assert legacy.seed_aupr_out(*PERFECT) == legacy.openood_aupr_in(*PERFECT) == 1


def test_seed_oscr_is_of_the_largest_probability_and_counts_no_tie():
    known = np.array([[0.9, 0.1], [0.4, 0.6], [0.5, 0.5]])
    unknown = np.array([[0.4, 0.6], [0.5, 0.5]])
    # right: image 0 (0.9, below both) and image 2 (0.5, ties with the second); image 1 is wrong
    labels = np.array([0, 0, 0])
    assert legacy.seed_oscr(known, labels, unknown) == 2 / 6
    msp = ours(1 - known.max(1), 1 - unknown.max(1), [True, False, True])
    assert msp["auoscr"] == pytest.approx(2.5 / 6)


def test_seed_u_recall_accepts_one_score_too_many():
    # 19 K, then U: 19/20 = 95 % may be accepted; the next unknown may not, but is
    known, unknown = np.arange(19.0), [19.0, 20.0, 21.0, 22.0]
    assert ours(known, unknown)["u_recall_at_95_seen_precision"] == 3 / 4
    assert legacy.seed_u_recall_at_95_seen_precision(known, unknown) == 2 / 4
    # no threshold will do: ours says so
    assert np.isnan(ours([1.0], [0.0, 2.0])["u_recall_at_95_seen_precision"])
    assert legacy.seed_u_recall_at_95_seen_precision([1.0], [0.0, 2.0]) == 1 / 2
    # everything may be accepted
    assert legacy.seed_u_recall_at_95_seen_precision(np.arange(40.0), [50.0]) == 0


# ---- all of them

OF_SCORES = (
    legacy.arpl_auroc,
    legacy.arpl_fpr_at_95tpr,
    legacy.arpl_auin,
    legacy.arpl_auout,
    legacy.openood_v1_fpr_at_95tpr,
    legacy.openood_fpr_at_95tpr,
    legacy.openood_aupr_in,
    legacy.openood_aupr_out,
    legacy.seed_aupr_in,
    legacy.seed_aupr_out,
    legacy.seed_u_recall_at_95_seen_precision,
)


@pytest.mark.parametrize("function", OF_SCORES)
def test_inputs_stay_untouched_and_nan_is_refused(function):
    known, unknown = np.array([3.0, 1.0, 2.0]), np.array([2.5, 0.5])
    value = function(known, unknown)
    assert 0 <= value <= 1
    np.testing.assert_array_equal(known, [3, 1, 2])
    np.testing.assert_array_equal(unknown, [2.5, 0.5])
    with pytest.raises(InputError, match="NaN"):
        function([np.nan], unknown)
    with pytest.raises(InputError, match="non-empty"):
        function(known, [])
