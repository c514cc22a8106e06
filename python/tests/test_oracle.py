"""Exact models from Python, against formulas written out."""

import numpy as np
import pytest

import tweedie
from tweedie import Oracle, Schedule


def normal():
    return Oracle([1.0], [[1.0, -2.0]], [[[2.0, 0.5], [0.5, 1.0]]])


def log_normal(x, mean, covariance):
    apart = x - mean
    fit = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(covariance), apart)
    return -0.5 * fit - 0.5 * np.linalg.slogdet(2 * np.pi * covariance)[1]


def test_densities_and_moments_are_the_formulas():
    oracle, schedule, t = normal(), Schedule("vp"), 0.3
    x = np.random.default_rng(0).normal(size=(7, 2))
    np.testing.assert_allclose(oracle.log_prob(x), log_normal(x, oracle.means[0], oracle.covariances[0]))
    alpha, sigma = schedule.alpha(t), schedule.sigma(t)
    assert abs(alpha**2 + sigma**2 - 1) < 1e-12
    diffused = alpha**2 * oracle.covariances[0] + sigma**2 * np.eye(2)
    np.testing.assert_allclose(oracle.log_prob(x, t), log_normal(x, alpha * oracle.means[0], diffused))
    gain = np.linalg.inv(diffused)
    noise = sigma * (x - alpha * oracle.means[0]) @ gain
    np.testing.assert_allclose(oracle.noise(x, t), noise, atol=1e-12)
    np.testing.assert_allclose(oracle.covariance(x, t)[3], np.eye(2) - sigma**2 * gain, atol=1e-12)


def test_estimators_are_near_the_truth():
    oracle = Oracle(
        [0.3, 0.7], [[-2.0], [2.0]], [1.0, 0.5], schedule={"kind": "vp", "beta_min": 0.1, "beta_max": 50.0}
    )
    x = oracle.sample(300, seed=1)
    exact = oracle.log_prob(x)
    flow = oracle.likelihood(x)
    np.testing.assert_allclose(flow.values, exact, atol=1e-3)
    own, beta = (oracle.likelihood(x, estimator="elbo", steps=10, covariance=c) for c in ("learned", "beta"))
    assert beta.mean < own.mean < exact.mean()
    assert exact.mean() - own.mean < 0.2


def test_chains_have_the_moments_of_the_mixture():
    oracle = normal()
    x = oracle.chain(4000, steps=10, seed=2)
    errors = 4 * np.sqrt(np.diag(oracle.covariances[0]) / 4000)
    assert (np.abs(x.mean(0) - oracle.means[0]) < errors + 0.02).all()
    np.testing.assert_allclose(np.cov(x.T), oracle.covariances[0], atol=0.15)


def test_what_is_no_mixture_is_refused():
    with pytest.raises(ValueError):
        Oracle([0.5, 0.6], [[0.0], [1.0]], [1.0, 1.0])
    with pytest.raises(ValueError):
        Oracle([1.0], [[0.0, 1.0]], [[[1.0, 2.0], [2.0, 1.0]]])
    with pytest.raises(ValueError, match="covariances"):
        Oracle([1.0], [[0.0, 1.0]], [[[1.0]]])
    with pytest.raises(ValueError, match="rows"):
        normal().log_prob(np.zeros(3))
    with pytest.raises(ValueError, match="found 3 x 4"):
        normal().log_prob(np.zeros((3, 4)))


def test_names_are_the_programs():
    names = tweedie.names()
    assert {"lm", "sm", "ocm"} <= set(names["objective"]) and {"elbo", "ode"} <= set(names["estimator"])
    assert all(text for of_kind in names.values() for text in of_kind.values())
