"""Detectors each of which breaks one promise of osr/detectors/contract.py."""

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch

from osr.detectors.base import Detector
from osr.detectors.classes import gather_classes
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN


@dataclass(kw_only=True, eq=False)
class Nearest(Detector):
    """Distance to the nearest class mean, times `power`: it keeps every promise."""

    needs_fit: ClassVar[bool] = True
    power: float = 1.0

    def _gather(self, images):
        return gather_classes(images, "features", correct_only=False)

    def _learn(self, found):
        return {"means": (found["sums"] / found["counts"].clamp_min(1)[:, None]).float()}

    def _score(self, batch):
        return self.power * torch.cdist(batch.features, self._state["means"]).amin(1).double()


def after(change):
    """A class whose scores are changed: by a function of the scores and the outputs."""

    class Changed(Nearest):
        def score(self, outputs):
            return change(super().score(outputs), outputs)

    return Changed


def nan_where(holds):
    """A class that gives NaN for the images for which something holds."""
    return after(lambda scores, outputs: np.where(holds(outputs), np.nan, scores))


class Chunks(Nearest):
    """Counts the chunks of `fit`."""

    needs_all = "counts"

    def _fit(self, images):
        return super()._fit(images) | {"count": torch.tensor(float(len(list(images.batches()))))}

    def _score(self, batch):
        return super()._score(batch) + self._state["count"]


class Writes(Nearest):
    """Changes one array of what it is given."""

    field = "rotation"
    at_fit = False

    def _change(self, outputs):
        getattr(outputs, self.field).flat[0] += 1

    def fit(self, train):
        fitted = super().fit(train)
        if self.at_fit:
            self._change(train)
        return fitted

    def score(self, outputs):
        scores = super().score(outputs)
        if not self.at_fit:
            self._change(outputs)
        return scores


class WritesAtFit(Writes):
    """In fit."""

    field = "index"
    at_fit = True


class Counts(Nearest):
    """Another answer each time."""

    asked = 0

    def score(self, outputs):
        self.asked += 1
        return super().score(outputs) + self.asked


class Remembers(Nearest):
    """What an earlier fit has learned."""

    def fit(self, train):
        before = self._state
        super().fit(train)
        self._state |= {"means": self._state["means"] + before.get("means", 0)}
        return self


class Aside(Nearest):
    """Something is learned beside `_state`."""

    shift = 0.0

    def fit(self, train):
        self.shift = 1.0
        return super().fit(train)

    def _score(self, batch):
        return super()._score(batch) + self.shift


class Doubles(Nearest):
    """A setting that changes whenever it is made."""

    def __init__(self, *, power=1.0):
        super().__init__(power=2 * power)


class Adds(Nearest):
    """A file that was read is written with one array more."""

    def restore(self, state, shape):
        return super().restore(state | {"more": torch.zeros(1)}, shape)


class TakesBackground(Nearest):
    """Background images count as those of class 0."""

    def fit(self, train):
        return super().fit(replace(train, labels=np.where(train.labels == BACKGROUND, 0, train.labels)))


class TakesUnknown(Nearest):
    """Unknown images count as those of class 0."""

    def fit(self, train):
        return super().fit(replace(train, labels=np.where(train.labels == UNKNOWN, 0, train.labels)))


class TakesNone(Nearest):
    """Nothing to learn from is no matter."""

    def fit(self, train):
        if (train.labels >= 0).any():
            return super().fit(train)
        return self


class TakesAnyWidth(Nearest):
    """Only the first features are looked at, however many there are."""

    def score(self, outputs):
        first = self._shape[1]
        return super().score(
            replace(outputs, features=outputs.features[:, :first], weight=outputs.weight[:, :first])
        )


class NeverFitted(Nearest):
    """Scores before it has learned."""

    def score(self, outputs):
        return super().score(outputs) if self._state else np.zeros(len(outputs))


class SaysInputError(Nearest):
    """Another error than that of a detector that is not fitted."""

    def score(self, outputs):
        if not self._state:
            raise InputError("not yet")
        return super().score(outputs)


