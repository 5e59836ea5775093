"""Losses: each formula against hand-computed numbers and other libraries."""

import math

import numpy as np
import pytest
import torch
from made_losses import SHIPPED, make
from sklearn.metrics import log_loss
from torch import nn

from osr.errors import InputError
from osr.losses.arpl import Arpl
from osr.losses.center import Center
from osr.losses.contract import batch
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
from osr.losses.registry import build_loss
from osr.losses.supcon import contrast
from osr.models.heads import HEADS, ReciprocalHead
from osr.models.settings import HeadSettings

# Probabilities 1/2, 1/4, 1/4, for a known image of class 0 and a background image.
THIRDS = torch.tensor([[math.log(2.0), 0.0, 0.0]] * 2, dtype=torch.float64)
PAIR = torch.tensor([0, -2])


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
    chosen = HeadSettings(name="reciprocal", bias=False, scale=1.0, temperature=10.0, extra_classes=0)
    head = ReciprocalHead(2, 2, chosen)
    head.points.data = torch.tensor([[1.0, 2.0], [-2.0, 0.5]])
    loss = Arpl(head, weight=0.1, margin=1.0, label_smoothing=0.0)
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
