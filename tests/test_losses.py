"""Losses: the contract every registered loss keeps."""

from collections.abc import Callable

import pytest
import torch
from made_losses import SHIPPED, make

from osr.errors import InputError
from osr.losses.contract import PROMISES, Make, batch, head_for, right_is_cheaper
from osr.losses.registry import LOSSES, build_loss, check_background
from osr.losses.settings import BACKGROUND_LOSSES, EXTRA_CLASS_LOSSES, SOFT_LABEL_LOSSES

NAMES = sorted(LOSSES)
WITH_BACKGROUND = [name for name in NAMES if LOSSES[name].needs_background]
# Each loss's own settings, with values other than those of params.yaml.
SETTINGS: dict[str, dict[str, float]] = {
    "ce": {},
    "logitnorm": {"temperature": 0.1},
    "logit_adjusted": {"tau": 0.5},
    "one_vs_rest": {},
    "center": {"weight": 0.1},
    "arpl": {"weight": 0.5, "margin": 2.0},
    "entropic": {},
    "objectosphere": {"weight": 0.1, "min_norm": 2.0},
    "outlier_exposure": {"weight": 1.0},
    "energy_reg": {"weight": 0.5, "known_energy": -9.0, "background_energy": -1.0},
    "kplus1": {},
    "proser": {"second_weight": 0.5, "mixed_weight": 1.0, "alpha": 5.0},
    "penalty": {"rho": 3.0},
    "threshold": {"tau": 0.9},
    "combined": {"alpha_p": 1.0, "alpha_t": 1.0},
    "supcon": {"temperature": 0.5},
}


def value(name: str, **changes: float) -> float:
    loss, head = make(name, **changes)
    _, *arguments = batch(loss, head)
    torch.manual_seed(1)
    return loss(*arguments).item()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise(promise: Callable[[Make], None], name: str) -> None:
    if (name, promise) == ("supcon", right_is_cheaper):
        return  # it reads features alone, which are the same there
    promise(lambda: make(name))


@pytest.mark.parametrize("name", [name for name in NAMES if name != "supcon"])  # it reads features alone
def test_a_right_answer_costs_less_than_a_wrong_one(name: str) -> None:
    loss, head = make(name)
    labels, right = torch.arange(4), 5 * torch.eye(4, head.num_outputs, dtype=torch.float64)
    features = torch.zeros(4, head.weight.shape[1], dtype=torch.float64)
    assert loss(right, features, labels) < loss(right.roll(1, 0), features, labels)
    if name != "energy_reg":  # which also wants long logits
        assert loss(right, features, labels) < loss(0 * right, features, labels)
        assert loss(0 * right, features, labels) < loss(right.roll(1, 0), features, labels)


def test_every_loss_names_its_settings() -> None:
    assert list(SETTINGS) == list(LOSSES)
    fields = {
        name: set((getattr(SHIPPED, name, None) and getattr(SHIPPED, name).model_dump()) or ())
        for name in NAMES
    }
    assert fields == {name: set(changes) for name, changes in SETTINGS.items()}


@pytest.mark.parametrize(
    ("name", "key", "changed"),
    [(name, key, changed) for name, keys in SETTINGS.items() for key, changed in keys.items()]
    + [(name, "label_smoothing", 0.2) for name in SETTINGS],
)
def test_every_setting_changes_the_value(name: str, key: str, changed: float) -> None:
    assert value(name) != value(name, **{key: changed})


@pytest.mark.parametrize(("of", "key", "changed"), [("penalty", "rho", 3.0), ("threshold", "tau", 0.9)])
def test_combined_takes_the_settings_of_its_parts(of: str, key: str, changed: float) -> None:
    head = head_for(LOSSES["combined"], kind="linear")
    others = SHIPPED.model_copy(update={of: getattr(SHIPPED, of).model_copy(update={key: changed})})
    shipped, found = (
        build_loss("combined", settings, label_smoothing=0.0, head=head) for settings in (SHIPPED, others)
    )
    assert (getattr(shipped, key), getattr(found, key)) == (getattr(getattr(SHIPPED, of), key), changed)
    assert (found.alpha_p, found.alpha_t) == (0.5, 0.5)


def test_losses_and_background_images_must_go_together() -> None:
    check_background("ce", 0)
    check_background("entropic", 3)
    with pytest.raises(InputError) as missing:
        check_background("entropic", 0)
    assert str(missing.value) == (
        "train.loss is 'entropic', which learns from background images, but the split has no background "
        "class: give it one, set train.augmentation.pseudo_unknowns to pixmix, or use one of ce, logitnorm, "
        "logit_adjusted, one_vs_rest, center, arpl, proser, supcon."
    )
    check_background("entropic", 0, pseudo_unknowns=True)
    with pytest.raises(InputError) as ignored:
        check_background("ce", 3)
    assert str(ignored.value) == (
        "train.loss is 'ce', which would ignore the 3 background images of the split: leave its background "
        "classes out, or use one of entropic, objectosphere, outlier_exposure, energy_reg, kplus1, penalty, "
        "threshold, combined."
    )


def test_the_schema_knows_the_losses() -> None:
    assert set(SOFT_LABEL_LOSSES) == {name for name in NAMES if LOSSES[name].takes_soft_labels}
    assert set(EXTRA_CLASS_LOSSES) == {name for name in NAMES if LOSSES[name].needs_extra_class}
    assert set(BACKGROUND_LOSSES) == set(WITH_BACKGROUND)


@pytest.mark.parametrize("name", SOFT_LABEL_LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_soft_labels(name: str, smoothing: float) -> None:
    """Certain shares are the label; a mixed image costs the weighted mean of its two labels."""
    loss, head = make(name, label_smoothing=smoothing)
    _, logits, features, labels = batch(loss, head)
    one, other = (torch.nn.functional.one_hot(x, 4).double() for x in (labels, (labels + 1) % 4))
    torch.testing.assert_close(loss(logits, features, one), loss(logits, features, labels))
    expected = 0.7 * loss(logits, features, labels) + 0.3 * loss(logits, features, (labels + 1) % 4)
    torch.testing.assert_close(loss(logits, features, 0.7 * one + 0.3 * other), expected)
