"""Densities of tables and images: diffusion models trained by likelihood.

>>> from tweedie import TweedieDensity
>>> model = TweedieDensity(seconds=60).fit(frame)           # doctest: +SKIP
>>> model.score_samples(new)                                # doctest: +SKIP
>>> model.sample(1000)                                      # doctest: +SKIP
"""

from typing import TYPE_CHECKING, Any

from tweedie._loading import engine as _engine

if TYPE_CHECKING:
    from tweedie._estimator import TweedieDensity
    from tweedie._likelihood import Likelihoods, Schedule, likelihood
    from tweedie._oracle import Oracle
    from tweedie._run import Given, Run, import_diffusers

__version__ = _engine.__version__
__all__ = [
    "Given",
    "Likelihoods",
    "Oracle",
    "Run",
    "Schedule",
    "TweedieDensity",
    "import_diffusers",
    "likelihood",
    "names",
]

#: Where each name is from: loaded when it is first used, as scikit-learn takes a second.
_PLACES = {
    "TweedieDensity": "tweedie._estimator",
    "Likelihoods": "tweedie._likelihood",
    "Oracle": "tweedie._oracle",
    "Schedule": "tweedie._likelihood",
    "likelihood": "tweedie._likelihood",
    "Given": "tweedie._run",
    "Run": "tweedie._run",
    "import_diffusers": "tweedie._run",
}


def names() -> dict[str, dict[str, str]]:
    """The names of objectives, schedules, networks, covariances, samplers and estimators, each with a line
    that says what it is."""
    return {kind: dict(of_kind) for kind, of_kind in _engine.names()}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tweedie' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
