"""How much to add to a covariance of few images, judged by the likelihood of images left out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from osr.detectors.chunks import Images

# Shares of the mean variance that are tried, a quarter of a decade apart.
RIDGES = tuple(float(10 ** (step / 4)) for step in range(-24, 9))

# More images left out than this would not move the choice: their mean likelihood is known well enough.
_NUM_LEFT_OUT = 4096
# 1 - leverage is above 0; rounding may say otherwise.
_MIN_REMAINDER = 1e-12


def held_out_ridge(images: Images, means: Tensor, counts: Tensor, within: Tensor) -> float:
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
        images: N known training images.
        means: of the classes, (K, D) float64.
        counts: images of each class, (K,) int64, not all of them 1.
        within: covariance around the class means, W / N, (D, D) float64, not 0.

    Returns:
        One of RIDGES; the largest of equally good ones.
    """
    total = len(images)
    variance = within.diagonal().mean()
    added = torch.tensor(RIDGES, dtype=torch.float64, device=within.device) * variance
    spectrum, directions = torch.linalg.eigh(within * (total / (total - 1)))
    spectrum = spectrum.clamp_min(0)[:, None] + added
    constant = (within.diagonal() == 0).sum()
    loss = spectrum.log().sum(0) - constant * added.log()
    chosen = _left_out(images, counts)
    for batch in chosen.batches():
        share = counts.index_select(0, batch.labels).double()[:, None]
        factor = share / (share - 1)
        centred = batch.features.double() - means.index_select(0, batch.labels)
        squares = (centred @ directions).square_() @ spectrum.reciprocal()
        remainder = (1 - factor * squares / (total - 1)).clamp_min_(_MIN_REMAINDER)
        loss += (remainder.log() + factor.square() * squares / remainder).sum(0) / len(chosen)
    return RIDGES[len(RIDGES) - 1 - int(loss.flip(0).argmin())]


def _left_out(images: Images, counts: Tensor) -> Images:
    """Images that are not alone in their class, at most _NUM_LEFT_OUT of them, drawn once and for all."""
    labels = np.asarray(images.outputs.labels)
    known = np.flatnonzero(labels >= 0 if images.keep is None else images.keep)
    rows = known[counts.cpu().numpy()[labels[known]] > 1]
    if len(rows) > _NUM_LEFT_OUT:
        rows = np.random.default_rng(0).choice(rows, _NUM_LEFT_OUT, replace=False)
    keep = np.zeros(len(labels), dtype=np.bool_)
    keep[rows] = True
    return replace(images, keep=keep)
