"""RandAugment on whole batches (Cubuk et al. 2020): operations and magnitudes of torchvision's transform."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

LARGEST = 30  # torchvision counts magnitudes in 31 bins
Operation = Callable[[Any, Tensor, float], Tensor]


def rand_augment(images: Tensor, operation: Tensor, negative: Tensor, *, magnitude: int) -> Tensor:
    """Apply to each image its operations, one after the other.

    Args:
        images: (B, C, H, W) uint8, any device.
        operation: (B, num_ops) int64, positions in `OPERATIONS`, on the CPU.
        negative: (B, num_ops) bool, whether a signed magnitude is negative.
        magnitude: 0..30.

    Returns:
        (B, C, H, W) uint8; the images themselves without operations.
    """
    if not operation.shape[1]:
        return images
    from torchvision.transforms.v2 import functional

    share = magnitude / LARGEST
    kernels = [
        (apply, sign * share if is_signed else share)
        for apply, is_signed in OPERATIONS.values()
        for sign in (1, -1)
    ]
    for codes in (2 * operation + negative).unbind(dim=1):
        # Images of one kernel lie side by side while it works on them.
        order = codes.argsort()
        sizes = torch.bincount(codes, minlength=len(kernels)).tolist()
        groups = torch.split(images.index_select(0, order.to(images.device)), sizes)
        changed = [
            apply(functional, group, strength)
            for (apply, strength), group in zip(kernels, groups, strict=True)
            if len(group)
        ]
        images = torch.cat(changed).index_select(0, order.argsort().to(images.device))
    return images


def _shear_x(functional: Any, images: Tensor, share: float) -> Tensor:
    return _sheared(functional, images, [math.degrees(math.atan(0.3 * share)), 0.0])


def _shear_y(functional: Any, images: Tensor, share: float) -> Tensor:
    return _sheared(functional, images, [0.0, math.degrees(math.atan(0.3 * share))])


def _sheared(functional: Any, images: Tensor, degrees: list[float]) -> Tensor:
    moved: Tensor = functional.affine(
        images, angle=0.0, translate=[0, 0], scale=1.0, shear=degrees, center=[0, 0]
    )
    return moved


def _translate_x(functional: Any, images: Tensor, share: float) -> Tensor:
    return _translated(functional, images, [int(150 / 331 * images.shape[3] * share), 0])


def _translate_y(functional: Any, images: Tensor, share: float) -> Tensor:
    return _translated(functional, images, [0, int(150 / 331 * images.shape[2] * share)])


def _translated(functional: Any, images: Tensor, pixels: list[int]) -> Tensor:
    moved: Tensor = functional.affine(images, angle=0.0, translate=pixels, scale=1.0, shear=[0.0, 0.0])
    return moved


OPERATIONS: dict[str, tuple[Operation, bool]] = {
    # From functional kernels, images and the signed share of the largest magnitude; whether it is signed.
    "Identity": (lambda _, images, __: images, False),
    "ShearX": (_shear_x, True),
    "ShearY": (_shear_y, True),
    "TranslateX": (_translate_x, True),
    "TranslateY": (_translate_y, True),
    "Rotate": (lambda kernels, images, share: kernels.rotate(images, angle=30 * share), True),
    "Brightness": (lambda kernels, images, share: kernels.adjust_brightness(images, 1 + 0.9 * share), True),
    "Color": (lambda kernels, images, share: kernels.adjust_saturation(images, 1 + 0.9 * share), True),
    "Contrast": (lambda kernels, images, share: kernels.adjust_contrast(images, 1 + 0.9 * share), True),
    "Sharpness": (lambda kernels, images, share: kernels.adjust_sharpness(images, 1 + 0.9 * share), True),
    "Posterize": (lambda kernels, images, share: kernels.posterize(images, bits=8 - round(4 * share)), False),
    "Solarize": (lambda kernels, images, share: kernels.solarize(images, threshold=255 * (1 - share)), False),
    "AutoContrast": (lambda kernels, images, _: kernels.autocontrast(images), False),
    "Equalize": (lambda kernels, images, _: kernels.equalize(images), False),
}
