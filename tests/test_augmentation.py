"""Augmentation: each image moves by its own draw, as a slow reference or torchvision moves it."""

import math

import pytest
import torch
from scipy.stats import chisquare, kstest
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.functional import affine

from osr.config import AugmentationSettings
from osr.data.augmentation import augment, random_affine, random_shift

OFF = {"rotation_degrees": 0.0, "scale": 0.0, "shear": 0.0}


def slow_shift(image: Tensor, down: int, right: int) -> Tensor:
    """The image moved by whole pixels, zeros coming in."""
    moved = torch.zeros_like(image)
    _, height, width = image.shape
    for row in range(height):
        for column in range(width):
            if 0 <= row - down < height and 0 <= column - right < width:
                moved[:, row, column] = image[:, row - down, column - right]
    return moved


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_shift_equals_the_slow_reference(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(1, 256, (64, 3, 5, 7), generator=generator).to(dtype)
    before, pixels = images.clone(), 2
    state = generator.get_state()
    shifted = random_shift(images, pixels, generator)
    generator.set_state(state)
    offsets = torch.randint(0, 2 * pixels + 1, (2, 64), generator=generator) - pixels
    expected = torch.stack(
        [
            slow_shift(image, -int(down), -int(right))
            for image, down, right in zip(images, *offsets, strict=True)
        ]
    )
    assert torch.equal(shifted, expected)
    assert shifted.dtype == dtype
    assert torch.equal(images, before)


def test_each_image_draws_each_shift_equally_often() -> None:
    images = torch.zeros(9000, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 1
    shifted = random_shift(images, 1, torch.Generator().manual_seed(1))
    counts = shifted.sum(dim=0, dtype=torch.int64)[0]
    assert counts.sum() == 9000
    assert counts[1:4, 1:4].sum() == 9000
    assert chisquare(counts[1:4, 1:4].flatten()).pvalue > 1e-3


def test_no_shift_is_the_images_themselves() -> None:
    images = torch.ones(2, 1, 3, 3)
    assert random_shift(images, 0, torch.Generator()) is images


def blobs(num_images: int, size: int) -> Tensor:
    """Smooth random images with a dark border."""
    generator = torch.Generator().manual_seed(5)
    coarse = 255 * torch.rand(num_images, 3, 4, 4, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size - 8, mode="bicubic").clamp(0, 255)
    return torch.nn.functional.pad(smooth, (4,) * 4).round().to(torch.uint8)


@pytest.mark.parametrize(
    ("rotation_degrees", "scale", "shear"),
    [(30.0, 0.0, 0.0), (0.0, 0.3, 0.0), (20.0, 0.2, 0.0), (0.0, 0.0, 0.4)],
)
def test_affine_equals_torchvision_image_by_image(
    rotation_degrees: float, scale: float, shear: float
) -> None:
    images, generator = blobs(16, 32), torch.Generator().manual_seed(2)
    before, state = images.clone(), generator.get_state()
    moved = random_affine(
        images, rotation_degrees=rotation_degrees, scale=scale, shear=shear, generator=generator
    )
    generator.set_state(state)
    draws = 2 * torch.rand(3, 16, generator=generator) - 1
    for number, (turn, grow, slant) in enumerate(draws.T.tolist()):
        expected = affine(
            images[number],
            angle=-turn * rotation_degrees,
            translate=[0, 0],
            scale=1 + grow * scale,
            shear=[math.degrees(math.atan(slant * shear)), 0.0],
            interpolation=InterpolationMode.BILINEAR,
        )
        assert (moved[number].int() - expected.int()).abs().max() <= 1
    assert moved.dtype == torch.uint8
    assert torch.equal(images, before)


def test_angles_are_uniform() -> None:
    """A bright dot right of the centre tells the angle of each image."""
    size, radius = 65, 24
    images = torch.zeros(400, 1, size, size, dtype=torch.uint8)
    images[:, :, 30:35, 32 + radius - 2 : 32 + radius + 3] = 255
    generator = torch.Generator().manual_seed(3)
    moved = random_affine(images, rotation_degrees=60, scale=0, shear=0, generator=generator)[:, 0].double()
    place = torch.arange(size).double() - size // 2
    right = (moved.sum(1) * place).sum(1) / moved.sum((1, 2))
    down = (moved.sum(2) * place).sum(1) / moved.sum((1, 2))
    angles = torch.rad2deg(torch.atan2(down, right))
    assert kstest(angles.numpy(), "uniform", args=(-60, 120)).pvalue > 1e-3


def test_everything_off_is_the_images_themselves() -> None:
    images = blobs(2, 16)
    settings = AugmentationSettings(shift_pixels=0, **OFF)
    assert augment(images, settings, torch.Generator()) is images


@pytest.mark.parametrize(
    "on", [{"shift_pixels": 2}, {"rotation_degrees": 20.0}, {"scale": 0.2}, {"shear": 0.2}]
)
def test_every_setting_moves_something(on: dict[str, float]) -> None:
    images = blobs(8, 16)
    settings = AugmentationSettings(**{"shift_pixels": 0, **OFF, **on})
    moved = augment(images, settings, torch.Generator().manual_seed(0))
    assert (moved != images).flatten(1).any(dim=1).sum() >= 6
    assert moved.shape == images.shape
