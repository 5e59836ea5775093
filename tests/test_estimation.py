"""osr.estimation: known classes that play unknown, with everything fitted anew that they touch."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from osr import progress
from osr.detectors.base import Detector
from osr.detectors.distances import Mav
from osr.detectors.ensemble import Ensemble
from osr.detectors.logit_scores import KPlus1, MaxLogit
from osr.detectors.odin import Odin
from osr.detectors.registry import anew, build_detectors
from osr.detectors.vim import Vim
from osr.errors import InputError
from osr.estimation.folds import class_folds, refitted, similar_folds, with_head
from osr.estimation.rejection import METRICS, Stored, estimate_rejection
from osr.metrics.bootstrap import bootstrap_intervals
from osr.metrics.groups import Groups
from osr.metrics.intervals import class_mean_with_ends, share_with_ends
from osr.metrics.thresholds import fit_threshold, threshold_like
from osr.outputs import Outputs
from osr.params import load_params
from osr.training import probe

K, D, PER_CLASS = 5, 8, 30
PARAMS = load_params(Path(__file__).parents[1] / "params.yaml")
SETTINGS, PROBE = PARAMS.detectors, PARAMS.train.probe
NAMES = ("ant", "bee", "cow", "dog", "elk")


def outputs_of(seed, per_class=PER_CLASS):
    rng = np.random.default_rng(seed)
    labels = np.arange(K).repeat(per_class)
    centres = 2 * np.random.default_rng(0).normal(size=(K, D))
    features = (centres[labels] + rng.normal(size=(len(labels), D))).astype(np.float32)
    weight = centres.astype(np.float32)
    return Outputs(
        features @ weight.T, features, labels, np.arange(len(labels)), weight, np.zeros(K, np.float32)
    )


def stored():
    return Stored(outputs_of(1), outputs_of(2), outputs_of(3))


def acceptance(scores, _background, _rows):
    return fit_threshold(scores, target_acceptance=0.95)


def estimated(parts, detectors=None, **changes):
    settings = {
        "threshold_of": acceptance,
        "names": NAMES,
        "folds": class_folds(K, 2, seed=0),
        "probe": PROBE,
    } | changes
    return estimate_rejection(parts, detectors or {"maxlogit": MaxLogit(), "mav": mav()}, **settings)


def mav():
    return Mav(space="features")


@given(st.integers(3, 60), st.integers(2, 70), st.integers(0, 99))
def test_each_class_is_left_out_once_and_two_remain(num_classes, num_folds, seed):
    folds = class_folds(num_classes, num_folds, seed=seed)
    assert sorted(np.concatenate(folds).tolist()) == list(range(num_classes))
    assert all(num_classes - len(part) >= 2 for part in folds)
    assert len(folds) == (3 if num_classes == 3 else min(num_folds, num_classes))
    assert max(map(len, folds)) - min(map(len, folds)) <= 1


def around(directions, *, labels=None):
    """Three images of each class along its direction, at other lengths, and a background image."""
    directions = np.asarray(directions, np.float32)
    features = np.vstack([directions, 7 * directions, 0.1 * directions, directions[-1:]])
    labels = np.r_[np.tile(np.arange(len(directions)), 3), -2]
    weight = np.zeros_like(directions)
    return Outputs(
        features @ weight.T,
        features,
        labels,
        np.arange(len(labels)),
        weight,
        np.zeros(len(weight), np.float32),
    )


def test_similar_classes_are_left_out_together():
    """Directions count and lengths do not; images of no known class have no say."""
    train = around([[1, 0, 0], [0, 1, 0], [0.9, 0.1, 0], [0, 0.9, 0.1], [0, 0, 1], [0, 0.1, 0.9]])
    assert sorted(part.tolist() for part in similar_folds(train, 5)) == [[0, 2], [1, 3], [4, 5]]
    assert len(similar_folds(train, 2)) == 2


@pytest.mark.parametrize("near", [2, 3, 5, 9])
def test_beside_similar_classes_two_always_remain(near):
    """All but one are nearly the same, so that one part would be all that there is."""
    train = around([[1, 0.01 * place] for place in range(near)] + [[0, 1]])
    parts = similar_folds(train, 2)
    assert sorted(np.concatenate(parts).tolist()) == list(range(near + 1))
    assert max(map(len, parts)) <= near - 1


def test_two_classes_cannot_be_left_out():
    with pytest.raises(InputError, match="at least 3 classes"):
        class_folds(2, 2, seed=0)
    with pytest.raises(InputError, match="at least 3 classes"):
        similar_folds(around([[1, 0], [0, 1]]), 2)


def test_a_fold_is_what_its_parts_say():
    parts = stored()
    found = estimated(parts)
    for left_out in class_folds(K, 2, seed=0):
        kept = np.setdiff1d(np.arange(K), left_out)
        train, val, head = refitted(parts.train, parts.val, left_out, PROBE)
        assert set(train.labels) == set(val.labels) == set(range(len(kept)))
        test = with_head(parts.test, head, kept)
        assert np.allclose(test.logits, test.features @ test.weight.T + test.bias, atol=1e-4)
        scores = -test.logits.max(axis=1)
        theta = fit_threshold(-val.logits.max(axis=1), target_acceptance=0.95).value
        for number in left_out:
            own, known = parts.test.labels == number, test.labels >= 0
            (row,) = (row for row in found.classes["maxlogit"] if row.row.name == NAMES[number])
            truth, both = np.r_[np.ones(own.sum()), np.zeros(known.sum())], np.r_[scores[own], scores[known]]
            assert row.values["auroc"] == pytest.approx(roc_auc_score(truth, both))
            assert row.values["unknown_rejection"] == pytest.approx((scores[own] > theta).mean())
            few = fit_threshold(-val.logits.max(axis=1), target_acceptance=0.7).value
            assert row.values["rejection_accepting_70"] == pytest.approx((scores[own] > few).mean())
            assert row.values["rejection_accepting_95"] == pytest.approx(row.values["unknown_rejection"])
    metrics = found.metrics(0.95)
    for name in METRICS:
        values = [row.values[name] for row in found.classes["mav"]]
        assert metrics[name]["mav"] == pytest.approx(np.mean(values))
        assert metrics[f"{name}_low"]["mav"] <= metrics[name]["mav"] <= metrics[f"{name}_high"]["mav"]


def test_training_and_validation_images_of_left_out_classes_have_no_say():
    """The fate of a class is the same when its own images, but those that are tested, are other ones."""
    parts = stored()
    before = estimated(parts)
    for left_out in class_folds(K, 2, seed=0):
        strange = {}
        for part in ("train", "val"):
            outputs = getattr(parts, part)
            features = outputs.features.copy()
            features[np.isin(outputs.labels, left_out)] *= -7
            strange[part] = dataclasses.replace(outputs, features=features)
        after = estimated(dataclasses.replace(parts, **strange))
        names = {NAMES[number] for number in left_out}
        for detector, rows in before.classes.items():
            own = [
                [row for row in found if row.row.name in names] for found in (rows, after.classes[detector])
            ]
            assert own[0] == own[1]
        assert before.classes != after.classes


def test_detectors_stay_as_they_are_and_those_that_cannot_take_part_say_why():
    fitted = mav().fit(outputs_of(1))
    tail = SETTINGS.openmax.model_copy(update={"tail_size": PER_CLASS + 1})
    detectors = {
        "mav": fitted,
        "odin": Odin(temperature=1.0, epsilon=0.1),
        "kplus1": KPlus1(),
        "ensemble": Ensemble(members=(MaxLogit(), Odin(temperature=1.0, epsilon=0.1))),
        "openmax": build_detectors(SETTINGS.model_copy(update={"openmax": tail}))["openmax"],
    }
    scores = fitted.score(outputs_of(3))
    found = estimated(stored(), detectors)
    assert (fitted.score(outputs_of(3)) == scores).all()
    assert set(found.classes) == {"mav"}
    assert set(found.left_out) == {"odin", "kplus1", "ensemble", "openmax"}
    assert "network again" in found.left_out["odin"]
    assert "tail_size" in found.left_out["openmax"]
    assert anew(fitted).settings() == fitted.settings()


def test_a_head_that_does_not_converge_is_named(monkeypatch):
    monkeypatch.setattr(probe, "MAX_ITERATIONS", 1)
    with pytest.raises(InputError, match=r"train\.probe\.penalties"):
        estimated(stored())


def test_nothing_is_claimed_where_no_detector_takes_part():
    found = estimated(stored(), {"kplus1": KPlus1()})
    assert not found.metrics(0.95)


def test_a_threshold_like_another_has_its_rule_and_target():
    scores, background = np.arange(100.0), np.arange(50.0, 150.0)
    for conformal in (False, True):
        fit = fit_threshold(scores, target_acceptance=0.9, conformal=conformal)
        assert threshold_like(fit, scores, None) == fit
    rule = dataclasses.replace(fit, rule="background", target=0.1)
    assert threshold_like(rule, scores, background).false_acceptance == 0.1


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("count", [3, 10, 43])
def test_the_interval_over_classes_holds_the_mean_of_all_classes(spread, count):
    """Rejection by class is drawn from a beta distribution, of which it is to hold the mean."""
    rng, mean, size = np.random.default_rng(count), 0.8, 1 / spread - 1
    hits = 0
    for _ in range(400):
        low, high = class_mean_with_ends(rng.beta(mean * size, (1 - mean) * size, count), confidence=0.95)[1:]
        hits += low <= mean <= high
    assert hits / 400 >= 0.93


def test_a_log_hears_of_detectors_within_a_fold_and_members_are_fitted_once(monkeypatch, caplog):
    def made(*names):
        return build_detectors(SETTINGS.model_copy(update={"enabled": names}))

    alone = {name: estimated(stored(), made(name)).classes[name] for name in ("vim", "rmds", "ensemble")}
    fitted = []
    monkeypatch.setattr(Vim, "_fit", lambda *given: fitted.append(given) or Detector._fit(*given))
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    with caplog.at_level("INFO", "osr"):
        assert estimated(stored(), made("vim", "rmds", "ensemble")).classes == alone
    told = [f"leave classes out: {count} of 6 detectors in all folds" for count in range(1, 6)]
    assert caplog.messages == ["leave classes out: 2 folds", *told]
    assert len(fitted) == 2


def test_more_frames_of_the_same_tracks_make_a_perfect_share_no_surer():
    """The ends of four tracks are those of four images; of tracks of unlike length, those of fewer."""

    def low(*frames):
        groups = np.arange(len(frames)).repeat(frames)
        return share_with_ends(np.full(len(groups), True), confidence=0.95, groups=groups)[1]

    four = share_with_ends(np.full(4, True), confidence=0.95)[1]
    assert low(25, 25, 25, 25) == pytest.approx(low(50, 50, 50, 50)) == pytest.approx(low(1, 1, 1, 1))
    assert low(97, 1, 1, 1) < low(25, 25, 25, 25) <= four


def test_a_share_of_groups_varies_as_their_replicates_do():
    rng = np.random.default_rng(0)
    groups = np.arange(40).repeat(15)
    hits = rng.random(600) < np.clip(rng.normal(0.8, 0.2, 40), 0, 1)[groups]
    value, low, high = share_with_ends(hits, confidence=0.95, groups=groups)
    other = bootstrap_intervals(
        rng.normal(size=600),
        hits,
        rng.normal(size=600),
        replicates=2000,
        confidence=0.95,
        seed=0,
        groups=Groups(groups, groups + 40),
    )["accuracy"]
    assert value == hits.mean() == other.estimate
    assert (low, high) == pytest.approx((other.low, other.high), abs=0.01)
    assert share_with_ends(hits, confidence=0.95)[1] > low
