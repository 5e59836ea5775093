"""PixMix on whole batches (Hendrycks et al. 2022): images mixed with fractals and with copies of themselves.

What is drawn for an image is a row of numbers in 0..1 (`osr.data.plans.Draws`), which stand for all choices.
Source: "PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures", CVPR 2022, and its code
(github.com/andyzoujm/pixmix); its operations here work on whole batches, and pixels are bytes afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from osr.data.fractals import fractals
from osr.data.settings import AugmentationSettings

OPERATIONS = (
    *("autocontrast", "equalize", "posterize", "solarize"),
    *("rotate", "shear_x", "shear_y", "translate_x", "translate_y"),
)
_COPY = 3  # numbers for a changed copy of an image: operation, level, sign
_START = 8 + _COPY  # first of all: changed or not, rounds, two fractals and the offsets of each, the copy
_ROUND = 5 + _COPY  # each round: copy or fractal, the copy, add or multiply, sign, a, b
SMALLEST = 1e-37  # base of a power


def num_draws(settings: AugmentationSettings) -> int:
    """Numbers drawn for an image; 0 where PixMix is used for nothing."""
    is_used = settings.pixmix or settings.pseudo_unknowns == "pixmix"
    return _START + _ROUND * settings.pixmix_rounds if is_used else 0


def pixmix(images: Tensor, draws: Tensor, settings: AugmentationSettings) -> Tensor:
    """Mix each image, or a changed copy of it, 0 to k times with such a copy or a fractal; the class stays.

    Args:
        images: (B, C, H, W) uint8, any device.
        draws: (B, `num_draws`) in 0..1, on the CPU.
        settings: k is pixmix_rounds.

    Returns:
        (B, C, H, W) uint8.
    """
    rounds = (draws[:, 1] * (settings.pixmix_rounds + 1)).long().clamp(max=settings.pixmix_rounds)
    copies = _copies(images, draws, settings)
    changed = (draws[:, 0] < 0.5).to(images.device)[:, None, None, None]
    base = torch.where(changed, copies[0], images)
    return _mixed(base, copies[1:], _fractals(images, draws[:, 2:5], settings), rounds, draws, settings)


def pixmix_unknowns(images: Tensor, draws: Tensor, settings: AugmentationSettings) -> Tensor:
    """Pictures that stand for unknowns: PixMix with a fractal in the place of the image.

    A fractal is mixed 1 to k times with changed copies of the image and with another fractal: there is always
    much in it that no known class has, and nearly always something of a known image. Ours, after the issue's
    "pseudo-unknowns"; the paper keeps the class of what it mixes. Arguments and what is returned are those of
    `pixmix`.
    """
    rounds = 1 + (draws[:, 1] * settings.pixmix_rounds).long().clamp(max=settings.pixmix_rounds - 1)
    copies = _copies(images, draws, settings)[1:]
    base, other = (_fractals(images, draws[:, first : first + 3], settings) for first in (2, 5))
    return _mixed(base, copies, other, rounds, draws, settings)


def _mixed(
    base: Tensor,
    copies: Tensor,
    pictures: Tensor,
    rounds: Tensor,
    draws: Tensor,
    settings: AugmentationSettings,
) -> Tensor:
    """(B, C, H, W) uint8 of (B, C, H, W) uint8 bases and pictures and (k, B, C, H, W) copies."""
    mixed, device = base.float() / 255, base.device
    for number, copy in enumerate(copies):
        first = _START + number * _ROUND
        from_copy, multiplies, minus, a, b = (draws[:, first + place] for place in (0, 4, 5, 6, 7))
        weights = mixing_weights(minus < 0.5, a, b, beta=settings.pixmix_beta)
        own, other = (weight.to(device)[:, None, None, None] for weight in weights)
        second = torch.where(_wide(from_copy < 0.5, device), copy, pictures).float() / 255
        found = torch.where(
            _wide(multiplies < 0.5, device),
            add(mixed, second, own, other),
            multiply(mixed, second, own, other),
        )
        mixed = torch.where(_wide(number < rounds, device), found.clamp(0, 1), mixed)
    return (mixed * 255).round().to(torch.uint8)


def mixing_weights(inside: Tensor, a: Tensor, b: Tensor, *, beta: float) -> tuple[Tensor, Tensor]:
    """Weights of the two pictures: x from Beta(beta, 1), y from Beta(1, beta); outside 1 + y' and -y.

    Args:
        inside: (B,) bool, whether both are positive.
        a: (B,) in 0..1, which x or y' is drawn by.
        b: (B,) in 0..1, which y is drawn by.
        beta: above 0.
    """
    high, low = a.pow(1 / beta), 1 - (1 - a).pow(1 / beta)  # quantiles of the two distributions
    second = 1 - (1 - b).pow(1 / beta)
    return torch.where(inside, high, 1 + low), torch.where(inside, second, -second)


def add(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """A x + b y of pictures in -1..1; given and returned in 0..1, not clipped."""
    return (a * (2 * first - 1) + b * (2 * second - 1) + 1) / 2


def multiply(first: Tensor, second: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """x^a y^b of pictures in 0..2; given and returned in 0..1, not clipped."""
    return (2 * first).pow(a) * (2 * second).clamp(min=SMALLEST).pow(b) / 2


def _fractals(images: Tensor, draws: Tensor, settings: AugmentationSettings) -> Tensor:
    """A fractal for each image, a random part of it: an eighth is cut away, as from 36 to 32 pixels."""
    height, width = images.shape[2:]
    size = max(height, width) + max(1, round(max(height, width) / 8))
    pictures = fractals(settings.pixmix_fractals, size, images.shape[1])
    chosen = pictures[(draws[:, 0] * len(pictures)).long().clamp(max=len(pictures) - 1)]
    cut = []
    for axis, side in enumerate((height, width)):
        first = (draws[:, 1 + axis] * (size - side + 1)).long().clamp(max=size - side)
        cut.append(first[:, None] + torch.arange(side))
    rows, columns = cut[0][:, None, :, None], cut[1][:, None, None, :]
    number, channel = (
        torch.arange(len(chosen))[:, None, None, None],
        torch.arange(chosen.shape[1])[:, None, None],
    )
    return chosen[number, channel, rows, columns].to(images.device)


def _copies(images: Tensor, draws: Tensor, settings: AugmentationSettings) -> Tensor:
    """(1 + k, B, C, H, W) uint8, changed copies of each image: for the start, and one for each round."""
    firsts = [_START - _COPY, *(_START + number * _ROUND + 1 for number in range(settings.pixmix_rounds))]
    chosen = torch.cat([draws[:, first : first + _COPY] for first in firsts])
    many = images.repeat(len(firsts), 1, 1, 1)
    operation = (chosen[:, 0] * len(OPERATIONS)).long().clamp(max=len(OPERATIONS) - 1)
    level = 0.1 + chosen[:, 1] * (settings.pixmix_severity - 0.1)
    return change(many, operation, level, chosen[:, 2] < 0.5).view(len(firsts), *images.shape)


def change(images: Tensor, operation: Tensor, level: Tensor, negative: Tensor) -> Tensor:
    """Each image under one of `OPERATIONS`, as strong as its level says.

    Args:
        images: (N, C, H, W) uint8, any device.
        operation: (N,) int64, positions in `OPERATIONS`, on the CPU.
        level: (N,) in 0..10, on the CPU.
        negative: (N,) bool, the other way, for those that move pixels.

    Returns:
        (N, C, H, W) uint8.
    """
    from torchvision.transforms.v2 import functional

    codes = {name: (operation == number).nonzero()[:, 0] for number, name in enumerate(OPERATIONS)}
    moving = torch.cat([codes[name] for name in OPERATIONS[4:]])
    changed: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "autocontrast": lambda group, _: functional.autocontrast(group),
        "equalize": lambda group, _: functional.equalize(group),
        "posterize": lambda group, rows: _posterized(group, (level[rows] * 0.4).long()),
        "solarize": lambda group, rows: _solarized(group, 256 - (level[rows] * 25.6).long()),
    }
    found = images.clone()
    for name, apply in changed.items():
        if len(rows := codes[name]):
            places = rows.to(images.device)
            found[places] = apply(images[places], rows)
    if len(moving):
        places = moving.to(images.device)
        signed = torch.where(negative, -level, level)[moving]
        found[places] = _moved(images[places], operation[moving], signed)
    return found


def _posterized(images: Tensor, lost: Tensor) -> Tensor:
    """The highest 4 - lost bits of each image."""
    mask = (256 - 2 ** (4 + lost)).to(torch.uint8).to(images.device)
    return images & mask[:, None, None, None]


def _solarized(images: Tensor, threshold: Tensor) -> Tensor:
    """Bytes from the threshold of their image on, turned into their negative."""
    above = images >= threshold.to(images.device)[:, None, None, None]
    return torch.where(above, 255 - images, images)


def _moved(images: Tensor, operation: Tensor, level: Tensor) -> Tensor:
    """Rotated by 3 degrees a level, sheared by 0.03 from the first row or column, or shifted by a 30th.

    All are one affine map from a pixel to where it comes from, in halves of height and width.
    """
    height, width = images.shape[2:]
    is_of = {name: operation == OPERATIONS.index(name) for name in OPERATIONS[4:]}
    turn = torch.where(is_of["rotate"], (3 * level).trunc(), 0.0) * (math.pi / 180)
    shear_x, shear_y = (torch.where(is_of[f"shear_{axis}"], 0.03 * level, 0.0) for axis in "xy")
    shear_x, shear_y = shear_x * height / width, shear_y * width / height
    shift_x, shift_y = (
        torch.where(is_of[f"translate_{axis}"], (level * side / 30).trunc() * 2 / side, 0.0)
        for axis, side in (("x", width), ("y", height))
    )
    sin, cos = turn.sin(), turn.cos()
    rows = (
        torch.stack([cos, shear_x - sin * height / width, shear_x + shift_x], dim=1),
        torch.stack([shear_y + sin * width / height, cos, shear_y + shift_y], dim=1),
    )
    grid = torch.nn.functional.affine_grid(
        torch.stack(rows, dim=1).to(images.device), list(images.shape), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
    return moved.round().to(torch.uint8)


def _wide(values: Tensor, device: torch.device) -> Tensor:
    return values.to(device)[:, None, None, None]
