"""Augmentation: each image moves by its own draw, as a slow reference or torchvision moves it."""

import math
from pathlib import Path

import pytest
import torch
from scipy.stats import binomtest, chisquare, kstest
from torch import Tensor
from torchvision.transforms import InterpolationMode, functional, v2

from osr.data.augmentation import affine, augment, shift
from osr.data.plans import NUM_OPERATIONS, Draws
from osr.data.randaugment import OPERATIONS, rand_augment
from osr.data.settings import AugmentationSettings
from osr.errors import InputError
from osr.params import load_params

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml").train.augmentation
OFF = {"shift_pixels": 0, "rotation_degrees": 0.0, "scale": 0.0, "shear": 0.0}


def settings(**on: object) -> AugmentationSettings:
    return SHIPPED.model_copy(update={**OFF, **on})


def augment_with(images: Tensor, **on: object) -> Tensor:
    chosen = settings(**on)
    return augment(images, Draws.make(len(images), chosen, torch.Generator().manual_seed(3)), chosen)


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
    offsets = torch.randint(0, 2 * pixels + 1, (64, 2), generator=generator)
    shifted = shift(images, offsets, pixels=pixels)
    expected = torch.stack(
        [
            slow_shift(image, pixels - int(down), pixels - int(right))
            for image, (down, right) in zip(images, offsets, strict=True)
        ]
    )
    assert torch.equal(shifted, expected)
    assert shifted.dtype == dtype
    assert torch.equal(images, before)


def test_each_image_draws_each_shift_equally_often() -> None:
    images = torch.zeros(9000, 1, 5, 5, dtype=torch.uint8)
    images[:, :, 2, 2] = 1
    counts = augment_with(images, shift_pixels=1).sum(dim=0, dtype=torch.int64)[0]
    assert counts.sum() == 9000
    assert counts[1:4, 1:4].sum() == 9000
    assert chisquare(counts[1:4, 1:4].flatten()).pvalue > 1e-3


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
    images, draws = blobs(16, 32), 2 * torch.rand(16, 3, generator=torch.Generator().manual_seed(2)) - 1
    before, (turns, grows, slants) = images.clone(), draws.T
    moved = affine(images, angle=turns * rotation_degrees, scale=1 + grows * scale, shear=slants * shear)
    for number, (turn, grow, slant) in enumerate(draws.tolist()):
        expected = functional.affine(
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
    moved = augment_with(images, rotation_degrees=60.0)[:, 0].double()
    place = torch.arange(size).double() - size // 2
    right = (moved.sum(1) * place).sum(1) / moved.sum((1, 2))
    down = (moved.sum(2) * place).sum(1) / moved.sum((1, 2))
    angles = torch.rad2deg(torch.atan2(down, right))
    assert kstest(angles.numpy(), "uniform", args=(-60, 120)).pvalue > 1e-3


def test_everything_off_is_the_images_themselves() -> None:
    images = blobs(2, 16)
    assert augment_with(images) is images


@pytest.mark.parametrize(
    "on",
    [
        {"shift_pixels": 2},
        {"rotation_degrees": 20.0},
        {"scale": 0.2},
        {"shear": 0.2},
        {"randaugment_num_ops": 2},
        {"cutout_pixels": 5},
    ],
    ids=lambda on: next(iter(on)),
)
def test_every_setting_moves_something(on: dict[str, float]) -> None:
    images = blobs(8, 16)
    before = images.clone()
    moved = augment_with(images, **on)
    assert (moved != images).flatten(1).any(dim=1).sum() >= 6
    assert moved.shape == images.shape
    assert torch.equal(images, before)


def test_half_of_the_images_are_mirrored() -> None:
    images = blobs(1, 16).expand(4000, -1, -1, -1)
    moved = augment_with(images, flip=True)
    mirrored = (moved == images.flip(3)).flatten(1).all(dim=1)
    assert torch.equal(moved[~mirrored], images[~mirrored])
    assert binomtest(int(mirrored.sum()), 4000).pvalue > 1e-3


def test_cutout_draws_the_places_of_random_erasing() -> None:
    """With its square of one size: a square that lies inside, each place equally often."""
    images, side = torch.ones(4000, 1, 6, 7, dtype=torch.uint8), 3
    erase = v2.RandomErasing(p=1, scale=(side**2 / 42,) * 2, ratio=(1, 1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        expected = (1 - torch.stack([erase(image) for image in images])).flatten(1)
    ours = (1 - augment_with(images, cutout_pixels=side)).flatten(1)
    assert torch.equal(ours.unique(dim=0), expected.unique(dim=0))
    counts = ours.unique(dim=0, return_counts=True)[1]
    assert len(counts) == 4 * 5
    assert chisquare(counts).pvalue > 1e-3


def test_cutout_larger_than_the_image_is_refused() -> None:
    with pytest.raises(InputError, match="must be below the size of the images, 16 x 16"):
        augment_with(blobs(2, 16), cutout_pixels=16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("magnitude", [0, 6, 9, 30])
@pytest.mark.parametrize("name", OPERATIONS)
def test_every_operation_is_torchvisions(name: str, magnitude: int, channels: int) -> None:
    images = blobs(4, 16)[:, :channels]
    reference = v2.RandAugment(magnitude=magnitude)
    magnitudes, is_signed = reference._AUGMENTATION_SPACE[name]
    values = magnitudes(31, 16, 16)
    assert OPERATIONS[name][1] == is_signed
    for negative in (False, True) if is_signed else (False,):
        size = 0.0 if values is None else float(values[magnitude])
        expected = reference._apply_image_or_video_transform(
            images, name, -size if negative else size, interpolation=InterpolationMode.NEAREST, fill={}
        )
        ours = rand_augment(
            images,
            torch.full((4, 1), list(OPERATIONS).index(name)),
            torch.full((4, 1), negative),
            magnitude=magnitude,
        )
        assert (ours.int() - expected.int()).abs().max() <= 1  # factors are float32 there
        assert (ours != expected).float().mean() < 0.01


def test_operations_and_signs_are_drawn_evenly_as_torchvision_draws_them() -> None:
    assert list(OPERATIONS) == list(v2.RandAugment._AUGMENTATION_SPACE)
    assert len(OPERATIONS) == NUM_OPERATIONS
    draws = Draws.make(7000, settings(randaugment_num_ops=2), torch.Generator().manual_seed(0))
    pairs = draws.operation[:, 0] * NUM_OPERATIONS + draws.operation[:, 1]
    assert chisquare(torch.bincount(pairs, minlength=NUM_OPERATIONS**2)).pvalue > 1e-3
    assert binomtest(int(draws.negative.sum()), draws.negative.numel()).pvalue > 1e-3
