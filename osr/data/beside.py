"""The end of a batch: mixed images in the place of its own or beside them, and what stands for unknowns."""

from __future__ import annotations

import torch
from torch import Tensor

from osr.data.mixing import mix_images
from osr.data.pixmix import pixmix_unknowns
from osr.data.plans import Plan
from osr.data.settings import AugmentationSettings
from osr.outputs import BACKGROUND


def finished(
    images: Tensor, labels: Tensor, plan: Plan, settings: AugmentationSettings, *, num_classes: int
) -> tuple[Tensor, Tensor]:
    """What training sees of a batch.

    Args:
        images: (R, C, H, W) uint8, augmented, of the rows of the plan.
        labels: (R,) int64.
        plan: of which B of them are the batch's own; the others are only mixed into these.
        settings: `train.augmentation`.
        num_classes: K.

    Returns:
        (B, C, H, W) uint8 images and their labels; where `BatchSettings.copies` is 2, twice as many, those of
        the batch first. With two `views` each follows once more; with `mix_beside` the mixed ones follow (and
        all labels are shares, (2 B, K) float32); with `pseudo_unknowns` pictures follow that are labelled as
        background images are.
    """
    own = slice(plan.num_images)
    if plan.mix is not None:
        mixed, shares = mix_images(images, labels, plan.mix, num_classes=num_classes)
        if not settings.mix_beside:
            return mixed, shares
        certain = torch.nn.functional.one_hot(labels[own], num_classes).to(shares.dtype)
        return torch.cat([images[own], mixed]), torch.cat([certain, shares])
    if settings.pseudo_unknowns == "pixmix":
        unknown = pixmix_unknowns(images, plan.draws.pixmix[:, 1], settings)
        return torch.cat([images, unknown]), torch.cat([labels, torch.full_like(labels, BACKGROUND)])
    return images, labels
