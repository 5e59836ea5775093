"""The section `detectors` of params.yaml: the ends of every range, and what does not go together."""

import math
from typing import get_args

import pytest
from changed_settings import SHIPPED, changed, complaint
from pydantic import ValidationError
from test_detectors import make

from osr.detectors.registry import DETECTORS, build_detectors
from osr.detectors.settings import DetectorName, DetectorsSettings, each_once

MANY = 10**9
BELOW_1 = math.nextafter(1, 0)
COUNT = (1, MANY, 0, MANY + 1)
SHARE = (1e-9, BELOW_1, 0.9e-9, 1.0)
FRACTION = (1e-9, 1.0, 0.9e-9, math.nextafter(1, 2))
ABOVE = math.nextafter(1e6, math.inf)
POSITIVE = (1e-6, 1e6, 0.9e-6, ABOVE)
WEIGHT = (0.0, 1e6, -1e-9, ABOVE)
RIDGE = (1e-12, 1e6, 0.9e-12, ABOVE)
# The smallest and the largest value that are taken, and one below and above that is not.
RANGES = {
    "target_acceptance": SHARE,
    "target_false_acceptance": SHARE,
    "energy.temperature": POSITIVE,
    "gen.gamma": SHARE,
    "gen.num_top": COUNT,
    "openmax.tail_size": (2, MANY, 1, MANY + 1),
    "openmax.alpha": COUNT,
    "mahalanobis.ridge": RIDGE,
    "rmds.ridge": RIDGE,
    "knn.num_neighbors": COUNT,
    "knn.bank_fraction": FRACTION,
    "nnguide.num_neighbors": COUNT,
    "nnguide.bank_fraction": FRACTION,
    "vim.dimension": COUNT,
    "residual.dimension": COUNT,
    "react.quantile": (1e-9, BELOW_1, 0.0, 1.0),
    "react.lower_quantile": (0.0, 0.85, -1e-9, 0.9),
    "ash.pruned_fraction": SHARE,
    "scale.pruned_fraction": SHARE,
    "dice.masked_fraction": SHARE,
    "nci.alpha": WEIGHT,
    "relation.power": POSITIVE,
    "relation.bank_fraction": FRACTION,
    "neco.dimension": COUNT,
    "odin.temperature": POSITIVE,
    "odin.epsilon": WEIGHT,
}
CHOICES = {
    "mav.space": {"features", "logits"},
    "openmax.space": {"features", "logits"},
    "openmax.distance": {"euclidean", "cosine", "eucos"},
    "openmax.weighting": {"code", "paper"},
    "openmax.translation": {"none", "libmr", "osdn"},
    "ash.variant": {"S", "B", "P"},
    "mahalanobis.ridge": {"auto"},
    "rmds.ridge": {"auto"},
    "vim.dimension": {"auto"},
    "residual.dimension": {"auto"},
    "neco.dimension": {"auto"},
}


def section(**changes) -> DetectorsSettings:
    """The shipped section with some keys, which `__` divides, set to other values."""
    content = changed({f"detectors.{key.replace('__', '.')}": value for key, value in changes.items()})
    return DetectorsSettings.model_validate(content["detectors"])


def put(key: str, value: object) -> object:
    """What a key holds after it was set to the value."""
    found = section(**{key.replace(".", "__"): value})
    for part in key.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("key", RANGES)
def test_a_range_holds_its_ends_and_nothing_beyond(key: str) -> None:
    smallest, largest, below, above = RANGES[key]
    for value in (smallest, largest):
        assert put(key, value) == value
    for value in (below, above, math.nan, "1", None):
        with pytest.raises(ValidationError):
            put(key, value)


@pytest.mark.parametrize("key", CHOICES)
def test_a_choice_is_one_of_those_that_are_named(key: str) -> None:
    for value in CHOICES[key]:
        assert put(key, value) == value
        with pytest.raises(ValidationError):
            put(key, value.swapcase())


