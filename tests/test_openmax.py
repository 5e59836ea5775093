"""OpenMax against numbers worked out by hand and a slow, plain version."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import brentq
from scipy.spatial import distance as metrics
from scipy.stats import weibull_min

from osr.detectors.openmax import OpenMax, largest_per_class
from osr.detectors.registry import load_detector
from osr.errors import InputError
from osr.outputs import Outputs

DEFAULTS = {
    "space": "logits",
    "distance": "euclidean",
    "tail_size": 20,
    "alpha": 10,
    "weighting": "code",
    "correct_only": True,
    "translation": "none",
}
SMALLEST_BECOMES = {"libmr": 1, "osdn": 10_000}


def outputs(logits, features=None, labels=None) -> Outputs:
    logits = np.asarray(logits, dtype=np.float32)
    features = logits if features is None else np.asarray(features, dtype=np.float32)
    labels = logits.argmax(1) if labels is None else np.asarray(labels)
    weight = np.zeros((logits.shape[1], features.shape[1]), np.float32)
    return Outputs(
        logits,
        features,
        labels.astype(np.int64),
        np.arange(len(labels)),
        weight,
        np.zeros(len(weight), np.float32),
    )


def random_outputs(seed: int, *, count: int = 400, classes: int = 4) -> Outputs:
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % classes
    logits = 3 * np.eye(classes)[labels] + rng.normal(size=(count, classes))
    features = np.repeat(logits, 2, axis=1) + rng.normal(size=(count, 2 * classes))
    return outputs(logits, features, labels)


def slow_weibull(sample: np.ndarray) -> tuple[float, float]:
    logs = np.log(sample / sample.max())

    def slope(shape: float) -> float:
        powers = np.exp(shape * logs)
        return (powers * logs).sum() / powers.sum() - 1 / shape - logs.mean()

    shape = brentq(slope, 1e-2, 1e8, xtol=1e-12, rtol=1e-14)
    return shape, sample.max() * np.exp(shape * logs).mean() ** (1 / shape)


def slow_distance(a: np.ndarray, b: np.ndarray, kind: str) -> float:
    cosine = metrics.cosine(a, b)
    return {
        "cosine": cosine,
        "euclidean": metrics.euclidean(a, b),
        "eucos": metrics.euclidean(a, b) / 200 + cosine,
    }[kind]


def slow_openmax(train: Outputs, test: Outputs, settings: dict) -> np.ndarray:
    """Image by image and class by class, as the paper's text goes."""
    classes = train.num_classes
    means, models = [], []
    for c in range(classes):
        rows = (train.labels == c) & ((train.predictions == c) | (not settings["correct_only"]))
        values = getattr(train, settings["space"])[rows].astype(float)
        means.append(values.mean(0))
        distances = sorted(slow_distance(value, means[c], settings["distance"]) for value in values)
        tail = np.array(distances[-settings["tail_size"] :])
        moved = SMALLEST_BECOMES.get(settings["translation"], tail[0]) - tail[0]
        models.append((moved, *slow_weibull(tail + moved)))
    probabilities = []
    for value, logits in zip(
        getattr(test, settings["space"]).astype(float), test.logits.astype(float), strict=True
    ):
        alpha = min(settings["alpha"], classes)
        revised = logits.copy()
        for rank, c in enumerate(np.argsort(-logits)[:alpha], start=1):
            moved, shape, scale = models[c]
            x = max(slow_distance(value, means[c], settings["distance"]) + moved, 0)
            w = 1 - np.exp(-((x / scale) ** shape))
            share = (alpha - rank + (settings["weighting"] == "code")) / alpha
            revised[c] = logits[c] * (1 - w * share)
        everything = np.append(revised, (logits - revised).sum())
        exponentials = np.exp(everything - everything.max())
        probabilities.append(exponentials / exponentials.sum())
    return np.array(probabilities)


CASES = [
    {},
    {"space": "features"},
    {"distance": "cosine"},
    {"distance": "eucos", "space": "features"},
    {"weighting": "paper"},
    {"alpha": 2},
    {"alpha": 1, "weighting": "paper"},
    {"correct_only": False, "tail_size": 40},
    {"translation": "libmr"},
    {"translation": "libmr", "space": "features", "distance": "cosine"},
    {"translation": "osdn"},
    {"translation": "osdn", "distance": "eucos"},
]


