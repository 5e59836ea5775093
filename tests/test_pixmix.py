"""PixMix: operations as in PIL, mixtures as the paper's formulas in float64, and fractals of our own."""

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image, ImageOps
from scipy.stats import beta, chisquare, kstest
from torch import Tensor

from osr.data.batches import TensorImages
from osr.data.fractals import fractals, system
from osr.data.pixmix import OPERATIONS, change, mixing_weights, num_draws, pixmix, pixmix_unknowns
from osr.data.settings import AugmentationSettings
from osr.outputs import BACKGROUND
from osr.params import load_params

TRAIN = load_params(Path(__file__).parents[1] / "params.yaml").train
PIXELS, K, BETA = 24, 3, 2.5


def settings(**changes: object) -> AugmentationSettings:
    small = {"pixmix": True, "pixmix_rounds": K, "pixmix_beta": BETA, "pixmix_fractals": 5}
    return TRAIN.augmentation.model_copy(update=small | changes)


def pictures(num_images: int) -> Tensor:
    """Smooth ones, so that a rounding of places moves no pixel far."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(num_images, 3, 5, 5, generator=generator)
    fine = torch.nn.functional.interpolate(coarse, (PIXELS, PIXELS), mode="bicubic").clamp(0, 1)
    return (fine * 255).to(torch.uint8)


def numbers(num_images: int, seed: int = 1) -> Tensor:
    return torch.rand(num_images, num_draws(settings()), generator=torch.Generator().manual_seed(seed))


def by_pil(name: str, image: Image.Image, level: float) -> Image.Image:
    """The authors' operations."""

    def affine(*matrix: float) -> Image.Image:
        return image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    shift = int(level * PIXELS / 3 / 10)
    match name:
        case "posterize":
            return ImageOps.posterize(image, 4 - int(level * 4 / 10))
        case "solarize":
            return ImageOps.solarize(image, 256 - int(level * 256 / 10))
        case "rotate":
            return image.rotate(int(level * 30 / 10), resample=Image.Resampling.BILINEAR)
        case "shear_x":
            return affine(1, level * 0.03, 0, 0, 1, 0)
        case "shear_y":
            return affine(1, 0, 0, level * 0.03, 1, 0)
        case "translate_x":
            return affine(1, 0, shift, 0, 1, 0)
        case "translate_y":
            return affine(1, 0, 0, 0, 1, shift)
        case _:
            return getattr(ImageOps, name)(image)


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(("level", "negative"), [(2.9, False), (2.9, True), (8.3, False)])
def test_an_operation_is_that_of_the_authors(name: str, level: float, negative: bool) -> None:
    moves = OPERATIONS.index(name) >= 4
    images, code = pictures(4), torch.full((4,), OPERATIONS.index(name))
    found = change(images, code, torch.full((4,), level), torch.full((4,), negative))
    signed = -level if negative and moves else level
    for image, ours in zip(images, found, strict=True):
        theirs = np.asarray(by_pil(name, Image.fromarray(image.permute(1, 2, 0).numpy()), signed))
        apart = np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs)
        if moves:  # where PIL fills with black, the border differs by a part of a pixel
            assert np.mean(apart > 2) < 0.12
            assert np.median(apart) <= 1
        else:
            assert apart.max() <= 1


def test_each_image_gets_its_own_operation_and_level() -> None:
    images, codes = pictures(18), torch.arange(18) % 9
    levels, negative = torch.linspace(0.2, 9, 18), torch.arange(18) % 4 == 0
    together = change(images, codes, levels, negative)
    for row in range(18):
        one = slice(row, row + 1)
        assert torch.equal(change(images[one], codes[one], levels[one], negative[one])[0], together[row])


def drawn_copy(image: Tensor, numbers_of_it: Tensor) -> NDArray[np.float64]:
    operation = torch.tensor([int(numbers_of_it[0] * 9)])
    level = 0.1 + numbers_of_it[1:2] * (3.0 - 0.1)
    return change(image[None], operation, level, numbers_of_it[2:3] < 0.5)[0].double().numpy() / 255


def drawn_fractal(chosen: Tensor) -> NDArray[np.float64]:
    row, column = (int(place * 4) for place in chosen[1:])  # 27 pixels, of which 24 are kept
    whole = fractals(5, 27, 3)[int(chosen[0] * 5)].double().numpy() / 255
    return whole[:, row : row + PIXELS, column : column + PIXELS]


def reference(image: Tensor, u: Tensor, *, unknown: bool) -> NDArray[np.float64]:
    """The authors' loop, of one image, in float64."""
    base = drawn_fractal(u[2:5])
    other = drawn_fractal(u[5:8]) if unknown else base
    plain = image.double().numpy() / 255
    mixed = base if unknown else drawn_copy(image, u[8:11]) if u[0] < 0.5 else plain
    rounds = 1 + int(u[1] * K) if unknown else int(u[1] * (K + 1))
    for number in range(rounds):
        v = u[11 + 8 * number :].double().numpy()
        second = drawn_copy(image, u[12 + 8 * number :]) if v[0] < 0.5 else other
        if v[5] < 0.5:
            a, b = beta.ppf(v[6], BETA, 1), beta.ppf(v[7], 1, BETA)
        else:
            a, b = 1 + beta.ppf(v[6], 1, BETA), -beta.ppf(v[7], 1, BETA)
        if v[4] < 0.5:
            mixed = (a * (mixed * 2 - 1) + b * (second * 2 - 1) + 1) / 2
        else:
            mixed = (mixed * 2) ** a * np.clip(second * 2, 1e-37, None) ** b / 2
        mixed = np.clip(mixed, 0, 1)
    return mixed


