"""Augmentation of whole batches on their device; each image gets its own draw, from an explicit generator."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from osr.config import AugmentationSettings


def augment(images: Tensor, settings: AugmentationSettings, generator: torch.Generator) -> Tensor:
    """Shift, then rotate, scale and shear.

    Args:
        images: (B, C, H, W) uint8, any device.
        settings: how far; zeros switch a part off.
        generator: on the CPU, so that the draws do not depend on the device.

    Returns:
        (B, C, H, W) uint8; the images themselves when everything is off.
    """
    shifted = random_shift(images, settings.shift_pixels, generator)
    return random_affine(
        shifted,
        rotation_degrees=settings.rotation_degrees,
        scale=settings.scale,
        shear=settings.shear,
        generator=generator,
    )


def random_shift(images: Tensor, pixels: int, generator: torch.Generator) -> Tensor:
    """Move each image by -pixels..pixels in both directions, filled with zeros: the usual padded random crop.

    Args:
        images: (B, C, H, W), any dtype.
        pixels: the largest shift; 0 returns the images themselves.
        generator: on the CPU.
    """
    if pixels == 0:
        return images
    num_images, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    offsets = torch.randint(0, 2 * pixels + 1, (2, num_images), generator=generator).to(images.device)
    rows = offsets[0, :, None] + torch.arange(height, device=images.device)
    columns = offsets[1, :, None] + torch.arange(width, device=images.device)
    image = torch.arange(num_images, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[:, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]


def random_affine(
    images: Tensor, *, rotation_degrees: float, scale: float, shear: float, generator: torch.Generator
) -> Tensor:
    """Rotate, scale and shear each image about its centre, bilinear, filled with zeros.

    Args:
        images: (B, C, H, W) uint8, square.
        rotation_degrees: the angle is uniform in -rotation_degrees..rotation_degrees.
        scale: the size factor is uniform in 1 - scale..1 + scale.
        shear: the shift of a row per pixel of height is uniform in -shear..shear.
        generator: on the CPU.

    Returns:
        (B, C, H, W) uint8; the images themselves when all three are 0.
    """
    if rotation_degrees == scale == shear == 0:
        return images
    draws = (2 * torch.rand(3, len(images), generator=generator) - 1).to(images.device)
    angle, size, slope = draws[0] * math.radians(rotation_degrees), 1 + draws[1] * scale, draws[2] * shear
    cos, sin, zero = angle.cos() / size, angle.sin() / size, torch.zeros_like(angle)
    # grid_sample asks for the inverse: from a pixel of the result to the place it is taken from.
    inverse = torch.stack((cos, slope - sin, zero, sin, cos, zero), dim=1).view(-1, 2, 3)
    grid = torch.nn.functional.affine_grid(inverse, list(images.shape), align_corners=False)
    moved = torch.nn.functional.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
    return moved.round().to(torch.uint8)
