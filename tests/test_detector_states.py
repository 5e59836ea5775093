"""What a detector knows of itself: origin, shape, size and file; and which files are no detectors."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from tampering import rewrite
from test_detectors import make, settings

from osr.detectors.base import FORMAT, Detector, NotFittedError
from osr.detectors.contract import CLASSES, FEATURES, known
from osr.detectors.ensemble import Ensemble
from osr.detectors.logit_scores import KPlus1, MaxLogit, Msp
from osr.detectors.network_again import NetworkAgain
from osr.detectors.odin import Odin
from osr.detectors.registry import (
    DETECTORS,
    anew,
    build_detectors,
    detector_class,
    load_detector,
    members_of,
    needs_more_than_features,
    network_again_of,
    own_detector,
)
from osr.detectors.rotpred import RotPred
from osr.errors import InputError
from osr.outputs import BACKGROUND, UNKNOWN
from osr.stored.origin import Origin

ONE, TWO = (Origin(weights=digit * 16, split="a" * 16) for digit in "12")
ODIN = Odin(temperature=1000.0, epsilon=0.0)


def of(origin: Origin, seed: int = 0):
    return replace(known(seed), made_from=origin)


def test_a_fit_remembers_what_it_was_made_from_and_forgets_its_file(tmp_path) -> None:
    detector = make("she").fit(of(ONE))
    assert (detector.made_from, detector.digest) == (ONE, None)
    detector.save(tmp_path / "she")
    assert detector.digest is not None
    assert load_detector(tmp_path / "she").made_from == ONE
    assert (detector.fit(of(TWO)).made_from, detector.digest) == (TWO, None)
    shards = make("she").partial_fit(of(ONE))
    shards.save(tmp_path / "she")
    assert shards.partial_fit(of(ONE, 1)).digest is None
    assert shards.made_from == ONE


def test_images_of_other_weights_are_not_scored() -> None:
    detector = make("she").fit(of(ONE))
    with pytest.raises(InputError, match=r"fitted on outputs of weights 1{16}, .* weights 2{16}: both must"):
        detector.score(of(TWO))
    for origin in (ONE, Origin(), Origin(weights=ONE.weights, split="b" * 16)):
        assert_array_equal(detector.score(of(origin)), detector.score(of(ONE)))
    assert make("she").fit(of(Origin())).score(of(TWO)).shape == (600,)


def test_shards_are_of_the_same_weights_and_perhaps_of_other_splits() -> None:
    shards = make("she").partial_fit(of(ONE))
    with pytest.raises(InputError, match="shards of different networks"):
        shards.partial_fit(of(TWO))
    other = Origin(weights="".join(ONE.weights), split="b" * 16)  # equal text, as each file holds its own
    assert other.weights is not ONE.weights
    assert shards.partial_fit(of(other)).made_from == Origin(weights=ONE.weights)
    unnamed = make("she").partial_fit(of(Origin())).partial_fit(of(TWO))
    assert unnamed.made_from == Origin()
    for change in ("weight", "bias"):
        moved = replace(of(ONE), **{change: getattr(known(0), change) + 1})
        with pytest.raises(InputError, match="shards of different networks"):
            make("she").partial_fit(of(ONE)).partial_fit(moved)


def test_other_classes_or_features_are_not_scored() -> None:
    detector, images = make("she").fit(known(0)), known(1)
    fewer = replace(
        images,
        logits=images.logits[:, :9],
        weight=images.weight[:9],
        bias=images.bias[:9],
        labels=images.labels % 9,
    )
    narrow = replace(images, features=images.features[:, 1:], weight=images.weight[:, 1:])
    for other, shape in ((fewer, "(9, 40)"), (narrow, "(10, 39)")):
        told = f"fitted on (classes, features) = (10, 40), but is asked to score {shape}"
        with pytest.raises(InputError, match=re.escape(told)):
            detector.score(other)
    assert make("msp").score(narrow).shape == make("msp").score(fewer).shape == (600,)
    with pytest.raises(InputError, match=r"\(10, 40\), but is asked to score"):
        make("msp").fit(known(0)).score(narrow)


def test_labels_are_not_looked_at_by_score() -> None:
    images = known(1)
    detector = make("she").fit(known(0))
    unknown = replace(images, labels=np.full(600, UNKNOWN))
    assert_array_equal(detector.score(unknown), detector.score(images))


def test_a_score_that_is_not_finite_is_told_with_its_image() -> None:
    class Third(MaxLogit):
        def _score(self, batch):
            return torch.where(torch.arange(len(batch.logits)) % 7 == 3, torch.inf, batch.logits[:, 0])

    with pytest.raises(InputError, match="gives inf for image 3: its features or logits are too large"):
        Third().score(known(1))


def test_the_size_is_how_many_numbers_are_held() -> None:
    assert make("she").fit(known(0)).size == CLASSES * FEATURES
    assert make("msp").fit(known(0)).size == 0
    assert make("she").size == 0
    assert make("she").partial_fit(known(0)).size == CLASSES * FEATURES


@pytest.mark.parametrize("name", ["msp", "mav", "rmds", "knn"])
def test_what_is_shown_of_a_detector_are_its_settings(name) -> None:
    detector = make(name)
    told = ", ".join(f"{key}={value!r}" for key, value in detector.settings().items())
    assert repr(detector.fit(known(0))) == repr(make(name)) == f"{type(detector).__name__}({told})"


def test_nothing_to_learn_from_is_refused() -> None:
    nothing = replace(known(0), labels=np.full(600, BACKGROUND))
    for name in ("she", "msp", "knn"):
        with pytest.raises(
            InputError, match=f"{name} needs images of known classes to fit on; there is none"
        ):
            make(name).fit(nothing)
    assert make("msp").partial_fit(nothing).score(known(1)).shape == (600,)
    with pytest.raises(InputError, match="there is none"):
        make("she").partial_fit(nothing).score(known(1))


def test_one_unknown_image_is_refused_by_fit_and_by_a_shard() -> None:
    labels = known(0).labels.copy()
    labels[599] = UNKNOWN
    for name, call in (("she", "fit"), ("she", "partial_fit"), ("msp", "fit"), ("knn", "fit")):
        with pytest.raises(InputError, match=f"{name} was given images of unknown classes to fit on"):
            getattr(make(name), call)(replace(known(0), labels=labels))


def test_a_detector_that_has_no_shards_yet_may_be_merged() -> None:
    one, two = make("she"), make("she").partial_fit(known(0))
    assert two.merge(one) is two
    assert one.merge(two) is one
    assert_array_equal(one.score(known(1)), two.score(known(1)))
    read = make("she").restore({"means": two._state["means"]}, (CLASSES, FEATURES))
    for call in (lambda: read.partial_fit(known(0)), lambda: two.merge(read), lambda: read.merge(two)):
        with pytest.raises(InputError, match="she was fitted as a whole or read from a file"):
            call()


@pytest.mark.parametrize("name", ["msp", "she", "ensemble"])
def test_a_file_is_of_this_format_and_of_this_detector(name, tmp_path) -> None:
    path = tmp_path / f"{name}.safetensors"

    def refused(told: str, change=None, arrays=None) -> None:
        make(name).fit(known(0)).save(path)
        rewrite(path, change, arrays)
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))} .*{told}"):
            load_detector(path)

    refused(f"format is {FORMAT + 1}, but must be {FORMAT}", lambda said: said.update(format=FORMAT + 1))
    refused(f"format is {FORMAT - 1}, but must be {FORMAT}", lambda said: said.update(format=FORMAT - 1))
    refused(
        r"holds detector knn: its name must be knn\.safetensors\.", lambda said: said.update(detector="knn")
    )
    for shape in ([0, 3], [3, 0], [(1 << 16) + 1, 3], [3, (1 << 16) + 1], [3], [3, 3, 3], "3"):
        refused("shape", lambda said, shape=shape: said.update(shape=shape))
    refused("'detector'|detector is", lambda said: said.update(detector="nothing"))
    refused("no such detector or settings", lambda said: said["settings"].update(nothing=1))
    if name != "msp":
        refused(f"{name} cannot score with its arrays|no such", None, lambda arrays: arrays.clear())


def test_a_setting_out_of_range_is_told_by_its_key(tmp_path) -> None:
    make("energy").fit(known(0)).save(tmp_path / "energy.safetensors")
    rewrite(tmp_path / "energy.safetensors", lambda said: said["settings"].update(temperature=0.0))
    with pytest.raises(InputError, match=r"settings: \('temperature',\) Input should be greater"):
        load_detector(tmp_path / "energy.safetensors")


def test_a_detector_that_learns_nothing_goes_with_any_network(tmp_path) -> None:
    make("maxlogit").save(tmp_path / "maxlogit")
    loaded = load_detector(tmp_path / "maxlogit", device="cpu")
    assert_array_equal(loaded.score(known(1)), -known(1).logits.max(1))
    with pytest.raises(NotFittedError, match="she is not fitted: call fit before save"):
        make("she").save(tmp_path / "she")


@pytest.mark.parametrize("name", [name for name in DETECTORS if name not in ("odin", "rotpred")])
def test_one_that_is_made_anew_has_the_settings_and_learned_nothing(name) -> None:
    fitted = make(name).fit(known(0))
    found = anew(fitted)
    assert type(found) is type(fitted)
    assert found.settings() == fitted.settings()
    assert all(part._state == {} for part in members_of(found))
    if found.needs_fit:
        with pytest.raises(NotFittedError, match=f"{name} is not fitted: call fit with"):
            found.score(known(1))


def test_members_are_those_of_an_ensemble_and_are_made_in_order_of_names() -> None:
    chosen = settings().ensemble.model_copy(update={"members": ("vim", "msp", "knn")})
    made = build_detectors(settings().model_copy(update={"enabled": ("ensemble", "msp"), "ensemble": chosen}))
    assert list(made) == ["ensemble", "msp"]
    assert [part.name for part in members_of(made["ensemble"])] == ["ensemble", "knn", "msp", "vim"]
    assert members_of(made["msp"]) == (made["msp"],)


def test_who_needs_the_network_again_is_named_once_for_each_column() -> None:
    turns, other = RotPred(), Odin(temperature=2.0, epsilon=0.0)
    both = Ensemble(members=(Msp(), ODIN, turns))
    assert network_again_of(Msp(), both) == (ODIN, turns)
    assert network_again_of(ODIN, turns, other) == (other, turns)
    assert network_again_of(Msp()) == ()
    assert {name for name, cls in DETECTORS.items() if issubclass(cls, NetworkAgain)} == {"odin", "rotpred"}


def test_what_needs_more_than_stored_features_says_why() -> None:
    assert needs_more_than_features(Msp()) == ""
    assert needs_more_than_features(Ensemble(members=(Msp(), MaxLogit()))) == ""
    for detector in (ODIN, Ensemble(members=(Msp(), ODIN))):
        assert needs_more_than_features(detector).startswith("odin needs the network again")
    for detector in (KPlus1(), Ensemble(members=(Msp(), KPlus1()))):
        assert needs_more_than_features(detector).startswith("kplus1 reads an extra class")


def test_a_name_that_is_no_detector_is_no_class() -> None:
    assert detector_class("msp") is Msp
    with pytest.raises(KeyError):
        detector_class("nothing")
    told = r"The settings {'powr': 2} do not fit detector broken_detectors:Nearest \(.*powr"
    with pytest.raises(InputError, match=told):
        own_detector("broken_detectors:Nearest", {"powr": 2})
    assert own_detector("broken_detectors:Nearest", {"power": 2.0}).settings() == {"power": 2.0}


@pytest.mark.parametrize("name", ["odin", "rotpred"])
def test_columns_of_the_network_are_read_as_they_are(name) -> None:
    images = known(1)
    detector = make(name)
    batch = SimpleNamespace(odin=torch.from_numpy(images.odin), rotation=torch.from_numpy(images.rotation))
    assert_array_equal(detector.read(batch), getattr(images, detector.column)[:, 0])
    without = replace(images, **{detector.column: np.empty((600, 0))})
    told = (
        f"{name} needs the network again, .* without it: set {detector.setting} to true, or leave {name} out"
    )
    with pytest.raises(InputError, match=told):
        detector.score(without)


@pytest.mark.parametrize(("base", "method"), [(Detector, "_score"), (NetworkAgain, "column_of")])
def test_a_class_without_what_it_must_have_makes_no_detector(base, method) -> None:
    class Without(base):
        name = "without"

    with pytest.raises(TypeError, match=method):
        Without()