@pytest.mark.parametrize("unknown", [False, True])
def test_mixtures_are_those_of_the_paper(unknown: bool) -> None:
    images, u = pictures(60), numbers(60)
    before = images.clone()
    found = (pixmix_unknowns if unknown else pixmix)(images, u, settings())
    assert torch.equal(images, before)
    for row in range(60):
        expected = reference(images[row], u[row], unknown=unknown)
        assert_allclose(found[row].numpy() / 255, expected, atol=0.5 / 255 + 2e-5)


def test_weights_have_the_distributions_of_the_paper() -> None:
    u = torch.rand(2, 4000, generator=torch.Generator().manual_seed(2))
    for inside, first, second in (
        (True, beta(BETA, 1).cdf, beta(1, BETA).cdf),
        (False, lambda a: beta(1, BETA).cdf(a - 1), lambda b: 1 - beta(1, BETA).cdf(-b)),
    ):
        a, b = mixing_weights(torch.full((4000,), inside), *u, beta=BETA)
        assert kstest(a.numpy(), first).pvalue > 1e-3
        assert kstest(b.numpy(), second).pvalue > 1e-3


def test_an_unmixed_image_stays_and_a_pseudo_unknown_is_never_an_image() -> None:
    images, u = pictures(400), numbers(400)
    kept = (u[:, 0] >= 0.5) & (u[:, 1] < 1 / (K + 1))
    same = (pixmix(images, u, settings()) == images).flatten(1).all(dim=1)
    assert 30 < int(kept.sum()) < 75
    assert bool(same[kept].all())
    assert float(same[~kept].float().mean()) < 0.1  # a change may do nothing: 4 bits of a picture, 0 degrees
    unknown = pixmix_unknowns(images, u, settings())
    assert not bool((unknown == images).flatten(1).all(dim=1).any())
    rounds = torch.bincount((u[:, 1] * (K + 1)).long(), minlength=K + 1)
    assert chisquare(rounds.numpy()).pvalue > 1e-3


@pytest.mark.parametrize(("size", "channels"), [(9, 1), (36, 3), (150, 3)])
def test_fractals_are_many_and_of_full_range(size: int, channels: int) -> None:
    drawn = fractals(5, size, channels)
    assert (drawn.shape, drawn.dtype) == ((5, channels, size, size), torch.uint8)
    assert torch.equal(drawn, fractals.__wrapped__(5, size, channels))
    flat = drawn.flatten(1).double()
    assert flat.amin(1).tolist() == [0] * 5
    assert flat.amax(1).tolist() == [255] * 5
    assert bool((flat.std(1) > 15).all())
    assert len({tuple(row.tolist()) for row in flat}) == 5


def test_maps_of_a_system_contract_and_their_singular_values_lie_in_the_band() -> None:
    rng = np.random.default_rng(3)
    for _ in range(20):
        maps, offsets = system(rng)
        singular = np.linalg.svd(maps, compute_uv=False)
        weighted = (singular[:, 0] + 2 * singular[:, 1]).sum()
        assert singular.max() < 1
        assert (5 + len(maps)) / 2 <= weighted <= (6 + len(maps)) / 2
        assert np.abs(offsets).max() <= 1


def batches(**changes: object) -> list[tuple[Tensor, Tensor]]:
    still = {"rotation_degrees": 0.0, "scale": 0.0, "shear": 0.0}
    chosen = TRAIN.model_copy(
        update={"batch_size": 16, "augmentation": settings(**(still | {"pixmix": False} | changes))}
    )
    data = TensorImages(pictures(40), torch.arange(40) % 3)
    return list(data.epoch_batches(chosen, epoch=1))


def test_pixmix_moves_no_other_draw() -> None:
    for (plain, labels), (mixed, same) in zip(batches(), batches(pixmix=True), strict=True):
        assert torch.equal(labels, same)
        unchanged = (plain == mixed).flatten(1).all(dim=1)
        assert 0 < int(unchanged.sum()) < len(labels)


def test_pseudo_unknowns_stand_behind_the_images_of_their_batch_as_background() -> None:
    for (plain, labels), (images, twice) in zip(batches(), batches(pseudo_unknowns="pixmix"), strict=True):
        assert torch.equal(images[: len(labels)], plain)
        assert torch.equal(twice[: len(labels)], labels)
        assert twice[len(labels) :].tolist() == [BACKGROUND] * len(labels)
        assert len(images) == len(twice)
