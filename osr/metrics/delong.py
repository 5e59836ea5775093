"""AUROCs of several detectors on the same images and how they vary together, without a bootstrap."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from osr.errors import InputError
from osr.metrics.groups import Groups
from osr.metrics.thresholds import checked_scores

Array = NDArray[Any]
FloatArray = NDArray[np.float64]


def auroc_covariance(
    known: ArrayLike, unknown: ArrayLike, *, groups: Groups | None = None
) -> tuple[FloatArray, FloatArray]:
    """AUROC of M detectors on the same images, and how they vary together (DeLong et al. 1988).

    From mid-ranks (Sun and Xu 2014): one sort per detector, memory of a few (M, n_K + n_U) arrays. With
    groups as Obuchowski (1997) does: deviations are added up over each group before they are squared.

    Args:
        known: (M, n_K) scores, higher = more unknown.
        unknown: (M, n_U) scores of the same detectors.
        groups: of the images; None where they are independent.

    Returns:
        (M,) AUROC in 0..1 and their (M, M) covariance.

    Raises:
        InputError: other shapes, fewer than 2 known or 2 unknown images or groups of them, or a NaN.
    """
    from scipy.stats import rankdata

    of_known, of_unknown = (np.atleast_2d(np.asarray(scores)) for scores in (known, unknown))
    if len(of_known) != len(of_unknown) or of_known.ndim != 2 or of_unknown.ndim != 2:
        raise InputError(
            f"Scores must be (M, n_K) and (M, n_U), not {of_known.shape} and {of_unknown.shape}."
        )
    num_known, num_unknown = of_known.shape[1], of_unknown.shape[1]
    if groups is not None:
        groups.check_sizes(num_known, num_unknown)
    counts = (num_known, num_unknown) if groups is None else groups.counts
    if min(counts) < 2:
        raise InputError(
            "DeLong's variance needs at least 2 known and 2 unknown "
            f"{'images' if groups is None else 'groups'}, not {counts[0]}, {counts[1]}."
        )
    for row in (*of_known, *of_unknown):
        checked_scores(row, name="scores")
    ranks = rankdata(np.concatenate((of_known, of_unknown), axis=1), axis=1)
    # Of each unknown image the share of K below it, of each known image the share of U above it; ties half.
    below = (ranks[:, num_known:] - rankdata(of_unknown, axis=1)) / num_known
    above = 1 - (ranks[:, :num_known] - rankdata(of_known, axis=1)) / num_unknown
    if groups is None:
        covariance = np.cov(below) / num_unknown + np.cov(above) / num_known
    else:
        covariance = _between_groups(above, below, groups)
    return below.mean(axis=1), np.reshape(covariance, (len(of_known), len(of_known)))


def _between_groups(above: FloatArray, below: FloatArray, groups: Groups) -> FloatArray:
    """(M, M) covariance of AUROCs from the shares of known (M, n_K) and of unknown images (M, n_U)."""
    num_groups = len(groups.sizes[0])
    known, unknown = (
        np.stack([np.bincount(codes, row - row.mean(), minlength=num_groups) for row in shares]) / len(codes)
        for shares, codes in zip((above, below), groups.codes, strict=True)
    )
    factors = [count / (count - 1) for count in (*groups.counts, num_groups)]
    both = known @ unknown.T
    return np.asarray(
        factors[0] * known @ known.T + factors[1] * unknown @ unknown.T + factors[2] * (both + both.T)
    )
