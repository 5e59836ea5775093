"""Augmentation of whole batches on their device; each image gets its own draw."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from osr.data.pixmix import pixmix
from osr.data.plans import Draws
from osr.data.randaugment import rand_augment
from osr.data.settings import AugmentationSettings
from osr.errors import InputError


def augment(images: Tensor, draws: Draws, settings: AugmentationSettings) -> Tensor:
    """Shift, rotate with scale and shear, flip, RandAugment, cutout, PixMix, in this order.

    Args:
        images: (B, C, H, W) uint8, any device.
        draws: for the B images, on the CPU, so that they do not depend on the device.
        settings: how far; zeros switch a part off.

    Returns:
        (B, C, H, W) uint8; the images themselves when everything is off.
    """
    images = shift(images, draws.shift, pixels=settings.shift_pixels)
    limits = (settings.rotation_degrees, settings.scale, settings.shear)
    if any(limits):
        amounts = draws.affine * torch.tensor(limits)
        images = affine(images, angle=amounts[:, 0], scale=1 + amounts[:, 1], shear=amounts[:, 2])
    if settings.flip:
        images = flip(images, draws.flip)
    images = rand_augment(images, draws.operation, draws.negative, magnitude=settings.randaugment_magnitude)
    images = cutout(images, draws.cutout, pixels=settings.cutout_pixels)
    return pixmix(images, draws.pixmix[:, 0], settings) if settings.pixmix else images


def shift(images: Tensor, offsets: Tensor, *, pixels: int) -> Tensor:
    """Move each image within a border of zeros: the usual padded random crop.

    Args:
        images: (B, C, H, W), any dtype.
        offsets: (B, 2) int64, first row and column of the crop, 0..2 * pixels.
        pixels: width of the border; 0 returns the images themselves.
    """
    if pixels == 0:
        return images
    num_images, channels, height, width = images.shape
    padded = torch.nn.functional.pad(images, (pixels,) * 4)
    offsets = offsets.to(images.device)
    rows = offsets[:, 0, None] + torch.arange(height, device=images.device)
    columns = offsets[:, 1, None] + torch.arange(width, device=images.device)
    places = (rows[:, :, None] * padded.shape[3] + columns[:, None, :]).view(num_images, 1, -1)
    moved = padded.flatten(2).gather(2, places.expand(-1, channels, -1))
    return moved.view(num_images, channels, height, width)


def affine(images: Tensor, *, angle: Tensor, scale: Tensor, shear: Tensor) -> Tensor:
    """Rotate, scale and shear each image about its centre, bilinear, filled with zeros.

    Args:
        images: (B, C, H, W) uint8, any shape.
        angle: (B,) in degrees.
        scale: (B,) factor of the size.
        shear: (B,) shift of a row per pixel of height.

    Returns:
        (B, C, H, W) uint8.
    """
    height, width = images.shape[2:]
    turn, aspect = angle * (math.pi / 180), height / width
    cos, sin, zero = turn.cos() / scale, turn.sin() / scale, torch.zeros_like(turn)
    # grid_sample asks for the inverse, in halves of height and width: from a pixel to where it comes from.
    inverse = torch.stack((cos, (shear - sin) * aspect, zero, sin / aspect, cos, zero), dim=1)
    grid = torch.nn.functional.affine_grid(
        inverse.view(-1, 2, 3).to(images.device), list(images.shape), align_corners=False
    )
    moved = torch.nn.functional.grid_sample(images.float(), grid, mode="bilinear", align_corners=False)
    return moved.round().to(torch.uint8)


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror left and right the images that are `chosen`, (B,) bool."""
    rows = chosen.nonzero()[:, 0].to(images.device)
    return images.index_copy(0, rows, images.index_select(0, rows).flip(3))


def cutout(images: Tensor, places: Tensor, *, pixels: int) -> Tensor:
    """Blacken a square that lies wholly inside each image (DeVries and Taylor 2017; random erasing).

    Args:
        images: (B, C, H, W).
        places: (B, 2) in 0..1, from the first possible row and column to the last.
        pixels: side of the square; 0 returns the images themselves.

    Raises:
        InputError: the square does not fit.
    """
    if pixels == 0:
        return images
    height, width = images.shape[2:]
    if pixels >= min(height, width):
        raise InputError(
            f"train.augmentation.cutout_pixels is {pixels}, but must be below the size of the images, "
            f"{height} x {width}."
        )
    inside = []
    for axis, size in enumerate((height, width)):
        first = (places[:, axis] * (size - pixels + 1)).long().clamp(max=size - pixels)[:, None]
        line = torch.arange(size)
        inside.append((line >= first) & (line < first + pixels))
    square = (inside[0][:, None, :, None] & inside[1][:, None, None, :]).to(images.device)
    return images.masked_fill(square, 0)
