"""Means of each known class over the training images, in one pass."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from osr.detectors.chunks import Batch, Images, Space
from osr.errors import InputError


def class_means(
    images: Images, space: Space, *, correct_only: bool, detector: str, needed: int = 1
) -> tuple[Tensor, Tensor]:
    """Mean of each class, by label.

    Args:
        images: known training images.
        space: mean of the features or of the logits.
        correct_only: only images whose predicted class is their label.
        detector: who asks, for the error.
        needed: how many such images each class must have.

    Returns:
        Means (K, D) float64 (D = K for logits), and the number of images of each class, (K,) int64.

    Raises:
        InputError: a class has fewer such images.
    """
    width = images.num_features if space == "features" else images.num_classes
    sums = torch.zeros((images.num_classes, width), dtype=torch.float64, device=images.device)
    counts = torch.zeros(images.num_classes, dtype=torch.int64, device=images.device)
    # K x D sums are worth adding up only for chunks of several images per class.
    for batch in images.batches(min_rows=4 * images.num_classes):
        values, labels = taken(batch, space, correct_only=correct_only)
        sums += class_sums(values, labels, images.num_classes)
        counts += torch.bincount(labels, minlength=images.num_classes)
    _refuse_few(counts.cpu().numpy(), needed, detector, "correctly classified " if correct_only else "")
    return sums / counts[:, None], counts


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


def _refuse_few(counts: NDArray[np.int64], needed: int, detector: str, kind: str) -> None:
    few = np.flatnonzero(counts < needed)
    if not len(few):
        return
    setting, advice = "", f"leave {detector} out of detectors.enabled"
    if needed > 1:
        setting = f" (detectors.{detector}.tail_size)"
        if counts.min() > 1:
            advice = f"lower detectors.{detector}.tail_size to at most {counts.min()}"
    raise InputError(
        f"{detector} needs {needed} {kind}training images of each known class{setting}, but class {few[0]} "
        f"has {counts[few[0]]}; {len(few)} of {len(counts)} classes have too few. Train longer, give more "
        f"images, or {advice}."
    )
