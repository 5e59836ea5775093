"""The promises of a detector (osr/detectors/contract.py): what keeps one passes, what breaks it is told."""

import contextlib

import numpy as np
import pytest
from broken_detectors import BROKEN, Chunks, Means, Nearest, NoClassOne, SaysInputError, after
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax

from osr.detectors import chunks, contract
from osr.detectors.base import NotFittedError
from osr.detectors.contract import CLASSES, FEATURES, PER_CLASS, known, unknown
from osr.errors import InputError
from osr.outputs import UNKNOWN
from osr.settings.own_code import Broken


@pytest.mark.parametrize("promise", contract.PROMISES)
def test_a_detector_that_keeps_a_promise_passes(promise):
    promise(Nearest)
    promise(lambda: Nearest(power=3.0))


@pytest.mark.parametrize(("promise", "made", "told"), BROKEN)
def test_one_that_breaks_it_is_told_how(promise, made, told):
    with pytest.raises(Broken) as error:
        getattr(contract, promise)(made)
    assert told in str(error.value)


def test_every_promise_can_be_broken():
    assert {promise for promise, *_ in BROKEN} == {promise.__name__ for promise in contract.PROMISES}


def test_an_error_of_another_kind_is_no_answer_before_fit():
    with pytest.raises(InputError, match="not yet"):
        contract.fitted_or_not(SaysInputError)
    with pytest.raises(NotFittedError):
        Nearest().score(known(1))


def test_what_is_allowed_breaks_no_promise():
    """Half of what float32 loses, one that refuses a class without images, and one that needs all images."""
    nearly = after(lambda scores, outputs: scores * (1 + 4e-5 * (len(outputs) == 1)))
    contract.image_alone(nearly)

    class Refuses(NoClassOne):
        def score(self, outputs):
            if self._state["lacks"]:
                raise InputError("a class is missing")
            return super().score(outputs)

    contract.class_never_right(Refuses)

    class Whole(Means):
        needs_all = "means are no sums"

    contract.shards_are_one_fit(Whole)
    contract.fitted_or_not(
        type("Still", (Nearest,), {"needs_fit": False, "score": lambda _, o: o.index * 1.0})
    )


def test_chunks_are_as_large_as_before_also_after_an_error():
    before = dict(chunks.CHUNK_BYTES)
    for made in (Nearest, Chunks):
        with contextlib.suppress(Broken):
            contract.any_chunks(made)
        assert before == chunks.CHUNK_BYTES
    sizes = []

    class Notes(Nearest):
        def _score(self, batch):
            sizes.append(len(batch.features))
            return super()._score(batch)

    contract.any_chunks(Notes)
    assert sizes[0] == 600
    assert sum(sizes[1:]) == 600
    assert len(sizes) > 6


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e3])
def test_made_up_outputs_are_those_of_a_linear_head(scale):
    images, plain = known(3, scale=scale), known(3)
    assert images.features.shape == (CLASSES * PER_CLASS, FEATURES)
    assert_array_equal(images.features, plain.features)
    logits = images.features.astype(float) @ images.weight.T.astype(float) + images.bias
    assert_allclose(images.logits, logits, rtol=1e-4, atol=1e-5 * scale)
    assert_allclose(images.logits, scale * plain.logits, rtol=1e-4, atol=1e-5 * scale)
    assert_allclose(images.odin[:, 0], -softmax(logits / 1000, axis=1).max(1), rtol=1e-6)
    assert_array_equal(images.extra_logits, np.full((600, 1), 6 * scale, np.float32))
    assert_allclose(images.bias.astype(float).sum(), 0, atol=1e-6 * scale)
    assert (np.diff(images.bias) > 0).all()
    assert_array_equal(images.index, np.arange(600))
    assert (np.diff(images.rotation[:, 0]) > 0).all()


def test_made_up_known_images_are_of_their_class_and_unknown_ones_of_two():
    images, others = known(0), unknown(2)
    assert_array_equal(np.bincount(images.labels), np.full(CLASSES, PER_CLASS))
    assert images.correct.all()
    assert images.features.min() == 0, "behind a ReLU"
    own = images.features.reshape(600, CLASSES, -1).mean(2)
    assert_array_equal(own.argmax(1), images.labels)
    assert_allclose(own.max(1).mean(), 5, atol=0.05)
    assert_allclose((images.features == 0).mean(), 0.45, atol=0.02)  # half of what is of other classes
    assert (others.labels == UNKNOWN).all()
    assert others.features.shape == (90, FEATURES)
    assert_array_equal((others.features == 2).sum(1), 2)
    assert ((others.features.reshape(90, CLASSES, -1) == 2).sum(2).max(1) == 1).all()
    assert 0 < np.median(others.features) < 0.05
    assert not np.array_equal(known(0).features, known(1).features)
