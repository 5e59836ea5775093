"""Which images make each batch and what is drawn for them, before any pixel is read.

Everything is drawn for the whole batch of all processes; each process takes its slice. So neither the number
of processes nor that of workers changes what an image looks like.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from osr.data.mixing import Mix
from osr.data.pixmix import num_draws
from osr.data.settings import AugmentationSettings, BatchSettings

NUM_OPERATIONS = 14


@dataclass(frozen=True)
class Draws:
    """What is drawn for each of B images, on the CPU.

    Args:
        shift: (B, 2) int64, rows and columns in 0..2 * shift_pixels.
        affine: (B, 3) float32 in -1..1, shares of the largest rotation, scale and shear.
        flip: (B,) bool.
        operation: (B, num_ops) int64, positions in `osr.data.randaugment.OPERATIONS`.
        negative: (B, num_ops) bool, whether the magnitude changes its sign.
        cutout: (B, 2) float32 in 0..1, place of the square.
        seed: (B,) int64, for images that a worker augments.
        pixmix: (B, 2, `osr.data.pixmix.num_draws`) float32 in 0..1, for the image and for what is made of it
            to stand for an unknown one.
    """

    shift: Tensor
    affine: Tensor
    flip: Tensor
    operation: Tensor
    negative: Tensor
    cutout: Tensor
    seed: Tensor
    pixmix: Tensor

    @classmethod
    def make(cls, num_images: int, settings: AugmentationSettings, generator: torch.Generator) -> Self:
        """Draw for `num_images`; what is switched off is drawn, too, so that it moves no other draw."""
        num_ops = settings.randaugment_num_ops
        drawn = cls(
            shift=torch.randint(0, 2 * settings.shift_pixels + 1, (num_images, 2), generator=generator),
            affine=2 * torch.rand(num_images, 3, generator=generator) - 1,
            flip=torch.rand(num_images, generator=generator) < 0.5,
            cutout=torch.rand(num_images, 2, generator=generator),
            seed=torch.randint(0, 2**62, (num_images,), generator=generator),
            operation=torch.randint(0, NUM_OPERATIONS, (num_images, num_ops), generator=generator),
            negative=torch.rand(num_images, num_ops, generator=generator) < 0.5,
            pixmix=torch.empty(num_images, 2, 0),
        )
        own = torch.Generator().manual_seed(hash_seed(int(drawn.seed[0]), 0))
        return replace(drawn, pixmix=torch.rand(num_images, 2, num_draws(settings), generator=own))

    @classmethod
    def cat(cls, parts: Sequence[Draws]) -> Self:
        """The draws of several batches, one after the other."""
        return cls(*(torch.cat([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    def __getitem__(self, positions: Tensor) -> Draws:
        return Draws(*(getattr(self, field.name)[positions] for field in fields(self)))


@dataclass(frozen=True)
class Plan:
    """What one process makes of one batch.

    Args:
        rows: (R,) int64, images to augment: the B of this process, then those that are only mixed into them;
            with two views all of them once more.
        draws: for these R images.
        mix: for the B images; its partners are positions in `rows`. None where nothing is mixed.
        num_images: B.
    """

    rows: Tensor
    draws: Draws
    mix: Mix | None
    num_images: int


def epoch_plans(
    num_images: int, settings: BatchSettings, *, epoch: int, rank: int = 0, world_size: int = 1
) -> Iterator[Plan]:
    """The batches of one pass in random order, decided by seed and epoch alone.

    Args:
        num_images: N, of the training set.
        settings: batch_size counts the images of all processes together.
        epoch: from 0.
        rank: which of the processes.
        world_size: how many processes take part.
    """
    generator = torch.Generator().manual_seed(hash_seed(settings.seed, epoch))
    order = torch.randperm(num_images, generator=generator)
    for rows in order.tensor_split(num_batches(num_images, settings.batch_size, world_size)):
        draws = Draws.make(len(rows), settings.augmentation, generator)
        more = [Draws.make(len(rows), settings.augmentation, generator) for _ in range(settings.views - 1)]
        mix = Mix.make(len(rows), settings.augmentation, generator)
        local = torch.arange(len(rows)).tensor_split(world_size)[rank]
        wanted, num_local = local, len(local)
        if mix is not None:
            partners = mix.partner[local]
            wanted = torch.cat([local, partners[~torch.isin(partners, local)]])
            place = torch.empty_like(mix.partner)
            place[wanted] = torch.arange(len(wanted))
            mix = replace(mix[local], partner=place[partners])
        views = Draws.cat([each[wanted] for each in (draws, *more)])
        yield Plan(rows[wanted].repeat(settings.views), views, mix, num_local)


def num_batches(num_images: int, batch_size: int, world_size: int = 1) -> int:
    """Batches per epoch, as few as `batch_size` allows; a single image per process breaks batch norm."""
    return max(1, min(-(-num_images // batch_size), num_images // (2 * world_size)))


def hash_seed(seed: int, epoch: int) -> int:
    """A seed for one epoch of one run; neighbours share no stream (finaliser of splitmix64)."""
    mask = (1 << 64) - 1
    mixed = (seed * 0x9E3779B97F4A7C15 + epoch + 1) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return (mixed ^ (mixed >> 31)) >> 1
