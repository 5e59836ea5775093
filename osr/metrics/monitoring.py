"""Whether a stream of images can still be of known classes, however often one looks: an anytime-valid test.

The evidence is a test martingale (Ville 1939; Shafer and Vovk 2019; Ramdas et al. 2023): while the images are
exchangeable with the validation knowns, the probability that it ever reaches `limit` is at most
`false_alarm`, over the drawing of the validation images and of a stream without end.

P-values from one set of n validation scores share its chance: given that set, a known image has a p-value of
at most k / (n + 1) with a probability that is Beta(k, n + 1 - k) distributed, not k / (n + 1). Half of
`false_alarm` pays for upper bounds of these probabilities at a few levels k, which hold together. The other
half pays for bets that p-values reach the levels more often than their bounds.

Bets lose while all is well, and what begins late would have to win the losses back. So a part of the stake is
put on each image as the first of the new ones: `_left` of it is still to be put after n images. Weighted like
this, the sum over the starts is a test martingale, too (Shiryaev 1963; Shin, Ramdas and Rinaldo 2024), and a
start at image n costs a factor of about n (1 + log n)^2, whatever came before.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import logsumexp
from scipy.stats import beta

from osr.errors import InputError

LEVELS = (0.0, 0.001, 0.005, 0.02, 0.1)  # p-values that are bet on; 0 stands for the smallest there is
_ODDS = np.geomspace(1.3, 300.0, 10)  # alternatives: so many times the odds that a known image has
_TOLERANCE = 1e-9
_AT_ONCE = 10_000  # images
_MOST = float(np.log(np.finfo(np.float64).max))
LEAST = 1e-9  # false_alarm: numbers do not tell the bounds of less from 1


@dataclass
class Monitor:
    """Evidence against "these are images of known classes", image by image.

    Args:
        num_calibration: n >= 1 validation knowns behind the p-values.
        false_alarm: probability in 0..1 of an alarm, ever, while all images are known ones.
        num_images: how many were seen.
        log_wealth: (levels, alternatives), natural logarithms of what the stakes put so far have become.
        log_evidence: logarithm of their mean and what was not put yet.
        alarm: number of the image (1, 2, ...) at which the evidence first reached the limit; None so far.
    """

    num_calibration: int
    false_alarm: float = 0.01
    num_images: int = 0
    log_wealth: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    log_evidence: float = 0.0
    alarm: int | None = None

    def __post_init__(self) -> None:
        if self.num_calibration < 1 or not LEAST <= self.false_alarm < 1:
            raise InputError(
                f"A monitor needs at least one validation image, and false_alarm in {LEAST:g}..1."
            )
        ranks = sorted({max(1, int(level * (self.num_calibration + 1))) for level in LEVELS})
        self.levels = np.array(ranks) / (self.num_calibration + 1)
        share = self.false_alarm / 2 / len(ranks)
        self.bounds = beta.ppf(1 - share, ranks, self.num_calibration + 1 - np.array(ranks))
        if not self.log_wealth.size:
            self.log_wealth = np.full((len(ranks), len(_ODDS)), -np.inf)

    @property
    def limit(self) -> float:
        """The evidence that raises the alarm."""
        return 2 / self.false_alarm

    @property
    def evidence(self) -> float:
        """1 at the begin; small is no evidence for anything; the largest number there is stands for more."""
        return float(np.exp(min(self.log_evidence, _MOST)))

    def update(self, p_values: ArrayLike) -> NDArray[np.float64]:
        """Go on with N images; return (N,) the logarithm of the evidence after each.

        Args:
            p_values: (N,) in 0..1 in the order of the stream, of `conformal_p_values` without groups.
        """
        p = np.asarray(p_values, dtype=np.float64)
        if p.ndim != 1 or not ((p > 0) & (p <= 1)).all():
            raise InputError("p-values must be one row of numbers above 0 and at most 1.")
        paths = [self._update(p[start : start + _AT_ONCE]) for start in range(0, len(p), _AT_ONCE)]
        return np.concatenate(paths) if paths else p

    def _update(self, p: NDArray[np.float64]) -> NDArray[np.float64]:
        reached = p[:, None] <= self.levels + _TOLERANCE
        bound = self.bounds[:, None]
        odds = bound / (1 - bound) * _ODDS
        rate = odds / (1 + odds)
        won, lost = np.log(rate / bound), np.log((1 - rate) / (1 - bound))
        gains = np.cumsum(np.where(reached[:, :, None], won, lost), axis=0)
        before = np.concatenate([np.zeros_like(gains[:1]), gains[:-1]])
        number = np.arange(self.num_images + 1, self.num_images + len(p) + 1, dtype=np.float64)
        left, left_before = _left(number), _left(number - 1)
        put = np.log(np.log1p(1 / number) * left * left_before)  # log(left_before - left), exactly
        stakes = put[:, None, None] - before
        stakes[0] = np.logaddexp(stakes[0], self.log_wealth)
        wealth = gains + np.logaddexp.accumulate(stakes, axis=0)
        path = np.logaddexp(logsumexp(wealth, axis=(1, 2)) - np.log(self.log_wealth.size), np.log(left))
        over = np.flatnonzero(path >= np.log(self.limit))
        if self.alarm is None and over.size:
            self.alarm = self.num_images + int(over[0]) + 1
        self.num_images += len(p)
        self.log_wealth, self.log_evidence = wealth[-1], float(path[-1])
        return np.asarray(path)


def _left(number: NDArray[np.float64]) -> NDArray[np.float64]:
    """The part of the stake that is still to be put after so many images: 1, 0.59 ... 0.10 after 10,000."""
    return 1 / (1 + np.log1p(number))
