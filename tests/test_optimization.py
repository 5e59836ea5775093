"""Optimiser and learning rate, against hand-computed steps."""

from pathlib import Path

import pytest
import timm
import torch
from torch import nn

from osr.errors import InputError
from osr.params import load_params
from osr.training.optimization import make_optimizer, make_schedule
from osr.training.schedules import lr_factor
from osr.training.settings import TrainSettings

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train


def settings(**changes: object) -> TrainSettings:
    return TRAIN.model_copy(update=changes)


class Network(nn.Module):
    """One of each: a matrix, a bias, a norm, and a frozen matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 3)
        self.norm = nn.BatchNorm1d(3)
        self.frozen = nn.Linear(3, 3, bias=False).requires_grad_(requires_grad=False)


def test_the_schedule_moves_every_step() -> None:
    chosen = settings(lr=0.5, epochs=3, warmup_epochs=1)
    optimizer = make_optimizer(Network(), chosen)
    schedule = make_schedule(optimizer, chosen, steps_per_epoch=2)
    rates = []
    for _ in range(6):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    expected = [0.5 * lr_factor(step, chosen, steps_per_epoch=2) for step in range(6)]
    assert [rate[0] for rate in rates] == pytest.approx(expected)
    assert [rate[1] for rate in rates] == pytest.approx(expected)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd"])
def test_norms_and_biases_are_not_decayed(name: str) -> None:
    network = Network()
    optimizer = make_optimizer(network, settings(optimizer=name, weight_decay=0.3))
    decayed, free = optimizer.param_groups
    assert [id(p) for p in decayed["params"]] == [id(network.linear.weight)]
    assert {id(p) for p in free["params"]} == {
        id(p) for p in (network.linear.bias, network.norm.weight, network.norm.bias)
    }
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)


def two_steps(chosen: TrainSettings) -> list[float]:
    """A weight that starts at 1 after each of two steps with the gradient 1."""
    network = nn.Linear(1, 1, bias=False).double()
    nn.init.ones_(network.weight)
    optimizer = make_optimizer(network, chosen)
    values = []
    for _ in range(2):
        optimizer.zero_grad()
        network.weight.sum().backward()
        optimizer.step()
        values.append(network.weight.item())
    return values


def test_sgd_by_hand() -> None:
    # Nesterov: g = 1 + 0.5 w; v = g; w -= 0.1 (g + 0.9 v), then v = 0.9 v + g.
    first = 1 - 0.1 * (1.5 + 0.9 * 1.5)
    gradient = 1 + 0.5 * first
    second = first - 0.1 * (gradient + 0.9 * (0.9 * 1.5 + gradient))
    assert two_steps(settings(optimizer="sgd", lr=0.1, momentum=0.9, weight_decay=0.5)) == pytest.approx(
        [first, second]
    )


def test_sgd_without_momentum_by_hand() -> None:
    assert two_steps(settings(optimizer="sgd", lr=0.1, momentum=0.0, weight_decay=0.0)) == pytest.approx(
        [0.9, 0.8]
    )


def test_adamw_by_hand() -> None:
    # A constant gradient makes each Adam step lr long; the decay comes first: w (1 - lr decay).
    first = 1 * (1 - 0.1 * 0.5) - 0.1
    second = first * (1 - 0.1 * 0.5) - 0.1
    assert two_steps(settings(optimizer="adamw", lr=0.1, weight_decay=0.5)) == pytest.approx(
        [first, second], abs=1e-7
    )


def test_sgd_with_plain_momentum_by_hand() -> None:
    chosen = settings(optimizer="sgd", lr=0.1, momentum=0.9, nesterov=False, weight_decay=0.0)
    assert two_steps(chosen) == pytest.approx([0.9, 0.9 - 0.1 * 1.9])


def test_adam_by_hand() -> None:
    # A constant gradient makes each step lr long, whatever its size; the decay only adds to the gradient.
    chosen = settings(optimizer="adam", lr=0.1, weight_decay=0.0)
    assert two_steps(chosen) == pytest.approx([0.9, 0.8], abs=1e-7)
    decayed = two_steps(settings(optimizer="adam", lr=0.1, weight_decay=0.5))
    assert decayed[0] == pytest.approx(0.9, abs=1e-7)


def test_the_backbone_has_its_own_rate() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = Network(), nn.Linear(3, 2)

    model, chosen = Model(), settings(lr=0.2, backbone_lr_factor=0.1, weight_decay=0.3, warmup_epochs=0)
    optimizer = make_optimizer(model, chosen, loss=nn.Linear(2, 2))
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    assert rates[id(model.head.weight)] == (0.2, 0.3)
    assert rates[id(model.head.bias)] == (0.2, 0.0)
    assert rates[id(model.backbone.linear.weight)] == (pytest.approx(0.02), 0.3)
    assert rates[id(model.backbone.norm.weight)] == (pytest.approx(0.02), 0.0)
    assert id(model.backbone.frozen.weight) not in rates
    assert len(rates) == 2 + 4 + 2
    schedule = make_schedule(optimizer, chosen, steps_per_epoch=1)
    optimizer.step()
    schedule.step()
    factor = lr_factor(1, chosen, steps_per_epoch=1)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.2 * factor)
    assert optimizer.param_groups[2]["lr"] == pytest.approx(0.02 * factor)
    assert len(make_optimizer(model, settings()).param_groups) == 2


def test_the_parameters_of_a_loss_are_not_decayed() -> None:
    network, loss = Network(), nn.Linear(2, 2, bias=False)
    optimizer = make_optimizer(network, settings(), loss=loss)
    assert [id(p) for p in optimizer.param_groups[-1]["params"]] == [id(loss.weight)]
    assert optimizer.param_groups[-1]["weight_decay"] == 0.0
    assert len(make_optimizer(network, settings(), loss=nn.CrossEntropyLoss()).param_groups) == 2


@pytest.mark.parametrize("name", ["nadamw", "lion", "lamb"])
def test_the_optimisers_of_timm_step_and_decay(name: str) -> None:
    free = two_steps(settings(optimizer=name, lr=0.1, weight_decay=0.0))
    decayed = two_steps(settings(optimizer=name, lr=0.1, weight_decay=0.5))
    assert 0 < free[1] < free[0] < 1
    if name != "lamb":  # whose steps are as long as the weight, whatever the gradient
        assert decayed[0] == pytest.approx(1 * (1 - 0.1 * 0.5) - (1 - free[0]), abs=1e-6)
    network = Network()
    groups = make_optimizer(network, settings(optimizer=name, weight_decay=0.3)).param_groups
    assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim > 1} == {0.3}
    assert {group["weight_decay"] for group in groups for p in group["params"] if p.ndim <= 1} == {0.0}


class Tuned(nn.Module):
    """A small vision transformer of timm with a head of our own."""

    def __init__(self) -> None:
        super().__init__()
        shape = {"num_classes": 0, "img_size": 32, "embed_dim": 12, "depth": 3, "num_heads": 2}
        self.backbone = timm.create_model("vit_tiny_patch16_224", **shape)
        self.head = nn.Linear(12, 2)


def rates_of(model: nn.Module, chosen: TrainSettings) -> dict[str, tuple[float, float]]:
    """Learning rate and decay of each parameter, by name."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = make_optimizer(model, chosen).param_groups
    return {names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]}