@pytest.mark.parametrize("changes", CASES, ids=str)
def test_slow_version_agrees(changes: dict) -> None:
    settings = DEFAULTS | changes
    train, test = random_outputs(0), random_outputs(1, count=60)
    detector = OpenMax(**settings).fit(train)
    expected = slow_openmax(train, test, settings)
    found = detector.probabilities(test)
    assert found.shape == (60, 5)
    assert_allclose(found.sum(1), 1, rtol=1e-12)
    assert_allclose(found, expected, rtol=2e-4, atol=1e-7)
    assert_allclose(detector.score(test), found[:, -1], rtol=0, atol=0)


def by_hand(**changes) -> OpenMax:
    """Means (4, 0) and (0, 4); distances 1, 1, 2, 2 of each class, all of them the tail."""
    around = np.array([[1, 0], [-1, 0], [0, 2], [0, -2]])
    train = outputs(
        np.concatenate([around + np.array([4, 0]), around + np.array([0, 4])]), labels=[0] * 4 + [1] * 4
    )
    return OpenMax(**(DEFAULTS | {"tail_size": 4, "alpha": 2} | changes)).fit(train)


def test_by_hand() -> None:
    # Two 1s and two 2s: with u = 2^k the condition 2^k ln 2 / (1 + 2^k) - 1/k - ln(2)/2 = 0 gives k, and
    # scale^k = (1 + 2^k) / 2.
    shape = brentq(lambda k: 2**k / (1 + 2**k) * np.log(2) - 1 / k - np.log(2) / 2, 1, 10)
    scale = ((1 + 2**shape) / 2) ** (1 / shape)
    detector = by_hand()
    assert_allclose(detector._state["weibull_shape"], shape, rtol=1e-6)
    assert_allclose(detector._state["weibull_scale"], scale, rtol=1e-6)
    assert shape == pytest.approx(3.46, abs=0.01)
    assert scale == pytest.approx(1.67, abs=0.01)
    # An image at (4, 1): distance 1 to class 0, 5 to class 1.
    near, far = 1 - np.exp(-((1 / scale) ** shape)), 1 - np.exp(-((5 / scale) ** shape))
    assert near == pytest.approx(0.154, abs=0.002)
    moved = [4 * near, 1 * far / 2]
    logits = np.array([4 - moved[0], 1 - moved[1], sum(moved)])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert_allclose(detector.probabilities(outputs([[4, 1]])), [expected], rtol=1e-5)
    # In the paper's weighting rank 1 counts half and rank 2 not at all.
    logits = np.array([4 - 2 * near, 1, 2 * near])
    expected = np.exp(logits) / np.exp(logits).sum()
    assert_allclose(by_hand(weighting="paper").probabilities(outputs([[4, 1]])), [expected], rtol=1e-5)


def test_a_negative_logit_rises_when_rejected() -> None:
    probabilities = by_hand(alpha=1).probabilities(outputs([[-50.0, -60.0]]))
    # Class 0 is rejected outright: its logit becomes 0 and the unknown one -50.
    assert_allclose(probabilities, [[1, np.exp(-60), np.exp(-50)]], rtol=1e-5)


@pytest.mark.parametrize("size", [1e4, -1e4, 1e-4, 0.0])
def test_extreme_logits_give_probabilities(size: float) -> None:
    probabilities = by_hand().probabilities(outputs([[size, 0], [size, -size], [size, size]]))
    assert np.isfinite(probabilities).all()
    assert_allclose(probabilities.sum(1), 1)


def test_alpha_above_the_number_of_classes_means_all() -> None:
    test = random_outputs(1)
    scores = [by_hand(alpha=alpha).score(outputs(test.logits[:, :2])) for alpha in (2, 3, 1000)]
    assert (scores[0] == scores[1]).all()
    assert (scores[0] == scores[2]).all()


def test_far_images_are_unknown_and_the_middle_of_a_class_is_not() -> None:
    detector = by_hand()
    assert detector.score(outputs([[40, 1]]))[0] > 0.99
    assert detector.score(outputs([[4, 0]]))[0] < 0.05


