"""Mixup and cutmix on whole batches: each image is mixed with a partner of its batch, by its own draw."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import numpy as np
import torch
from torch import Tensor

from osr.data.settings import AugmentationSettings
from osr.errors import InputError


@dataclass(frozen=True)
class Mix:
    """How each of B images is mixed, on the CPU.

    Args:
        partner: (B,) int64, the image mixed into it; may be itself.
        share: (B,) float32 in 0..1, what stays of the image; 1 where it is not mixed.
        cut: (B,) bool, whether a box of the partner is pasted (cutmix) or all pixels are averaged (mixup).
        centre: (B, 2) float32 in 0..1, row and column of the middle of the box.
    """

    partner: Tensor
    share: Tensor
    cut: Tensor
    centre: Tensor

    @classmethod
    def make(cls, num_images: int, settings: AugmentationSettings, generator: torch.Generator) -> Self | None:
        """Draw for `num_images`; shares from Beta(alpha, alpha); with both alphas, either, at even chance.

        Each image is mixed with probability `mix_probability`, the cutmix_prob of Yun et al. 2019.
        """
        alphas = (settings.mixup_alpha, settings.cutmix_alpha)
        if not any(alphas):
            return None
        # PyTorch's public beta distribution takes no generator.
        beta = np.random.default_rng(int(torch.randint(0, 2**62, (1,), generator=generator)))
        cut = torch.rand(num_images, generator=generator) < (0.5 if all(alphas) else float(alphas[1] > 0))
        alpha = np.where(cut.numpy(), alphas[1], alphas[0])
        partner = torch.randperm(num_images, generator=generator)
        centre = torch.rand(num_images, 2, generator=generator)
        share = torch.from_numpy(beta.beta(alpha, alpha).astype(np.float32))
        share[torch.rand(num_images, generator=generator) >= settings.mix_probability] = 1
        return cls(partner=partner, share=share, cut=cut, centre=centre)

    def __getitem__(self, positions: Tensor) -> Mix:
        return Mix(*(getattr(self, field.name)[positions] for field in fields(self)))


def mix_images(images: Tensor, labels: Tensor, mix: Mix, *, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mix the first B images with their partners: mixup (Zhang et al. 2018), cutmix (Yun et al. 2019).

    Args:
        images: (R, C, H, W) uint8, R >= B.
        labels: (R,) int64 in 0..num_classes - 1.
        mix: for the B images.
        num_classes: K.

    Returns:
        (B, C, H, W) uint8 images and (B, K) float32 shares of the classes, which add up to 1.

    Raises:
        InputError: a label without a class, such as a background image's.
    """
    if bool((labels < 0).any()):
        raise InputError(
            "train.augmentation: mixup and cutmix need images of known classes; set both alphas to 0 with "
            "split.background."
        )
    device, num_images = images.device, len(mix.partner)
    partner, share, cut = mix.partner.to(device), mix.share.to(device), mix.cut.to(device)
    own, other = images[:num_images], images[partner]
    boxes = _boxes(mix, images.shape[2], images.shape[3]).to(device)
    height, width = (torch.arange(size, device=device) for size in images.shape[2:])
    inside = ((height >= boxes[:, 0, None]) & (height < boxes[:, 1, None]))[:, :, None] & (
        (width >= boxes[:, 2, None]) & (width < boxes[:, 3, None])
    )[:, None, :]
    share = torch.where(cut, 1 - inside.float().mean(dim=(1, 2)), share)
    weight = torch.where(cut[:, None, None], (~inside).float(), share[:, None, None])[:, None]
    mixed = (own * weight + other * (1 - weight)).round().to(torch.uint8)
    one_hot = torch.nn.functional.one_hot(labels, num_classes).to(torch.float32)
    return mixed, one_hot[:num_images] * share[:, None] + one_hot[partner] * (1 - share[:, None])


def _boxes(mix: Mix, height: int, width: int) -> Tensor:
    """(B, 4) int64: first row, row after the last, first column, column after the last, cut at the border."""
    half = 0.5 * (1 - mix.share).clamp(min=0).sqrt()
    ends = []
    for axis, size in enumerate((height, width)):
        middle, reach = (mix.centre[:, axis] * size).long(), (half * size).long()
        ends += [(middle - reach).clamp(min=0), (middle + reach).clamp(max=size)]
    return torch.stack(ends, dim=1)
