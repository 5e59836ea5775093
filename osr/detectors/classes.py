"""Sums and means of each known class over the training images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from osr.detectors.chunks import Batch, Images
from osr.errors import InputError
from osr.settings.base import Space


def gather_classes(images: Images, space: Space, *, correct_only: bool) -> dict[str, Tensor]:
    """Sums and counts of each class, by label.

    Args:
        images: known training images.
        space: sums of the features or of the logits.
        correct_only: only images whose predicted class is their label.

    Returns:
        sums: (K, D) float64 (D = K for logits); counts: the number of images of each class, (K,) int64.
    """
    width = images.num_features if space == "features" else images.num_classes
    sums = torch.zeros((images.num_classes, width), dtype=torch.float64, device=images.device)
    counts = torch.zeros(images.num_classes, dtype=torch.int64, device=images.device)
    # K x D sums are worth adding up only for chunks of several images per class.
    for batch in images.batches(min_rows=4 * images.num_classes):
        values, labels = taken(batch, space, correct_only=correct_only)
        sums += class_sums(values, labels, images.num_classes)
        counts += torch.bincount(labels, minlength=images.num_classes)
    return {"sums": sums, "counts": counts}


def class_means(sums: Tensor, counts: Tensor, *, detector: str, correct_only: bool = False) -> Tensor:
    """Means (K, D) float64 of what `gather_classes` found.

    Raises:
        InputError: a class has no images.
    """
    refuse_few(counts, 1, detector, correct_only=correct_only)
    return sums / counts[:, None]


def class_sums(values: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Sum of the rows of each class: values (n, D), labels (n,) in 0..K-1, result (K, D) float64."""
    sums = values.new_zeros((num_classes, values.shape[1]), dtype=torch.float64)
    return sums.index_add_(0, labels, values.double())


def taken(batch: Batch, space: Space, *, correct_only: bool) -> tuple[Tensor, Tensor]:
    """Values (n, D) and labels (n,) of a chunk, all images or the correctly classified ones."""
    values, labels = batch.space(space), batch.labels
    if not correct_only:
        return values, labels
    correct = batch.predictions == labels
    return (values, labels) if bool(correct.all()) else (values[correct], labels[correct])


class TooFewImagesError(InputError):
    """A known class, `number` in 0..K-1, has too few images to fit a detector."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.number = number


def refuse_few(class_counts: Tensor, needed: int, detector: str, *, correct_only: bool) -> None:
    """Raise `TooFewImagesError` where a class has fewer images, of those that count, than are needed."""
    counts = class_counts.cpu().numpy()
    few = np.flatnonzero(counts < needed)
    if not len(few):
        return
    setting, advice = "", f"leave {detector} out of detectors.enabled"
    if needed > 1:
        setting = f" (detectors.{detector}.tail_size)"
        if counts.min() > 1:
            advice = f"lower detectors.{detector}.tail_size to at most {counts.min()}"
    kind = "correctly classified " if correct_only else ""
    raise TooFewImagesError(
        f"{detector} needs {needed} {kind}training images of each known class{setting}, but class {few[0]} "
        f"has {counts[few[0]]}; {len(few)} of {len(counts)} classes have too few. Train longer, give more "
        f"images, or {advice}.",
        int(few[0]),
    )