def test_every_number_and_choice_of_the_section_is_tried() -> None:
    tried = RANGES.keys() | CHOICES.keys() | {"threshold_rule", "enabled", "ensemble.members"}
    shipped = {
        f"{key}.{inner}" if inner else key
        for key, value in SHIPPED["detectors"].items()
        for inner in (value if isinstance(value, dict) else [""])
    }
    yes_or_no = {"openmax.correct_only", "mahalanobis.normalize", "rmds.normalize", "neco.by_maxlogit"}
    assert shipped - tried == yes_or_no
    for key in yes_or_no:
        assert [put(key, value) for value in (True, False)] == [True, False]


def test_reacts_quantiles_are_in_order() -> None:
    assert section(react__lower_quantile=0.8999).react.lower_quantile == 0.8999
    for lower, upper in ((0.9, 0.9), (0.5, 0.4)):
        told = complaint({"detectors.react.lower_quantile": lower, "detectors.react.quantile": upper})
        assert told == (
            f"detectors.react.lower_quantile is {lower:g}, but must be below detectors.react.quantile "
            f"({upper:g})."
        )


@pytest.mark.parametrize("name", get_args(DetectorName))
def test_each_detector_may_be_enabled_and_be_a_member(name: str) -> None:
    settings = section(enabled=[name])
    assert list(build_detectors(settings)) == [name]
    if name != "ensemble":
        assert (settings.enabled, settings.used, settings.ranked, settings.own) == ((name,), (name,), (), ())
        members = section(enabled=["ensemble"], ensemble__members=[name, "my_file:Own"])
        assert members.ranked == (name, "my_file:Own")
        assert members.used == ("ensemble", name, "my_file:Own")
        assert members.own == ("my_file:Own",)


@pytest.mark.parametrize("members", [[], ["msp"], ["msp", "ensemble"], ["ensemble", "knn", "msp"]])
def test_an_ensemble_has_two_members_and_not_itself(members: list[str]) -> None:
    told = complaint({"detectors.ensemble.members": members})
    assert told == (
        f"detectors.ensemble.members is {members}, but must hold at least two detectors, and not the "
        "ensemble itself."
    )


def test_no_detector_stands_twice() -> None:
    assert each_once(("a", "b"), "key") == ("a", "b")
    with pytest.raises(ValueError, match=r"^key is \['b', 'a', 'b', 'c', 'a'\], but .* several times a, b$"):
        each_once(("b", "a", "b", "c", "a"), "key")
    told = complaint({"detectors.ensemble.members": ["msp", "knn", "msp"]})
    assert told == (
        "detectors.ensemble.members is ['msp', 'knn', 'msp'], but must hold each detector once, not several "
        "times msp."
    )


def test_options_are_those_of_own_detectors_that_are_used() -> None:
    own = {"my_file:Own": {"power": 2}}
    assert section(enabled=["my_file:Own"], options=own).options == own
    settings = section(enabled=["my_file:Own", "ensemble"], ensemble__members=["my_file:Own", "b:C"])
    assert settings.own == ("my_file:Own", "b:C")
    told = complaint({"detectors.enabled": ["maxlogit", "a:B", "c:D"], "detectors.options": own})
    assert told == (
        "detectors.options holds 'my_file:Own', but must hold settings of those detectors alone that are "
        "your own and used: a:B, c:D."
    )
    with pytest.raises(ValidationError, match="'msp'"):
        section(options={"msp": {}})


def test_what_a_detector_is_made_of_are_its_settings() -> None:
    changes = {"knn__num_neighbors": 3, "react__lower_quantile": 0.25, "rmds__normalize": True}
    built = build_detectors(section(enabled=["rmds", "react", "knn"], **changes))
    assert list(built) == ["rmds", "react", "knn"]
    assert built["knn"].settings() == {"num_neighbors": 3, "bank_fraction": 1.0}
    assert built["react"].settings() == {"quantile": 0.9, "lower_quantile": 0.25}
    assert built["rmds"].settings() == {"ridge": "auto", "normalize": True}


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_made_by_the_names_of_its_settings_and_equals_itself_alone(name: str) -> None:
    settings = make(name).settings()
    one, other = (DETECTORS[name](**settings) for _ in range(2))
    assert one == one
    assert one != other, "what it has learned counts, too"
    assert len({one, other}) == 2
    if settings:
        with pytest.raises(TypeError):
            DETECTORS[name](*settings.values())
