"""Mixup and cutmix: each image as torchvision mixes a pair, with the same distributions."""

from pathlib import Path

import pytest
import torch
from scipy.stats import beta, kstest
from torch import Tensor
from torchvision.transforms import v2

from osr.data.mixing import Mix, mix_images
from osr.data.settings import AugmentationSettings
from osr.errors import InputError
from osr.params import load_params

SHIPPED = load_params(Path(__file__).parents[1] / "params.yaml").train.augmentation


def settings(**alphas: float) -> AugmentationSettings:
    return SHIPPED.model_copy(update=alphas)


def draw(num_images: int, **alphas: float) -> Mix:
    mix = Mix.make(num_images, settings(**alphas), torch.Generator().manual_seed(0))
    assert mix is not None
    return mix


def noise(num_images: int, size: int = 12) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (num_images, 3, size, size), dtype=torch.uint8, generator=generator)


def test_nothing_is_mixed_without_alphas() -> None:
    assert Mix.make(4, settings(), torch.Generator()) is None


def test_mixup_is_the_mean_of_two_images_and_two_labels() -> None:
    images, labels, mix = noise(20), torch.arange(20) % 4, draw(20, mixup_alpha=0.5)
    mixed, shares = mix_images(images, labels, mix, num_classes=4)
    for number in range(20):
        partner, share = int(mix.partner[number]), float(mix.share[number])
        expected = share * images[number].double() + (1 - share) * images[partner].double()
        assert (mixed[number].double() - expected).abs().max() <= 0.5 + 1e-4
        by_hand = torch.zeros(4)
        by_hand[labels[number]] += share
        by_hand[labels[partner]] += 1 - share
        assert torch.allclose(shares[number], by_hand)


def test_cutmix_pastes_a_box_and_shares_labels_by_area() -> None:
    images, labels, mix = noise(60), torch.arange(60), draw(60, cutmix_alpha=1.0)
    mixed, shares = mix_images(images, labels, mix, num_classes=60)
    for number in range(60):
        partner = int(mix.partner[number])
        if partner == number:
            continue
        own = (mixed[number] == images[number]).all(dim=0)
        assert ((mixed[number] == images[partner]).all(dim=0) | own).all()
        pasted = (~own).nonzero()
        if len(pasted):
            height, width = (pasted.amax(dim=0) - pasted.amin(dim=0) + 1).tolist()
            assert len(pasted) == height * width
        assert float(shares[number, number]) == pytest.approx(1 - len(pasted) / 144, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.3, 1.0, 4.0])
def test_shares_are_beta_distributed_one_draw_per_image(alpha: float) -> None:
    for name in ("mixup_alpha", "cutmix_alpha"):
        assert kstest(draw(3000, **{name: alpha}).share.numpy(), beta(alpha, alpha).cdf).pvalue > 1e-3


def test_areas_of_cutmix_are_distributed_as_torchvisions() -> None:
    images, labels = torch.zeros(2, 1, 12, 12), torch.tensor([0, 1])
    reference = v2.CutMix(alpha=1.0, num_classes=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        theirs = [float(reference(images, labels)[1][0, 0]) for _ in range(1500)]
    mix = draw(1500, cutmix_alpha=1.0)
    _, shares = mix_images(noise(1500), torch.arange(1500), mix, num_classes=1500)
    moved = mix.partner != torch.arange(1500)
    ours = (shares.diagonal()[moved] * 144).round().int().numpy()
    assert kstest(ours, [round(value * 144) for value in theirs]).pvalue > 1e-3


def test_both_alphas_take_turns_and_partners_are_a_permutation() -> None:
    mix = draw(1000, mixup_alpha=1.0, cutmix_alpha=1.0)
    assert 420 < int(mix.cut.sum()) < 580
    assert mix.partner.sort().values.tolist() == list(range(1000))


@pytest.mark.parametrize("name", ["mixup_alpha", "cutmix_alpha"])
def test_with_a_probability_the_other_images_and_labels_stay(name: str) -> None:
    images, labels = noise(1000), torch.arange(1000)
    mix = draw(1000, mix_probability=0.3, **{name: 1.0})
    mixed, shares = mix_images(images, labels, mix, num_classes=1000)
    alone = mix.share == 1
    assert 650 < int(alone.sum()) < 750
    assert torch.equal(mixed[alone], images[alone])
    assert torch.equal(shares[alone], torch.eye(1000)[alone])
    assert kstest(mix.share[~alone].numpy(), beta(1, 1).cdf).pvalue > 1e-3


def test_background_images_are_not_mixed() -> None:
    with pytest.raises(InputError, match="mixup and cutmix need images of known classes"):
        mix_images(noise(2), torch.tensor([0, -2]), draw(2, mixup_alpha=1.0), num_classes=1)
