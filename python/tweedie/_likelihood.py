"""Log-likelihoods under a model of torch that somebody else trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tweedie._loading import engine
from tweedie._run import _json

#: Schedules by name; others are given as a dictionary of the library's ``ScheduleConfig``.
SCHEDULES: dict[str, dict[str, Any]] = {
    "vp": {"kind": "vp", "beta_min": 0.1, "beta_max": 20.0},
    "sub-vp": {"kind": "sub-vp", "beta_min": 0.1, "beta_max": 20.0},
    "ve": {"kind": "ve", "sigma_min": 0.01, "sigma_max": 50.0},
    "cosine": {"kind": "cosine", "offset": 0.008},
    "ddpm": {"kind": "discrete", "steps": 1000, "law": "linear", "beta_start": 1e-4, "beta_end": 0.02},
    "iddpm": {"kind": "discrete", "steps": 1000, "law": "cosine", "beta_start": 1e-4, "beta_end": 0.02},
}
_LAWS = {"linear": "linear", "scaled_linear": "scaled-linear", "squaredcos_cap_v2": "cosine"}
_PREDICTIONS = {"epsilon": "epsilon", "v_prediction": "v", "sample": "sample"}


@dataclasses.dataclass(frozen=True)
class Likelihoods:
    """Log-likelihoods of rows, and what they are."""

    #: Nats per row ``[n]``, of a density in the model's own units; NaN where there is none.
    values: np.ndarray
    #: The standard error of each over its own draws; 0 where nothing is drawn.
    std_errors: np.ndarray
    #: ``"lower bound"`` or ``"estimate"``.
    kind: str
    #: The estimator with its settings, in words.
    estimator: str
    #: Evaluations of the model for each row, on average; a product with its Jacobian is one, too.
    evaluations: float
    #: Rows whose value should not be believed, with the reason.
    flags: list[tuple[int, str]]
    #: Numbers of a row.
    dim: int
    #: Whether they are log-probabilities of the levels of images, and not log-densities.
    of_levels: bool = False

    @property
    def mean(self) -> float:
        """The mean over rows that have a value."""
        return float(np.nanmean(self.values))

    def bits_per_dim(self, *, levels: int = 256, low: float = -1.0, high: float = 1.0) -> float:
        """The mean as bits per dimension of images whose ``levels`` levels were brought to ``low`` to
        ``high``: of a density, that of a level is added (``levels - 1`` steps on that range)."""
        step = 0.0 if self.of_levels else np.log((high - low) / (levels - 1))
        return float(-(self.mean / self.dim + step) / np.log(2))

    def __repr__(self) -> str:
        n = len(self.values)
        error = np.nanstd(self.values, ddof=1) / np.sqrt(n) if n > 1 else float("nan")
        what = f"{self.kind}: {self.estimator}, {n} rows"
        return f"{self.mean:.4f} ± {error:.4f} nats per row ({what})"


def schedule_of(schedule: Any) -> tuple[dict[str, Any], str | None]:
    """A schedule as the library has it, and what a model of it predicts, where that is known.

    Raises:
        ValueError: for one that is not known.
    """
    if isinstance(schedule, str):
        if schedule not in SCHEDULES:
            raise ValueError(
                f"schedule: there is none called {schedule!r}: give one of {', '.join(SCHEDULES)}"
            )
        return dict(SCHEDULES[schedule]), None
    if isinstance(schedule, Mapping):
        return dict(schedule), None
    config = getattr(schedule, "config", None)
    if config is None or "beta_schedule" not in config:
        raise ValueError("schedule: give a name, a dictionary or a scheduler of diffusers")
    if config["beta_schedule"] not in _LAWS:
        raise ValueError(f"schedule: {config['beta_schedule']!r} is not known: {', '.join(_LAWS)} are")
    if config.get("rescale_betas_zero_snr") or config.get("trained_betas") is not None:
        raise ValueError("schedule: betas of one's own, or rescaled to no signal, are not known")
    found = {
        "kind": "discrete",
        "steps": config["num_train_timesteps"],
        "law": _LAWS[config["beta_schedule"]],
        "beta_start": config["beta_start"],
        "beta_end": config["beta_end"],
    }
    return found, _PREDICTIONS.get(config.get("prediction_type", "epsilon"))


class Schedule:
    """A forward process, ``x_t = α_t x_0 + σ_t ε``.

    Args:
        schedule: as of :func:`likelihood`.
    """

    def __init__(self, schedule: Any = "vp") -> None:
        self._schedule = json.dumps(schedule_of(schedule)[0])
        _, _, horizon, steps = engine.schedule(self._schedule, np.empty(0))
        #: The last time.
        self.horizon: float = horizon
        #: Steps of the chain that it is, or stands for.
        self.steps: int = steps

    def _of(self, t: Any, which: int) -> Any:
        times = np.asarray(t, dtype=np.float64)
        alpha, sigma, _, _ = engine.schedule(self._schedule, np.ascontiguousarray(times.ravel()))
        return (alpha, sigma)[which].reshape(times.shape)[()]

    def alpha(self, t: Any) -> Any:
        """``α_t``, a number or an array as ``t`` is."""
        return self._of(t, 0)

    def sigma(self, t: Any) -> Any:
        """``σ_t``, a number or an array as ``t`` is."""
        return self._of(t, 1)


class _Model:
    """What the engine asks: rows are flat, and what comes back is the noise."""

    def __init__(self, model: Any, x: Any, schedule: str, prediction: str, times: Any) -> None:
        import torch

        self.torch = torch
        self.model = model
        self.shape = tuple(x.shape[1:])
        self.like = x
        self.schedule = schedule
        self.prediction = prediction
        self.times = times
        _, _, _, self.steps = engine.schedule(schedule, np.empty(0))

    def empty(self, rows: int) -> Any:
        d = int(np.prod(self.shape))
        return self.torch.empty((rows, d), dtype=self.like.dtype, device=self.like.device)

    def _column(self, values: np.ndarray, rows: int) -> Any:
        column = self.torch.from_numpy(values).to(dtype=self.like.dtype, device=self.like.device)
        return column.expand(rows) if len(values) == 1 else column

    def noise(self, rows: Any, times: np.ndarray) -> Any:
        n = rows.shape[0]
        t = self._column(times, n)
        if callable(self.times):
            t = self.times(t)
        elif self.times == "step":
            at = times * self.steps - 1
            whole = np.rint(at)
            # a step of the chain is that, whatever the rounding
            t = self._column(np.where(np.abs(at - whole) < 1e-6, whole, at), n)
        found = self.model(rows.view(n, *self.shape), t)
        found = getattr(found, "sample", found)
        if isinstance(found, tuple):
            found = found[0]
        if tuple(found.shape) != (n, *self.shape):
            raise ValueError(f"the model returned {tuple(found.shape)} for rows of {(n, *self.shape)}")
        found = found.reshape(n, -1)
        if self.prediction == "epsilon":
            return found
        alpha, sigma, _, _ = engine.schedule(self.schedule, times)
        alpha, sigma = self._column(alpha, n)[:, None], self._column(sigma, n)[:, None]
        if self.prediction == "v":
            return alpha * found + sigma * rows
        return (rows - alpha * found) / sigma


def likelihood(
    model: Callable[..., Any],
    x: Any,
    *,
    schedule: Any = "vp",
    prediction: str | None = None,
    times: str | Callable[[Any], Any] | None = None,
    estimator: str = "ode",
    steps: int | None = None,
    draws: int | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    **options: Any,
) -> Likelihoods:
    """The log-likelihood of rows under a diffusion model of torch.

    The model is asked where it is, on any device, and differentiated by torch; nothing is copied to
    the host but the likelihoods.

    Args:
        model: ``model(x_t, t)``, a ``torch.nn.Module`` or a function, for ``x_t`` of the shape of
            ``x`` and a time for each row; what it returns, or its ``sample``, is the prediction.
        x: rows ``[n, …]``, a floating-point tensor in the units that the model was trained in.
        schedule: the noise that it was trained with: one of :data:`SCHEDULES`, a dictionary, or a
            scheduler of diffusers.
        prediction: ``"epsilon"``, the noise; ``"v"``, ``α ε − σ x₀``; ``"sample"``, ``x₀``. By
            default what the scheduler says, or the noise.
        times: what the model is given: ``"t"``, the time from 0 to 1; ``"step"``, the step of the
            chain, ``steps · t − 1``, which the probability flow asks for between whole steps too, and
            bounds unless ``spacing="even"``; or a function of the time, such as
            ``lambda t: (1000 * t - 1).round().long()``. By default steps of discrete schedules, and
            the time of others.
        estimator: ``"ode"``, the probability flow, an estimate; ``"elbo"``, a lower bound by
            ``steps`` steps; ``"bound"``; ``"levels"``, a lower bound on the probability of the levels
            of images, which are the bytes themselves or bytes brought to -1 … 1.
        steps: steps of a bound, by default 100.
        draws: draws of each row, by default 4.
        seed: the seed of the draws and probes.
        batch_size: rows at a time, by default 256.
        options: others of the library's ``ScoreOptions``: ``covariance`` of the ELBO's steps
            (``"beta"``, ``"beta-tilde"``, or from the model's own Jacobian), ``divergence``,
            ``probes``, ``solver={"rtol": …, "atol": …}``.

    Raises:
        ValueError: for what cannot be computed. What the model raises is raised as it is.
    """
    import torch

    x = torch.as_tensor(x)
    if x.dtype == torch.uint8 and estimator == "levels":
        x = x.to(torch.float32) / 127.5 - 1.0
    if not x.is_floating_point():
        raise ValueError(f"x is a tensor of {x.dtype}: give floating-point numbers in the model's units")
    if x.ndim < 2 or 0 in x.shape:
        raise ValueError(f"x is [n, …] with at least one row, found {list(x.shape)}")
    if not torch.isfinite(x).all():
        raise ValueError("x has numbers that are not finite")
    x = x.detach()
    if x.dtype not in (torch.float32, torch.float64):
        x = x.to(torch.float32)
    found, known = schedule_of(schedule)
    if "kind" not in found:
        raise ValueError(f"schedule: {found} has no kind: one of vp, sub-vp, ve, cosine, discrete")
    prediction = prediction or known or "epsilon"
    if prediction not in ("epsilon", "v", "sample"):
        raise ValueError(f"prediction: {prediction!r}: give epsilon, v or sample")
    if prediction == "v" and found["kind"] in ("ve", "sub-vp"):
        raise ValueError("prediction: v is of variance-preserving schedules")
    times = times or ("step" if found["kind"] == "discrete" else "t")
    if not callable(times) and times not in ("t", "step"):
        raise ValueError(f"times: {times!r}: give t, step or a function")
    request = dict(estimator=estimator, steps=steps, draws=draws, seed=seed, batch_size=batch_size, **options)
    modules = list(model.modules()) if isinstance(model, torch.nn.Module) else []
    before = [module.training for module in modules]
    try:
        for module in modules:
            module.training = False
        asked = _Model(model, x, json.dumps(found), prediction, times)
        # products with the Jacobian are of tensors that know where they come from
        with torch.inference_mode(False):
            flat = x.reshape(len(x), -1).contiguous().clone()
            answer = engine.likelihood(asked, flat, json.dumps(found), _json(request))
    finally:
        for module, training in zip(modules, before):
            module.training = training
    return likelihoods_of(answer, int(np.prod(x.shape[1:])), estimator == "levels")


def likelihoods_of(answer: Mapping[str, Any], dim: int, of_levels: bool = False) -> Likelihoods:
    """What the engine found."""
    return Likelihoods(
        values=answer["values"],
        std_errors=answer["std_errors"],
        kind=answer["claim"].split(" ", 1)[-1],
        estimator=answer["estimator"],
        evaluations=answer["evaluations"],
        flags=answer["flags"],
        dim=dim,
        of_levels=of_levels,
    )