class NeedsNoFit(NeverFitted):
    """It says that it learns nothing."""

    needs_fit = False


class Means(Nearest):
    """Shards leave means, which are added as if they were sums."""

    def _gather(self, images):
        found = gather_classes(images, "features", correct_only=False)
        return {"means": found["sums"] / found["counts"].clamp_min(1)[:, None]}

    def _learn(self, found):
        return {"means": found["means"].float()}


class NoClassOne(Nearest):
    """A class without images leaves a mark."""

    def _learn(self, found):
        return super()._learn(found) | {"lacks": (found["counts"] == 0).any()}

    def score(self, outputs):
        return super().score(outputs) + (np.nan if self._state["lacks"] else 0)


def half_above(scores, outputs):
    """Every unknown image 1; half of the known ones 0, half 2."""
    return np.where(outputs.labels == UNKNOWN, 1.0, 2.0 * (np.arange(len(scores)) % 2))


def longest(outputs):
    return np.abs(outputs.logits).max()


BROKEN = [
    (
        "one_number_per_image",
        after(lambda scores, _: scores[:, None]),
        "scores have shape (600, 1), but must",
    ),
    ("one_number_per_image", after(lambda scores, _: scores.astype(np.float32)), "not finite float64"),
    ("one_number_per_image", nan_where(lambda o: np.arange(len(o)) == 3), "not finite float64"),
    (
        "one_number_per_image",
        after(lambda scores, _: scores if len(scores) else np.zeros(1)),
        "no images have",
    ),
    ("higher_is_more_unknown", after(lambda scores, _: -scores), "known one in 0% of pairs: turn the sign"),
    ("higher_is_more_unknown", after(half_above), "known one in 50% of pairs: turn the sign"),
    ("image_alone", after(lambda scores, _: scores + np.arange(len(scores))), "the order of images changes"),
    ("image_alone", after(lambda scores, _: scores + len(scores)), "an image alone has another score than"),
    ("any_chunks", Chunks, "scores depend on the size of chunks"),
    ("inputs_stay", Writes, "fit or score changes the rotation that it was given"),
    ("inputs_stay", WritesAtFit, "fit or score changes the index that it was given"),
    ("inputs_stay", Counts, "scoring twice gives two answers"),
    ("inputs_stay", Remembers, "a second fit remembers the first"),
    ("file_has_it_all", Aside, "a file gives other scores: all that fit learns must be tensors in `_state`"),
    ("file_has_it_all", Doubles, "a file gives other settings than were saved"),
    ("file_has_it_all", Adds, "a file that was read is written otherwise"),
    (
        "memory_maps",
        after(lambda scores, o: scores + o.features.flags.writeable),
        "on disk have other scores",
    ),
    ("extremes", nan_where(lambda o: ~o.features.any(1)), "features of zeros have no finite score"),
    ("extremes", nan_where(lambda o: longest(o) > 1e3), "logits times 1000 have no finite score"),
    ("extremes", nan_where(lambda o: longest(o) < 1e-3), "logits times 1e-06 have no finite score"),
    ("background_passed_over", TakesBackground, "background images change what is learned"),
    ("refusals", TakesUnknown, "fit takes unknown images"),
    ("refusals", TakesNone, "fit takes outputs without a known image"),
    ("refusals", TakesAnyWidth, "score takes features of another width"),
    ("fitted_or_not", NeverFitted, "it scores before fit, but `needs_fit` is True"),
    ("fitted_or_not", NeedsNoFit, "it scores otherwise before fit, but `needs_fit` is False"),
    ("float64_agrees", after(lambda s, o: s + (o.logits.dtype == np.float64)), "float64 has other scores"),
    ("class_never_right", NoClassOne, "a class that is never right leaves no finite score"),
    ("shards_are_one_fit", Means, "merged shards are not one fit: let `_gather` return sums, or set"),
]

# What `file_has_it_all` reads is found by its name.
for number, (_, made, _) in enumerate(BROKEN):
    if made.__name__ == "Changed":
        made.__qualname__ = made.name = f"Changed{number}"
