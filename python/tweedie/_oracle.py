"""Exact models, to judge methods by: a mixture of Gaussians under a forward process."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from tweedie._likelihood import Likelihoods, likelihoods_of, schedule_of
from tweedie._loading import engine
from tweedie._run import _json


class Oracle:
    """A mixture of Gaussians as the exact model of itself: what a perfectly trained network knows.

    Args:
        weights: ``[K]``, positive, of sum 1.
        means: ``[K, d]``.
        covariances: ``[K, d, d]``; or standard deviations, ``[K]``, of isotropic components.
        schedule: as of :func:`tweedie.likelihood`.

    Raises:
        ValueError: if it is no mixture.
    """

    def __init__(
        self,
        weights: Sequence[float],
        means: Any,
        covariances: Any,
        *,
        schedule: Any = "vp",
    ) -> None:
        self.means = np.atleast_2d(np.asarray(means, dtype=np.float64))
        self.weights = np.asarray(weights, dtype=np.float64)
        matrices = np.asarray(covariances, dtype=np.float64)
        d = self.means.shape[1]
        if matrices.ndim == 1:
            matrices = matrices[:, None, None] ** 2 * np.eye(d)
        if matrices.shape != (len(self.means), d, d):
            raise ValueError(f"covariances are [K, d, d] or [K], found {list(matrices.shape)}")
        self.covariances = matrices
        self.schedule = json.dumps(schedule_of(schedule)[0])
        flat = [list(map(float, matrix.ravel())) for matrix in matrices]
        means = [list(map(float, mean)) for mean in self.means]
        self._oracle = engine.Oracle(list(map(float, self.weights)), means, flat, self.schedule)

    @property
    def dim(self) -> int:
        """Numbers of a row."""
        return self.means.shape[1]

    def _rows(self, x: Any) -> np.ndarray:
        rows = np.ascontiguousarray(x, dtype=np.float64)
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise ValueError(f"rows are finite numbers [n, {self.dim}], found {list(rows.shape)}")
        return rows

    def log_prob(self, x: Any, t: float | None = None) -> np.ndarray:
        """``ln p(x)``, nats ``[n]``, or ``ln p_t(x)`` of noisy rows at a time."""
        return self._oracle.log_prob(self._rows(x), t)

    def sample(self, n: int, *, seed: int = 0) -> np.ndarray:
        """``n`` rows of the mixture itself, ``[n, d]``."""
        return self._oracle.draw(n, seed).reshape(n, self.dim)

    def noise(self, x: Any, t: float) -> np.ndarray:
        """``E[ε | x_t]``, ``[n, d]``; hence the score, ``-E[ε | x_t] / σ_t``."""
        return self._oracle.moments(self._rows(x), t)[0].reshape(-1, self.dim)

    def covariance(self, x: Any, t: float) -> np.ndarray:
        """``G = Cov[ε | x_t]``, ``[n, d, d]``."""
        return self._oracle.moments(self._rows(x), t)[1].reshape(-1, self.dim, self.dim)

    def chain(self, n: int, *, steps: int = 20, covariance: str = "learned", **options: Any) -> np.ndarray:
        """``n`` samples of the few-step sampler, ``[n, d]``, with a covariance of its reverse steps:
        ``"learned"``, the exact one, ``"beta"``, ``"beta-tilde"`` and others; ``eta``, ``spacing`` and
        ``seed`` are options."""
        request = _json(dict(steps=steps, covariance=covariance, **options))
        return self._oracle.sample(n, request).reshape(n, self.dim)

    def likelihood(self, x: Any, *, estimator: str = "ode", **options: Any) -> Likelihoods:
        """Log-likelihoods of rows by an estimator, as of :func:`tweedie.likelihood`; the covariance of
        the ELBO's steps is ``"learned"``, the exact one, by default."""
        answer = self._oracle.likelihood(self._rows(x), _json(dict(estimator=estimator, **options)))
        return likelihoods_of(answer, self.dim)