def test_too_few_images_name_class_count_and_setting() -> None:
    train = random_outputs(0)
    few = train.select((train.labels != 2) | (np.arange(400) < 60))
    count = int((few.correct & (few.labels == 2)).sum())
    message = rf"class 2 has {count}; 1 of 4 .*lower detectors.openmax.tail_size to at most {count}"
    with pytest.raises(InputError, match=message):
        OpenMax(**DEFAULTS).fit(few)
    OpenMax(**DEFAULTS | {"tail_size": count}).fit(few)
    with pytest.raises(InputError, match=r"needs 20 correctly .*tail_size.*class 2 has 0"):
        OpenMax(**DEFAULTS).fit(train.select(train.labels != 2))


def test_equal_distances_are_refused() -> None:
    logits = np.repeat([[4.0, 0], [0, 4]], 5, axis=0)
    with pytest.raises(InputError, match=r"class 0: the 5 largest distances .* from 0 to 0"):
        OpenMax(**DEFAULTS | {"tail_size": 5}).fit(outputs(logits))


def test_moved_distances_may_reach_down_to_0_but_not_be_equal() -> None:
    at_mean = outputs([[4.0, 0], [5, 0], [3, 0], [0, 4], [0, 5], [0, 3]])
    with pytest.raises(InputError, match=r"class 0: the 3 largest .* must be above 0 and"):
        OpenMax(**DEFAULTS | {"tail_size": 3}).fit(at_mean)
    OpenMax(**DEFAULTS | {"tail_size": 3, "translation": "libmr"}).fit(at_mean)
    equal = outputs(np.repeat([[4.0, 0], [0, 4]], 5, axis=0))
    with pytest.raises(InputError, match=r"from 0 to 0, but must not all be equal"):
        OpenMax(**DEFAULTS | {"tail_size": 5, "translation": "libmr"}).fit(equal)


@pytest.mark.parametrize("translation", ["libmr", "osdn"])
def test_images_nearer_than_a_moved_distance_of_0_are_not_rejected(translation: str) -> None:
    """With libmr, an image that is more than 1 nearer than the tail."""
    rng = np.random.default_rng(0)
    logits = np.concatenate([1e6 * np.eye(3)[[c] * 30] + 1e5 * rng.normal(size=(30, 3)) for c in range(3)])
    detector = OpenMax(**DEFAULTS | {"translation": translation}).fit(outputs(logits))
    middle = outputs(detector._state["means"].numpy())
    assert (detector.decisions(middle) == [0, 1, 2]).all()
    assert (detector.score(middle) == 0).all()


def test_a_translation_survives_saving(tmp_path: Path) -> None:
    test = random_outputs(1)
    detector = OpenMax(**DEFAULTS | {"translation": "libmr"}).fit(random_outputs(0))
    detector.save(tmp_path / "openmax.safetensors")
    assert_array_equal(load_detector(tmp_path / "openmax.safetensors").score(test), detector.score(test))


def test_largest_per_class() -> None:
    values, labels = np.array([5.0, 1, 4, 2, 3, 0]), np.array([0, 1, 0, 1, 0, 1])
    assert largest_per_class(values, labels, 2).tolist() == [[4, 5], [1, 2]]


def test_the_class_decision_is_the_most_probable_of_all() -> None:
    train, test = random_outputs(0), random_outputs(1, count=300)
    detector = OpenMax(**DEFAULTS).fit(train)
    expected = slow_openmax(train, test, DEFAULTS).argmax(1)
    decisions = detector.decisions(test)
    assert decisions.dtype == np.int64
    assert_array_equal(decisions, np.where(expected == 4, -1, expected))
    assert {-1, 0, 1, 2, 3} == set(decisions.tolist())
    assert_array_equal(by_hand().decisions(outputs([[4, 0], [0, 4], [90, 90]])), [0, 1, -1])


def test_the_weibull_of_each_class_is_scipys() -> None:
    train = random_outputs(3)
    state = OpenMax(**DEFAULTS).fit(train)._state
    for label in range(4):
        rows = (train.labels == label) & train.correct
        values = train.logits[rows].astype(float)
        tail = np.sort(np.linalg.norm(values - values.mean(0), axis=1))[-20:]
        shape, _, scale = weibull_min.fit(tail, floc=0)
        assert_allclose(float(state["weibull_shape"][label]), shape, rtol=1e-3)
        assert_allclose(float(state["weibull_scale"][label]), scale, rtol=1e-3)