def test_earlier_layers_learn_more_slowly() -> None:
    model = Tuned()
    chosen = settings(lr=0.8, layer_decay=0.5, backbone_lr_factor=0.1, weight_decay=0.3)
    rates = rates_of(model, chosen)
    assert set(rates) == {name for name, _ in model.named_parameters()}
    # For timm the last norm belongs to block 2; blocks 1 and 0 and the patches come before.
    expected = {
        "head.weight": (0.8, 0.3),
        "head.bias": (0.8, 0.0),
        "backbone.norm.weight": (0.08, 0.0),
        "backbone.blocks.2.mlp.fc1.weight": (0.08, 0.3),
        "backbone.blocks.1.norm1.bias": (0.04, 0.0),
        "backbone.blocks.0.attn.qkv.weight": (0.02, 0.3),
        "backbone.patch_embed.proj.weight": (0.01, 0.3),
        "backbone.pos_embed": (0.01, 0.0),
    }
    for name, (rate, decay) in expected.items():
        assert rates[name] == (pytest.approx(rate), decay), name


def test_class_token_and_positions_are_not_decayed() -> None:
    rates = rates_of(Tuned(), settings(lr=0.8, weight_decay=0.3))
    assert rates["backbone.cls_token"] == rates["backbone.pos_embed"] == (0.8, 0.0)
    assert rates["backbone.patch_embed.proj.weight"] == (0.8, 0.3)


def test_layer_decay_without_ordered_layers_is_refused() -> None:
    model = nn.Module()
    model.backbone = Network()
    with pytest.raises(InputError, match=r"^train.layer_decay .* but Network has no group_matcher"):
        make_optimizer(model, settings(layer_decay=0.5))


def test_frozen_parameters_stay() -> None:
    network = Network()
    before = network.frozen.weight.clone()
    optimizer = make_optimizer(network, settings())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    assert torch.equal(network.frozen.weight, before)
    assert not torch.equal(network.linear.weight, torch.zeros_like(network.linear.weight))
