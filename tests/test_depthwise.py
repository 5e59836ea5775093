"""The gradient of depthwise convolutions on maps smaller than their kernel is PyTorch's."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from torch import Tensor

from osr.training import depthwise
from osr.training.depthwise import QuickDepthwise, has_depthwise

SHAPES = [
    (size, kernel, stride, padding)
    for size, kernel, stride, padding in product(range(1, 6), (1, 3, 5), (1, 2, 3), (0, 1, 2))
    if size + 2 * padding >= kernel
]


def gradients(conv: torch.nn.Conv2d, images: Tensor) -> list[Tensor]:
    """Of the images, and of what the convolution learns."""
    images = images.clone().requires_grad_()
    made = conv(images)
    weights = torch.linspace(-1, 2, made.numel()).view_as(made)
    return [made.detach(), *torch.autograd.grad((made * weights).sum(), [images, *conv.parameters()])]


@pytest.mark.parametrize("channels_last", [False, True])
def test_gradients_are_those_of_pytorch(channels_last: bool) -> None:
    torch.manual_seed(0)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for number, (size, kernel, stride, padding) in enumerate(SHAPES):
        options = {"stride": stride, "padding": padding, "groups": 3, "bias": bool(number % 2)}
        conv = torch.nn.Conv2d(3, 3, kernel, **options).to(memory_format=layout)
        images = torch.randn(4, 3, size, size + number % 3).to(memory_format=layout)
        expected = gradients(conv, images)
        with QuickDepthwise():
            found = gradients(conv, images)
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(
                one, other, rtol=1e-4, atol=1e-4, msg=f"{size=} {kernel=} {stride=} {padding=}"
            )


@pytest.mark.parametrize(
    ("size", "conv", "expected"),
    [
        (2, torch.nn.Conv2d(4, 4, 5, padding=2, groups=4), True),
        (4, torch.nn.Conv2d(4, 4, 5, padding=2, groups=4), True),
        (5, torch.nn.Conv2d(4, 4, 5, padding=2, groups=4), False),
        (2, torch.nn.Conv2d(4, 8, 5, padding=2, groups=4), False),
        (2, torch.nn.Conv2d(4, 4, 5, padding=2, groups=2), False),
        (2, torch.nn.Conv2d(4, 4, 5, padding=2), False),
        (2, torch.nn.Conv2d(4, 4, 5, padding="same", groups=4), False),
        (2, torch.nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4), False),
        (2, torch.nn.Conv2d(4, 4, 5, padding=2, groups=4).requires_grad_(False), False),
        (2, torch.nn.Conv2d(4, 4, 5, padding=2, groups=4).double(), False),
    ],
)
def test_only_slow_convolutions_are_changed(
    size: int, conv: torch.nn.Conv2d, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = torch.randn(2, 4, size, size, dtype=conv.weight.dtype)
    calls: list[Tensor] = []
    original = depthwise._Depthwise.apply
    monkeypatch.setattr(depthwise._Depthwise, "apply", lambda *args: calls.append(args[0]) or original(*args))
    with QuickDepthwise():
        made = conv(images)
        assert len(calls) == expected
        with torch.autocast("cpu", torch.bfloat16, enabled=conv.weight.dtype == torch.float32):
            conv(images)
    assert len(calls) == expected
    torch.testing.assert_close(made, conv(images))


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (torch.nn.Conv2d(4, 4, 5, groups=4), True),
        (torch.nn.Conv2d(4, 4, 5, groups=2), False),
        (torch.nn.Conv2d(4, 4, 5), False),
        (torch.nn.Conv2d(1, 1, 5), False),
        (torch.nn.Linear(4, 4), False),
    ],
)
def test_a_network_is_watched_for_its_depthwise_convolutions(layer: torch.nn.Module, expected: bool) -> None:
    assert has_depthwise(torch.nn.Sequential(torch.nn.Identity(), torch.nn.Sequential(layer))) is expected
