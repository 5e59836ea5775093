"""Detectors that are fitted shard by shard: any division gives what one fit gives."""

import pickle
from dataclasses import replace
from functools import cache, reduce

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from test_detectors import CLASSES, NAMES, known, make, outputs_of

from osr.detectors import quantile, tails, vim
from osr.detectors.base import Detector
from osr.detectors.chunks import Images
from osr.detectors.openmax import OpenMax
from osr.detectors.quantile import Counts
from osr.detectors.registry import DETECTORS
from osr.detectors.sample import Sample
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, Outputs

WHOLE = {"knn", "nnguide", "relation", "ensemble"}
IN_SHARDS = [name for name in NAMES if name not in WHOLE]
CPU = torch.device("cpu")


@cache
def train() -> Outputs:
    """Some of the images are of the background, and some wrongly classified."""
    images = known(0).select(np.arange(300))
    labels = images.labels.copy()
    labels[::23], labels[1::29] = BACKGROUND, (labels[1::29] + 1) % CLASSES
    return replace(images, labels=labels)


@cache
def fitted(name: str) -> Detector:
    return make(name).fit(train())


@cache
def expected(name: str) -> np.ndarray:
    return fitted(name).score(known(1))


@st.composite
def divisions(draw: st.DrawFn) -> list[np.ndarray]:
    """Eight shards of any size, some of them empty, dealt at random or class by class."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    labels, order = train().labels, rng.permutation(len(train()))
    if draw(st.booleans()):
        order = order[np.argsort(labels[order], kind="stable")]
    cuts = np.sort(rng.integers(0, len(order) + 1, 7))
    if draw(st.booleans()):
        cuts[:3] = cuts[3]
    return np.split(order, cuts)


@settings(max_examples=4, deadline=None)
@given(rows=divisions(), nested=st.booleans())
@pytest.mark.parametrize("name", IN_SHARDS)
def test_merged_shards_are_one_fit(name: str, rows: list[np.ndarray], nested: bool) -> None:
    parts = [make(name).partial_fit(train().select(shard)) for shard in rows]
    if nested:
        parts = [one.merge(other) for one, other in zip(parts[::2], parts[1::2], strict=True)]
    merged = reduce(lambda one, other: one.merge(other), parts)
    scores = expected(name)
    assert_allclose(merged.score(known(1)), scores, rtol=1e-6, atol=1e-6 * np.ptp(scores))


@pytest.mark.parametrize("name", IN_SHARDS)
def test_one_shard_after_the_other_and_another_process(name: str) -> None:
    detector = make(name)
    for start in range(0, 300, 75):
        detector.partial_fit(train().select(slice(start, start + 75)))
        detector = pickle.loads(pickle.dumps(detector))
    scores = expected(name)
    assert_allclose(detector.score(known(1)), scores, rtol=1e-6, atol=1e-6 * np.ptp(scores))
    # Scoring in between ends nothing, and what was merged stays as it was.
    other, before = make(name).partial_fit(known(3)), detector.score(known(1))
    other.merge(detector)
    assert_array_equal(detector.score(known(1)), before)


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_those_that_need_all_images_say_so(name: str) -> None:
    for call in (lambda: make(name).partial_fit(train()), lambda: make(name).merge(make(name))):
        with pytest.raises(InputError, match=f"{name} cannot be fitted in shards: it .* training images"):
            call()
    assert {each for each, cls in DETECTORS.items() if cls.needs_all} == WHOLE


def test_shards_that_do_not_go_together_are_refused() -> None:
    mav = make("mav").partial_fit(train())
    other = make("mav")
    other.space = "logits"
    with pytest.raises(InputError, match=r"mav with .*features.* cannot be merged with mav with .*logits"):
        mav.merge(other)
    with pytest.raises(InputError, match="cannot be merged with she"):
        mav.merge(make("she"))
    with pytest.raises(InputError, match="mav was given shards of different networks"):
        mav.partial_fit(known(0, scale=2))
    with pytest.raises(InputError, match="mav was fitted as a whole"):
        fitted("mav").partial_fit(train())
    with pytest.raises(InputError, match="mav was fitted as a whole"):
        mav.merge(fitted("mav"))
    with pytest.raises(InputError, match="unknown classes"):
        mav.partial_fit(replace(known(0), labels=np.full(len(known(0)), UNKNOWN)))


def test_what_no_shard_has_is_missed_in_the_end() -> None:
    empty = train().select(np.array([], dtype=int))
    with pytest.raises(InputError, match="needs images of known classes to fit on; there is none"):
        make("she").partial_fit(empty).merge(make("she")).score(known(1))
    lacking = make("she").partial_fit(train().select(train().labels != 2))
    with pytest.raises(InputError, match="class 2 has 0"):
        lacking.score(known(1))
    lacking.partial_fit(train().select(train().labels == 2))
    assert_allclose(lacking.score(known(1)), expected("she"), rtol=1e-6)


def test_a_sample_is_the_same_whatever_the_shards_were() -> None:
    images = known(0)
    whole = Sample.of(Images(images, None, CPU), 50)
    thirds = [Images(images.select(np.arange(start, 600, 3)), None, CPU) for start in (2, 0, 1)]
    merged = reduce(Sample.merge, [Sample.of(third, 50) for third in thirds])
    assert_array_equal(merged.features, whole.features)
    assert_array_equal(merged.labels, whole.labels)
    rows = [np.flatnonzero((images.features == row).all(1))[0] for row in whole.features.numpy()]
    assert len(set(rows)) == 50
    assert 200 < np.mean(rows) < 400  # neither the first nor the last


def test_vim_of_many_images_takes_a_sample_in_one_fit_and_in_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    exact = make("vim").fit(known(0)).score(known(1))
    monkeypatch.setattr(vim, "SAMPLE", 100)
    drawn = make("vim").fit(known(0)).score(known(1))
    shards = [make("vim").partial_fit(known(0).select(np.arange(start, 600, 8))) for start in range(8)]
    merged = reduce(lambda one, other: one.merge(other), shards).score(known(1))
    assert_allclose(merged, drawn, rtol=1e-6, atol=1e-6 * np.ptp(drawn))
    assert 0 < np.abs(drawn - exact).max() < 0.1 * np.ptp(exact)


@pytest.mark.parametrize("share", [0.0, 0.03, 0.5, 0.9, 1.0])
def test_quantiles_of_many_values_are_counted_in_fine_bins(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantile, "_EXACT", 3000)
    rng = np.random.default_rng(0)
    values = rng.normal(size=(500, 40)) * np.exp(3 * rng.normal(size=(500, 40)))
    values[rng.random(values.shape) < 0.2] = 0
    images = outputs_of(values, np.zeros(500))
    whole = Counts.of(Images(images, None, CPU))
    shards = [images.select(np.arange(start, stop)) for start, stop in ((0, 60), (60, 90), (90, 500))]
    merged = reduce(Counts.merge, [Counts.of(Images(shard, None, CPU)) for shard in shards])
    assert_array_equal(merged.bins, whole.bins)
    assert whole.bins.sum() == values.size
    exact = np.quantile(images.features.astype(float), share)
    assert_allclose(merged.quantile(share), exact, rtol=1 / 2048, atol=1e-30)


def openmax_in_shards(images: Outputs, rows: list[np.ndarray], tail: int, **changes: object) -> Detector:
    shards = [openmax(tail, **changes).partial_fit(images.select(shard)) for shard in rows]
    return reduce(lambda one, other: one.merge(other), shards)


def openmax(tail: int, **changes: object) -> OpenMax:
    chosen = make("openmax").settings() | {"tail_size": tail, "correct_only": False} | changes
    return OpenMax(**chosen)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
def test_tails_are_exact_though_shards_keep_few_images(
    distance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tails, "_BYTES", 0)  # four times the tail
    rng = np.random.default_rng(0)
    labels = np.arange(4000) % CLASSES
    far = 1 + 3 * (rng.random(4000) < 0.02)
    blocks = np.kron(np.eye(CLASSES), np.ones(4))
    images = outputs_of(5 * blocks[labels] + 0.3 * far[:, None] * rng.normal(size=(4000, 40)), labels)
    rows = np.array_split(rng.permutation(4000), 4)
    whole = openmax(3, distance=distance).fit(images)
    merged = openmax_in_shards(images, rows, 3, distance=distance)
    assert len(merged._gathered["tails"].labels) == 4 * 3 * CLASSES
    assert_allclose(merged.score(known(1)), whole.score(known(1)), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("distance", ["euclidean", "cosine", "eucos"])
def test_tails_that_a_shard_may_have_lost_are_refused(distance: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = known(0)
    rows = np.array_split(np.argsort(images.features[:, 0], kind="stable"), 2)
    assert openmax_in_shards(images, rows, 3, distance=distance).score(known(1)).shape == (600,)
    monkeypatch.setattr(tails, "_BYTES", 0)
    monkeypatch.setattr(tails, "_TIMES", 1)
    with pytest.raises(InputError, match=r"openmax cannot tell the 3 images of class \d .* keeps 3 images"):
        openmax_in_shards(images, rows, 3, distance=distance).score(known(1))
