"""What every detector promises, as checks on made-up images: tests run them on ours, `osr check` on yours.

A check takes a function that makes the detector, not fitted, and raises `Broken` with a sentence.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from osr.detectors import chunks
from osr.detectors.base import Detector, NotFittedError
from osr.detectors.registry import load_detector, members_of
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN, Outputs
from osr.settings.own_code import Broken, keep

CLASSES, FEATURES, PER_CLASS = 10, 40, 60
SMALL_CHUNK = 19_000  # bytes: many chunks of the made-up images
Make = Callable[[], Detector]
Scores = NDArray[np.float64]


def outputs_of(features: NDArray[Any], labels: NDArray[Any], *, scale: float = 1.0) -> Outputs:
    """Outputs of a made-up network whose class c looks at its own block of features.

    Args:
        features: (N, FEATURES).
        labels: (N,) in 0..CLASSES-1, or of unknown or background images.
        scale: of the head's weight and bias.
    """
    weight = np.kron(np.eye(CLASSES), np.ones(FEATURES // CLASSES)) - 0.1
    weight = (scale * (weight + 0.01 * np.random.default_rng(99).normal(size=weight.shape))).astype(
        np.float32
    )
    bias = (scale * np.linspace(-0.2, 0.2, CLASSES)).astype(np.float32)
    features = features.astype(np.float32)
    logits = features @ weight.T + bias
    extra = np.full((len(labels), 1), 6 * scale, np.float32)
    odin = -softmax(logits.astype(np.float64) / 1000, axis=1).max(axis=1, keepdims=True)
    turns, index = np.linspace(0, 0.1, len(labels))[:, None], np.arange(len(labels))
    return Outputs(logits, features, labels.astype(np.int64), index, weight, bias, extra, odin, turns)


def known(seed: int, *, scale: float = 1.0) -> Outputs:
    """Known images: class c activates its own block of features."""
    rng = np.random.default_rng(seed)
    labels = np.tile(np.arange(CLASSES), PER_CLASS)
    blocks = np.kron(np.eye(CLASSES), np.ones(FEATURES // CLASSES))
    features = np.maximum(5 * blocks[labels] + 0.5 * rng.normal(size=(len(labels), FEATURES)), 0)
    return outputs_of(features, labels, scale=scale)


def unknown(seed: int) -> Outputs:
    """Unknown images: one weak feature from each of two blocks."""
    rng = np.random.default_rng(seed)
    features = 0.05 * np.abs(rng.normal(size=(90, FEATURES)))
    width = FEATURES // CLASSES
    for row in features:
        row[width * rng.choice(CLASSES, 2, replace=False)] = 2
    return outputs_of(features, np.full(90, UNKNOWN))


def unknown_above_known(detector: Detector) -> float:
    """In which share (0..1) of pairs of made-up images an unknown one scores above a known one."""
    known_scores, unknown_scores = detector.score(known(1)), detector.score(unknown(2))
    return float((unknown_scores[:, None] > known_scores).mean())


def _scores_of(make: Make) -> Scores:
    """Of made-up known images, fitted to others."""
    return make().fit(known(0)).score(known(1))


def one_number_per_image(make: Make) -> None:
    """One finite float64 score for each image, also of no image."""
    detector = make().fit(known(0))
    scores = detector.score(known(1))
    keep(scores.shape == (CLASSES * PER_CLASS,), f"scores have shape {scores.shape}, but must have (N,)")
    keep(scores.dtype == np.float64 and bool(np.isfinite(scores).all()), "scores are not finite float64")
    none = detector.score(known(1).select(np.array([], dtype=int)))
    keep(none.shape == (0,), f"no images have scores of shape {none.shape}")


def higher_is_more_unknown(make: Make) -> None:
    """Unknown images score higher than known ones more often than not."""
    share = unknown_above_known(make().fit(known(0)))
    keep(share > 0.5, f"an unknown image scores above a known one in {share:.0%} of pairs: turn the sign")


def image_alone(make: Make) -> None:
    """The score of an image depends neither on its place nor on the images beside it."""
    detector, images = make().fit(known(0)), known(1)
    expected = detector.score(images)
    order = np.random.default_rng(0).permutation(len(images))
    _close(detector.score(images.select(order)), expected[order], "the order of images changes scores")
    alone = [detector.score(images.select(np.array([row]))) for row in range(12)]
    _close(np.concatenate(alone), expected[:12], "an image alone has another score than among others")


def any_chunks(make: Make) -> None:
    """How many images are worked on at once changes nothing, neither in `fit` nor in `score`."""
    expected = _scores_of(make)
    with _chunks_of(SMALL_CHUNK):
        found = _scores_of(make)
    _close(found, expected, "scores depend on the size of chunks")


def inputs_stay(make: Make) -> None:
    """`fit` and `score` change no input; scoring again, and fitting again, gives the same bits."""
    train, test = known(0), known(1)
    before, detector = deepcopy((train, test)), make()
    expected = detector.fit(train).score(test)
    keep(np.array_equal(detector.score(test), expected), "scoring twice gives two answers")
    again = detector.fit(known(5)).fit(train).score(test)
    keep(np.array_equal(again, expected), "a second fit remembers the first")
    for old, now in zip(before, (train, test), strict=True):
        for entry in fields(Outputs):
            same = np.array_equal(getattr(now, entry.name), getattr(old, entry.name))
            keep(same, f"fit or score changes the {entry.name} that it was given")


def file_has_it_all(make: Make) -> None:
    """A file holds settings and arrays: what is read scores with the same bits, and is written the same."""
    detector = make().fit(known(0))
    with tempfile.TemporaryDirectory() as folder:
        one, two = (Path(folder) / place / detector.name for place in ("one", "two"))
        detector.save(one)
        loaded = load_detector(one, allow_code=[member.name for member in members_of(detector)])
        keep(loaded.settings() == detector.settings(), "a file gives other settings than were saved")
        same = np.array_equal(loaded.score(known(1)), detector.score(known(1)))
        keep(same, "a file gives other scores: all that fit learns must be tensors in `_state`")
        loaded.save(two)
        keep(one.read_bytes() == two.read_bytes(), "a file that was read is written otherwise")


def memory_maps(make: Make) -> None:
    """Outputs on disk, which nobody may write to, give the same bits."""
    expected = _scores_of(make)
    with tempfile.TemporaryDirectory() as folder:
        for seed in (0, 1):
            known(seed).save(Path(folder) / str(seed))
        train, test = (Outputs.load(Path(folder) / str(seed)) for seed in (0, 1))
        keep(np.array_equal(make().fit(train).score(test), expected), "outputs on disk have other scores")


def extremes(make: Make) -> None:
    """Features that are all 0, one that never moves in training, and logits 1e-6 and 1e3 times as long."""
    train, test = known(0), known(1)
    zero = outputs_of(np.zeros((1, FEATURES)), np.array([0]))
    keep(bool(np.isfinite(make().fit(train).score(zero)).all()), "features of zeros have no finite score")
    for scale in (1e-6, 1e3):
        images = known(0, scale=scale)
        found = make().fit(images).score(images)
        keep(bool(np.isfinite(found).all()), f"logits times {scale:g} have no finite score")
    still = train.features.copy()
    still[:, 3] = 0
    found = make().fit(outputs_of(still, train.labels)).score(test)
    keep(bool(np.isfinite(found).all()), "a feature that is always 0 in training leaves no finite score")


def background_passed_over(make: Make) -> None:
    """Background images among the training images change nothing."""
    train, other = known(0), unknown(3)
    labels = np.concatenate([train.labels, np.full(len(other), BACKGROUND)])
    mixed = outputs_of(np.concatenate([train.features, other.features]), labels)
    middle = np.arange(len(train), len(mixed))
    mixed = mixed.select(np.concatenate([np.arange(100), middle, np.arange(100, len(train))]))
    expected = make().fit(train).score(known(1))
    _close(make().fit(mixed).score(known(1)), expected, "background images change what is learned")


def refusals(make: Make) -> None:
    """`fit` refuses unknown images and none at all; `score` refuses outputs of another width."""
    train = known(0)
    labels = train.labels.copy()
    labels[7] = UNKNOWN
    _refuses(lambda: make().fit(replace(train, labels=labels)), "fit takes unknown images")
    nothing = replace(train, labels=np.full(len(train), BACKGROUND))
    _refuses(lambda: make().fit(nothing), "fit takes outputs without a known image")
    features, weight = (np.pad(array, ((0, 0), (0, 1))) for array in (train.features, train.weight))
    wide = replace(train, features=features, weight=weight)
    _refuses(lambda: make().fit(train).score(wide), "score takes features of another width")


def fitted_or_not(make: Make) -> None:
    """What learns says so (`needs_fit`) and refuses to score before; what does not scores the same before."""
    detector, images = make(), known(1)
    if detector.needs_fit:
        _refuses(
            lambda: make().score(images), "it scores before fit, but `needs_fit` is True", NotFittedError
        )
        return
    expected = make().fit(known(0)).score(images)
    same = np.array_equal(detector.score(images), expected)
    keep(same, "it scores otherwise before fit, but `needs_fit` is False")


def float64_agrees(make: Make) -> None:
    """Float64 outputs give the scores of float32 ones."""

    def doubled(images: Outputs) -> Outputs:
        names = ("logits", "features", "weight", "bias")
        return replace(images, **{name: getattr(images, name).astype(np.float64) for name in names})

    expected = _scores_of(make)
    _close(make().fit(doubled(known(0))).score(doubled(known(1))), expected, "float64 has other scores")


def class_never_right(make: Make) -> None:
    """A class without a right training image is refused with a sentence, or does no harm."""
    train = known(0)
    wrong = train.select(train.labels != 2)
    wrong.labels[wrong.labels == 1] = 2
    try:
        scores = make().fit(wrong).score(known(1))
    except InputError:
        return
    keep(bool(np.isfinite(scores).all()), "a class that is never right leaves no finite score")


def shards_are_one_fit(make: Make) -> None:
    """Shards of the training images, merged in any order, are one fit; or `needs_all` says why not."""
    if make().needs_all:
        return
    train, expected = known(0), _scores_of(make)
    order = np.random.default_rng(4).permutation(len(train))
    one, two, three = (make().partial_fit(train.select(rows)) for rows in np.array_split(order, 3))
    found = three.merge(one).merge(two).score(known(1))
    _close(found, expected, "merged shards are not one fit: let `_gather` return sums, or set `needs_all`")


def _close(found: Scores, expected: Scores, told: str) -> None:
    atol = 1e-5 * float(np.ptp(expected))
    same = found.shape == expected.shape and np.allclose(found, expected, rtol=1e-4, atol=atol)
    keep(same, told)


def _refuses(call: Callable[[], object], told: str, error: type[Exception] = InputError) -> None:
    try:
        call()
    except error:
        return
    raise Broken(told)


@contextmanager
def _chunks_of(size: int) -> Iterator[None]:
    before = chunks.CHUNK_BYTES["cpu"]
    chunks.CHUNK_BYTES["cpu"] = size
    try:
        yield
    finally:
        chunks.CHUNK_BYTES["cpu"] = before


PROMISES: tuple[Callable[[Make], None], ...] = (
    one_number_per_image,
    higher_is_more_unknown,
    image_alone,
    any_chunks,
    inputs_stay,
    file_has_it_all,
    memory_maps,
    extremes,
    background_passed_over,
    refusals,
    fitted_or_not,
    float64_agrees,
    class_never_right,
    shards_are_one_fit,
)
