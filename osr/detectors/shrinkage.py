"""How much to add to a covariance of few images, judged by the likelihood of images left out."""

from __future__ import annotations

import torch

from osr.detectors.moments import Moments
from osr.detectors.sample import Sample
from osr.errors import InputError

# Shares of the mean variance that are tried, a quarter of a decade apart.
RIDGES = tuple(float(10 ** (step / 4)) for step in range(-24, 9))

# More images left out than this would not move the choice: their mean likelihood is known well enough.
NUM_LEFT_OUT = 4096
_ROWS = 512  # of them that are looked at at once
# 1 - leverage is above 0; rounding may say otherwise.
_MIN_REMAINDER = 1e-12


def held_out_ridge(sample: Sample, moments: Moments, detector: str) -> float:
    """The ridge under which training images are most likely, each to a Gaussian fitted without it.

    Class means m_c and S, the covariance around them, are taken over the other N - 1 images; the image's
    density is that of its class's Gaussian with covariance S + ridge times the mean variance. Leaving an
    image out changes S by a term of rank one, so that one eigendecomposition serves all images and all
    ridges (Hoffbeck and Landgrebe 1996). With q = d' (W / (N - 1) + r I)^-1 d, d = f - m_c, W the sum of all
    d d', a = n_c / (n_c - 1) and h = a q / (N - 1), twice the negative logarithm is, but for a constant,
    log det(W / (N - 1) + r I) + log(1 - h) + a^2 q / (1 - h).

    A feature that is constant in each class says nothing: no image left out moves in it, so that its share of
    the likelihood would grow without end as the ridge falls. It is left out of the determinant. An image
    alone in its class has no mean without it and is passed over.

    Args:
        sample: of the N training images, those to leave out.
        moments: of the classes, whose scatter is not 0.
        detector: who asks, for the error.

    Returns:
        One of RIDGES; the largest of equally good ones.

    Raises:
        InputError: each image of the sample is alone in its class.
    """
    counts, means, within = moments.counts, moments.means, moments.covariance
    total = int(counts.sum())
    variance = within.diagonal().mean()
    added = torch.tensor(RIDGES, dtype=torch.float64, device=within.device) * variance
    spectrum, directions = torch.linalg.eigh(within * (total / (total - 1)))
    spectrum = spectrum.clamp_min(0)[:, None] + added
    constant = (within.diagonal() == 0).sum()
    loss = spectrum.log().sum(0) - constant * added.log()
    left_out = counts[sample.labels] > 1
    features, labels = sample.features[left_out], sample.labels[left_out]
    if not len(labels):
        raise InputError(
            f"detectors.{detector}.ridge is auto, but of the training images that were drawn each is alone "
            "in its class: set it to a number, or give more images."
        )
    for values, classes in zip(torch.split(features, _ROWS), torch.split(labels, _ROWS), strict=True):
        share = counts.index_select(0, classes).double()[:, None]
        factor = share / (share - 1)
        centred = values.double() - means.index_select(0, classes)
        squares = (centred @ directions).square_() @ spectrum.reciprocal()
        remainder = (1 - factor * squares / (total - 1)).clamp_min_(_MIN_REMAINDER)
        loss += (remainder.log() + factor.square() * squares / remainder).sum(0) / len(labels)
    return RIDGES[len(RIDGES) - 1 - int(loss.flip(0).argmin())]
