"""Weibull fits against scipy and against the likelihood itself."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose
from scipy.optimize import brentq, fmin
from scipy.stats import weibull_min

from osr.detectors.weibull import fit_weibull, fittable, weibull_cdf
from osr.errors import InputError


def precise(function, start, args=(), disp=0):
    """Scipy's default stops at 1e-4."""
    return fmin(function, start, args=args, disp=disp, xtol=1e-12, ftol=1e-15, maxiter=5000, maxfun=5000)


@pytest.mark.parametrize("shape", [0.4, 1.0, 3.0, 40.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_scipy_agrees(shape: float, scale: float) -> None:
    samples = scale * np.random.default_rng(0).weibull(shape, size=(3, 20))
    found = np.stack(fit_weibull(samples), 1)
    for sample, ours in zip(samples, found, strict=True):
        theirs = weibull_min.fit(sample / scale, floc=0, optimizer=precise)
        assert_allclose(ours, [theirs[0], theirs[2] * scale], rtol=1e-7)
        likelihood = [
            weibull_min.logpdf(sample, k, scale=s).sum() for k, s in (ours, (theirs[0], theirs[2] * scale))
        ]
        assert likelihood[0] >= likelihood[1] - 1e-9


@settings(max_examples=50, deadline=None)
@given(arrays(np.float64, (4, 7), elements=st.floats(2.0**-20, 2.0**20, width=32)))
def test_the_gradient_vanishes(samples: np.ndarray) -> None:
    samples = samples[fittable(samples)]
    if not len(samples):
        return
    shape, scale = fit_weibull(samples)
    assert np.isfinite(shape).all()
    assert (shape > 0).all()
    with np.errstate(under="ignore"):
        power = (samples / scale[:, None]) ** shape[:, None]
        logs = np.log(samples / scale[:, None]) * shape[:, None]
    assert_allclose(power.mean(1), 1, rtol=1e-6)
    assert_allclose((power * logs).mean(1) - logs.mean(1), 1, rtol=1e-6, atol=1e-6)


def test_samples_are_fitted_one_by_one() -> None:
    samples = np.random.default_rng(1).weibull(2.0, size=(50, 20)) * np.geomspace(1e-9, 1e9, 50)[:, None]
    shape, scale = fit_weibull(samples)
    for row in (0, 17, 49):
        alone = fit_weibull(samples[row : row + 1])
        assert_allclose([shape[row], scale[row]], np.ravel(alone), rtol=1e-13)
    order = np.random.default_rng(2).permutation(20)
    assert_allclose(fit_weibull(samples[:, order])[0], shape, rtol=1e-12)


def test_narrow_and_wide_samples() -> None:
    narrow = np.array([[1.0, 1.0, np.nextafter(1.0, 2)], [1, 1 + 1e-9, 1 + 2e-9]])
    shape, scale = fit_weibull(narrow)
    assert (shape > 1e8).all()
    assert_allclose(scale, 1, rtol=1e-8)
    shape, scale = fit_weibull(np.array([[1e-150, 1.0, 1e150]]))
    assert 0 < shape[0] < 0.1
    assert np.isfinite(scale[0])


@pytest.mark.parametrize("sample", [[2.0, 2, 2], [0, 1, 2], [-1, 1, 2]])
def test_samples_without_a_maximum_are_refused(sample: list[float]) -> None:
    samples = np.array([[1.0, 2, 3], sample, sample])
    assert fittable(samples).tolist() == [True, False, False]
    with pytest.raises(InputError, match="Row 1 "):
        fit_weibull(samples)


def test_cdf_matches_scipy_and_never_overflows() -> None:
    values = torch.tensor([0.0, 1e-9, 0.5, 1, 2, 1e30], dtype=torch.float64)
    for shape in (0.5, 3.0, 1e9):
        ours = weibull_cdf(values, torch.tensor(shape).double(), torch.tensor(1.5).double()).numpy()
        with np.errstate(over="ignore", under="ignore"):
            assert_allclose(ours, weibull_min.cdf(values.numpy(), shape, scale=1.5), rtol=1e-12)
    assert weibull_cdf(values, torch.tensor(2.0).double(), torch.tensor(1.0).double())[1] == pytest.approx(
        1e-18
    )


@pytest.mark.parametrize("number", [2, 3, 7])
def test_a_shape_at_the_end_of_its_bracket(number: int) -> None:
    """All but the largest are equal: no sample of that number has its root further up."""
    ratios = np.geomspace(1e-3, 0.9, 20)
    samples = np.concatenate([np.repeat(ratios[:, None], number - 1, axis=1), np.ones((20, 1))], axis=1)

    def slope(shape: float, ratio: float) -> float:
        y = np.array([np.log(ratio)] * (number - 1) + [0.0])
        return float((y * np.exp(shape * y)).sum() / np.exp(shape * y).sum() - 1 / shape - y.mean())

    expected = [brentq(slope, 1e-3, 1e4, args=(ratio,), xtol=1e-13) for ratio in ratios]
    assert_allclose(fit_weibull(samples)[0], expected, rtol=1e-9)
