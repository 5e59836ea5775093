"""Losses: the contract every registered loss keeps, and each formula against hand-computed numbers."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from torch import nn

from osr.errors import InputError
from osr.losses.arpl import Arpl
from osr.losses.base import Loss
from osr.losses.center import Center
from osr.losses.contract import CLASS_COUNTS, PROMISES, Make, batch, head_for, right_is_cheaper
from osr.losses.cross_entropy import CrossEntropy
from osr.losses.energy_reg import EnergyReg
from osr.losses.entropic import Entropic
from osr.losses.extra_class import Combined, KPlus1, Penalty, Threshold
from osr.losses.logit_adjusted import LogitAdjusted
from osr.losses.logitnorm import LogitNorm
from osr.losses.objectosphere import Objectosphere
from osr.losses.one_vs_rest import OneVsRest
from osr.losses.outlier_exposure import OutlierExposure
from osr.losses.proser import Proser
from osr.losses.registry import LOSSES, build_loss, check_background
from osr.losses.settings import BACKGROUND_LOSSES, EXTRA_CLASS_LOSSES, SOFT_LABEL_LOSSES
from osr.losses.supcon import contrast
from osr.models.heads import HEADS, Head, ReciprocalHead
from osr.models.settings import HeadSettings
from osr.params import load_params

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml").losses
NAMES = sorted(LOSSES)
WITH_BACKGROUND = [name for name in NAMES if LOSSES[name].needs_background]
# Each loss's own settings, with values other than those of params.yaml.
SETTINGS: dict[str, dict[str, float]] = {
    "ce": {},
    "logitnorm": {"temperature": 0.1},
    "logit_adjusted": {"tau": 0.5},
    "one_vs_rest": {},
    "center": {"weight": 0.1},
    "arpl": {"weight": 0.5, "margin": 2.0, "temperature": 2.0},
    "entropic": {},
    "objectosphere": {"weight": 0.1, "min_norm": 2.0},
    "outlier_exposure": {"weight": 1.0},
    "energy_reg": {"weight": 0.5, "known_energy": -9.0, "background_energy": -1.0},
    "kplus1": {},
    "proser": {"second_weight": 0.5, "mixed_weight": 1.0, "alpha": 5.0},
    "penalty": {"rho": 3.0},
    "threshold": {"tau": 0.9},
    "combined": {"alpha_p": 1.0, "alpha_t": 1.0, "rho": 3.0, "tau": 0.9},
    "supcon": {"temperature": 0.5, "projection_width": 7},
}
# Probabilities 1/2, 1/4, 1/4, for a known image of class 0 and a background image.
THIRDS = torch.tensor([[math.log(2.0), 0.0, 0.0]] * 2, dtype=torch.float64)
PAIR = torch.tensor([0, -2])


def make(name: str, *, label_smoothing: float = 0.0, **changes: float) -> tuple[Loss, Head]:
    """A loss with changed settings and the head it goes with: four classes, two extra ones if it has any."""
    torch.manual_seed(0)
    head = head_for(LOSSES[name], kind="reciprocal" if name == "arpl" else "linear")
    settings = SHIPPED
    if changes:
        section = getattr(SHIPPED, name).model_copy(update=changes)
        settings = SHIPPED.model_copy(update={name: section})
    loss = build_loss(name, settings, label_smoothing=label_smoothing, head=head, class_counts=CLASS_COUNTS)
    return loss.double(), head


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


def test_supcon_by_hand() -> None:
    """Equation 2 of the paper, term by term, in float64; an image alone in its class is passed over."""
    loss, head = make("supcon")
    _, logits, features, labels = batch(loss, head)
    features, labels = features[:9].detach().requires_grad_(), torch.tensor([0, 1, 0, 1, 2, 0, 3, 1, 0])
    points = loss.projection(features).detach().numpy()
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    terms = []
    for i in range(9):
        others = [a for a in range(9) if a != i]
        partners = [p for p in others if labels[p] == labels[i]]
        below = sum(math.exp(points[i] @ points[a] / 0.1) for a in others)
        if partners:
            logs = [math.log(math.exp(points[i] @ points[p] / 0.1) / below) for p in partners]
            terms.append(-sum(logs) / len(partners))
    assert len(terms) == 7
    classified = log_loss(labels, head(features).softmax(1).detach().numpy(), labels=range(4))
    assert loss(logits[:9], features, labels).item() == pytest.approx(np.mean(terms) + classified, rel=1e-12)
    assert contrast(loss.projection(features[:2]), torch.tensor([0, 1]), temperature=0.1).item() == 0


def test_the_head_of_supcon_follows_features_that_it_does_not_move() -> None:
    loss, head = make("supcon")
    vectors, logits, features, labels = batch(loss, head)
    nn.init.zeros_(loss.projection[2].weight)  # of the contrast no gradient is left
    loss(logits, features, labels).backward()
    assert not bool(vectors.grad.any())
    assert bool(head.weight.grad.any())


def test_label_smoothing_by_hand() -> None:
    # Probabilities 1/2, 1/4, 1/4; the target 0 with smoothing 0.3 is 0.8, 0.1, 0.1.
    logits = THIRDS[:1]
    loss = CrossEntropy(label_smoothing=0.3)(logits, torch.zeros(1, 2), torch.tensor([0]))
    assert float(loss) == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4), abs=1e-12)
    hard = CrossEntropy(label_smoothing=0.0)(logits, torch.zeros(1, 2), torch.tensor([0]))
    assert float(hard) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_against_the_definition_and_torch(smoothing: float) -> None:
    loss, head = make("ce")
    _, logits, features, labels = batch(loss, head)
    targets = (1 - smoothing) * torch.eye(4, dtype=torch.float64)[labels] + smoothing / 4
    expected = -(targets * torch.log(logits.exp() / logits.exp().sum(1, keepdim=True))).sum(1).mean()
    result = CrossEntropy(label_smoothing=smoothing)(logits, features, labels)
    torch.testing.assert_close(result, expected)
    reference = nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    torch.testing.assert_close(result, reference)


def test_the_smoothing_of_vaze_spreads_over_the_wrong_classes() -> None:
    loss, head = make("ce")
    _, logits, features, labels = batch(loss, head)
    hot = torch.eye(4, dtype=torch.float64)[labels]
    targets = (1 - 0.3) * hot + 0.3 / 3 * (1 - hot)
    expected = -(targets * logits.log_softmax(1)).sum(1).mean()
    result = CrossEntropy(label_smoothing=0.3 * 4 / 3)(logits, features, labels)
    torch.testing.assert_close(result, expected)


def test_logitnorm_by_hand() -> None:
    loss = LogitNorm(temperature=0.5, label_smoothing=0.0)
    logits = torch.tensor([[3.0, 4.0]], dtype=torch.float64)  # of length 5: 0.6 / 0.5 and 0.8 / 0.5
    result = loss(logits, logits, torch.tensor([0]))
    assert float(result) == pytest.approx(math.log(1 + math.exp(0.4)), abs=1e-6)
    torch.testing.assert_close(loss(100 * logits, logits, torch.tensor([0])), result, atol=1e-6, rtol=0)


def test_logit_adjusted_by_hand() -> None:
    # Shares 3/4 and 1/4: equal logits become probabilities of these shares.
    loss = LogitAdjusted(class_counts=(30, 10), tau=1.0, label_smoothing=0.0)
    logits = torch.zeros(2, 2)
    result = loss(logits, logits, torch.tensor([0, 1]))
    assert float(result) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2, abs=1e-6)
    half = LogitAdjusted(class_counts=(30, 10), tau=2.0, label_smoothing=0.0)
    assert float(half(logits, logits, torch.tensor([1, 1]))) == pytest.approx(math.log(10), abs=1e-6)


def test_logit_adjusted_without_weight_or_with_equal_classes_is_cross_entropy() -> None:
    loss, head = make("ce")
    _, logits, features, labels = batch(loss, head)
    plain = CrossEntropy(label_smoothing=0.1)(logits, features, labels)
    for counts, tau in (((9, 3, 2, 1), 0.0), ((5, 5, 5, 5), 1.0)):
        loss = LogitAdjusted(class_counts=counts, tau=tau, label_smoothing=0.1).double()
        torch.testing.assert_close(loss(logits, features, labels), plain)


def test_logit_adjusted_needs_every_class() -> None:
    _, head = make("ce")
    with pytest.raises(InputError, match=r"^train.loss is 'logit_adjusted', which needs a training image"):
        build_loss("logit_adjusted", SHIPPED, label_smoothing=0.0, head=head, class_counts=(3, 0, 2, 1))


def test_one_vs_rest_by_hand() -> None:
    # Sigmoids 3/4 and 1/5; the target 0 is (1, 0), with smoothing 0.2 it is (0.9, 0.1).
    logits = torch.tensor([[math.log(3.0), math.log(0.25)]], dtype=torch.float64)
    hard = OneVsRest(label_smoothing=0.0)(logits, logits, torch.tensor([0]))
    assert float(hard) == pytest.approx(-math.log(0.75) - math.log(0.8), abs=1e-12)
    smooth = OneVsRest(label_smoothing=0.2)(logits, logits, torch.tensor([0]))
    first = -0.9 * math.log(0.75) - 0.1 * math.log(0.25)
    assert float(smooth) == pytest.approx(first - 0.1 * math.log(0.2) - 0.9 * math.log(0.8), abs=1e-12)


def test_one_vs_rest_against_scikit_learn() -> None:
    loss, head = make("one_vs_rest")
    _, logits, features, labels = batch(loss, head)
    found = OneVsRest(label_smoothing=0.0)(logits, features, labels)
    probabilities = logits.sigmoid().detach().numpy()
    each = [log_loss(labels == number, probabilities[:, number], labels=[False, True]) for number in range(4)]
    assert found.item() == pytest.approx(sum(each), abs=1e-12)


def test_center_by_hand() -> None:
    loss = Center(num_classes=2, num_features=2, weight=0.2, label_smoothing=0.0)
    loss.centers.data = torch.tensor([[9.0, 9.0], [0.0, 4.0]])
    features = torch.tensor([[1.0, 2.0]], requires_grad=True)
    result = loss(torch.zeros(1, 2), features, torch.tensor([1]))
    assert result.item() == pytest.approx(math.log(2) + 0.1 * (1 + 4))
    result.backward()
    torch.testing.assert_close(features.grad, 0.2 * torch.tensor([[1.0, -2.0]]))
    torch.testing.assert_close(loss.centers.grad, torch.tensor([[0.0, 0.0], [-1.0, 2.0]]))


def test_arpl_by_hand() -> None:
    chosen = HeadSettings(name="reciprocal", bias=False, scale=1.0, temperature=1.0, extra_classes=0)
    head = ReciprocalHead(2, 2, chosen)
    head.points.data = torch.tensor([[1.0, 2.0], [-2.0, 0.5]])
    loss = Arpl(head, weight=0.1, margin=1.0, temperature=10.0, label_smoothing=0.0)
    loss.radius.data.fill_(0.5)
    features = head.embed(torch.tensor([[3.0, 4.0]]))
    # Distances to the points: 4 - 11 = -7 and 18.625 + 4 = 22.625.
    result = loss(head(features), features, torch.tensor([1]))
    classified = math.log(1 + math.exp((-7 - 22.625) / 10))
    assert result.item() == pytest.approx(classified + 0.1 * (18.625 - 0.5 + 1))
    result.backward()
    assert loss.radius.grad.item() == pytest.approx(-0.1)
    assert [name for name, _ in loss.named_parameters()] == list(loss.state_dict()) == ["radius"]
    loss.radius.data.fill_(20.0)
    assert loss(head(features), features, torch.tensor([1])).item() == pytest.approx(classified)


def test_arpl_needs_its_head() -> None:
    _, head = make("ce")
    with pytest.raises(InputError, match=r"^train.loss 'arpl' needs reciprocal points: set model.head.name"):
        build_loss("arpl", SHIPPED, label_smoothing=0.0, head=head)


def test_background_losses_by_hand() -> None:
    features = torch.tensor([[3.0, 4.0], [1.0, 2.0]], dtype=torch.float64)
    arguments = (THIRDS, features, PAIR)
    known, uniform = math.log(2), (math.log(2) + 2 * math.log(4)) / 3
    entropic = (known + uniform) / 2
    assert float(Entropic(label_smoothing=0.0)(*arguments)) == pytest.approx(entropic)
    # A known length of 5 that is to reach 7, and a background length of square root of 5.
    sphere = Objectosphere(weight=0.1, min_norm=7.0, label_smoothing=0.0)
    assert float(sphere(*arguments)) == pytest.approx(entropic + 0.1 * (4 + 5) / 2)
    exposure = OutlierExposure(weight=0.5, label_smoothing=0.0)
    assert float(exposure(*arguments)) == pytest.approx(known + 0.5 * uniform)
    energy = -math.log(4)
    bounded = EnergyReg(weight=0.1, known_energy=-2.0, background_energy=-1.0, label_smoothing=0.0)
    expected = known + 0.1 * ((energy + 2) ** 2 + (-1 - energy) ** 2)
    assert float(bounded(*arguments)) == pytest.approx(expected)
    far = EnergyReg(weight=0.1, known_energy=-1.0, background_energy=-1.5, label_smoothing=0.0)
    assert float(far(*arguments)) == pytest.approx(known)


def test_the_share_of_background_matters_to_entropic_but_not_to_outlier_exposure() -> None:
    rows = torch.tensor([0, 1, 1, 1])
    logits, labels = THIRDS[rows], PAIR[rows]
    exposure, entropic = OutlierExposure(weight=0.5, label_smoothing=0.0), Entropic(label_smoothing=0.0)
    features = torch.zeros(4, 2)
    torch.testing.assert_close(exposure(logits, features, labels), exposure(THIRDS, features[:2], PAIR))
    assert entropic(logits, features, labels) > entropic(THIRDS, features[:2], PAIR)


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


# Probabilities 1/2, 1/4, 1/4 of two known classes and the extra one; the smaller extra logit does not count.
EXTRA = torch.tensor([[math.log(2.0), 0.0, -9.0, 0.0]] * 2, dtype=torch.float64)
ON_EXTRA = (EXTRA, torch.zeros(2, 3, dtype=torch.float64), PAIR)


def test_losses_over_the_extra_class_by_hand() -> None:
    common = {"num_extra": 2, "label_smoothing": 0.0}
    known, background = math.log(2), math.log(4)
    assert float(KPlus1(**common)(*ON_EXTRA)) == pytest.approx((known + background) / 2)
    # A known class wins the background image.
    penalty = (known + 3 * background) / 2
    assert float(Penalty(rho=3.0, **common)(*ON_EXTRA)) == pytest.approx(penalty)
    threshold = (known + (0.8 - 0.5) + background) / 2
    assert float(Threshold(tau=0.8, **common)(*ON_EXTRA)) == pytest.approx(threshold)
    assert float(Threshold(tau=0.4, **common)(*ON_EXTRA)) == pytest.approx((known + background) / 2)
    both = Combined(alpha_p=0.2, alpha_t=3.0, rho=3.0, tau=0.8, **common)
    assert float(both(*ON_EXTRA)) == pytest.approx(0.2 * penalty + 3 * threshold)
    # The penalty is for background images that are missed alone.
    found = EXTRA.clone()
    found[1, 3] = 1.0
    rest = (found, *ON_EXTRA[1:])
    assert float(Penalty(rho=3.0, **common)(*rest)) == float(KPlus1(**common)(*rest))


def test_smoothing_over_the_extra_class_spares_background_images() -> None:
    # The known target 0.3 is 0.8, 0.1, 0.1; the background one stays.
    loss = KPlus1(num_extra=2, label_smoothing=0.3)(*ON_EXTRA)
    assert float(loss) == pytest.approx((0.8 * math.log(2) + 0.2 * math.log(4) + math.log(4)) / 2)


def test_proser_by_hand() -> None:
    chosen = HeadSettings(name="linear", bias=False, scale=1.0, temperature=1.0, extra_classes=1)
    head = HEADS["linear"](2, 2, chosen).double()
    head.weight.data = torch.tensor([[2.0, 0.0], [0.0, 2.0], [1.0, 1.0]], dtype=torch.float64)
    features, labels = torch.eye(2, dtype=torch.float64), torch.tensor([0, 1])
    loss = Proser(head, second_weight=0.5, mixed_weight=3.0, alpha=1e9, num_extra=1, label_smoothing=0.0)
    # Logits 2, 0, 1 of either image; without its class 0, 1. Mixtures half and half have 1, 1, 1.
    first, second = math.log(1 + math.exp(-2) + math.exp(-1)), math.log(1 + math.exp(-1))
    torch.manual_seed(0)
    values = {round(loss(head(features), features, labels).item(), 3) for _ in range(20)}
    plain, mixed = first + 0.5 * second, first + 0.5 * second + 3 * math.log(3)
    assert values == {round(plain, 3), round(mixed, 3)}  # an image drawn as its own partner is no mixture
    assert loss.eval()(head(features), features, labels).item() == pytest.approx(plain)
    assert loss.train()(head(features), features, 0 * labels).item() < mixed  # of one class: no mixture
