"""Losses: the contract every registered loss keeps, and each formula against numbers."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from osr.config import TrainSettings, load_params
from osr.losses.cross_entropy import CrossEntropy
from osr.losses.registry import LOSSES

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train
# Settings each loss reads, with a value other than that of params.yaml.
SETTINGS: dict[str, dict[str, object]] = {"ce": {"label_smoothing": 0.2}}


def settings(**changes: object) -> TrainSettings:
    return TRAIN.model_copy(update=changes)


def batch() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 4, generator=generator, dtype=torch.float64).requires_grad_()
    features = torch.randn(6, 5, generator=generator, dtype=torch.float64)
    return logits, features, torch.tensor([0, 1, 2, 3, 0, 1])


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_contract(name: str) -> None:
    logits, features, labels = batch()
    before = [tensor.detach().clone() for tensor in (logits, features, labels)]
    value = LOSSES[name](settings())(logits, features, labels)
    assert value.shape == ()
    assert math.isfinite(value.item())
    value.backward()
    assert logits.grad is not None
    assert bool((logits.grad != 0).all())
    assert all(torch.equal(a, b) for a, b in zip(before, (logits, features, labels), strict=True))


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_a_right_answer_costs_less_than_a_wrong_one(name: str) -> None:
    loss, labels = LOSSES[name](settings()), torch.arange(4)
    right, features = 5 * torch.eye(4), torch.zeros(4, 2)
    assert loss(right, features, labels) < loss(torch.zeros(4, 4), features, labels)
    assert loss(torch.zeros(4, 4), features, labels) < loss(right.roll(1, 0), features, labels)


def test_every_loss_names_its_settings() -> None:
    assert set(SETTINGS) == set(LOSSES)


@pytest.mark.parametrize(
    ("name", "changes"),
    [(name, {key: value}) for name, keys in SETTINGS.items() for key, value in keys.items()],
)
def test_every_setting_changes_the_value(name: str, changes: dict[str, object]) -> None:
    values = {LOSSES[name](settings(**chosen))(*batch()).item() for chosen in ({}, changes)}
    assert len(values) == 2


def test_label_smoothing_by_hand() -> None:
    # Probabilities 1/2, 1/4, 1/4; the target 0 with smoothing 0.3 is 0.8, 0.1, 0.1.
    logits = torch.tensor([[math.log(2.0), 0.0, 0.0]], dtype=torch.float64)
    loss = CrossEntropy(label_smoothing=0.3)(logits, torch.zeros(1, 2), torch.tensor([0]))
    assert float(loss) == pytest.approx(0.8 * math.log(2) + 0.2 * math.log(4), abs=1e-12)
    hard = CrossEntropy(label_smoothing=0.0)(logits, torch.zeros(1, 2), torch.tensor([0]))
    assert float(hard) == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_cross_entropy_against_the_definition_and_torch(smoothing: float) -> None:
    logits, features, labels = batch()
    targets = (1 - smoothing) * torch.eye(4, dtype=torch.float64)[labels] + smoothing / 4
    expected = -(targets * torch.log(logits.exp() / logits.exp().sum(1, keepdim=True))).sum(1).mean()
    value = CrossEntropy(label_smoothing=smoothing)(logits, features, labels)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(
        value, torch.nn.functional.cross_entropy(logits, labels, label_smoothing=smoothing)
    )
