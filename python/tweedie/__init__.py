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
    from tweedie._likelihood import Likelihoods, likelihood
    from tweedie._run import Given, Run, import_diffusers

__version__ = _engine.__version__
__all__ = ["Given", "Likelihoods", "Run", "TweedieDensity", "import_diffusers", "likelihood"]

#: Where each name is from: loaded when it is first used, as scikit-learn takes a second.
_PLACES = {
    "TweedieDensity": "tweedie._estimator",
    "Likelihoods": "tweedie._likelihood",
    "likelihood": "tweedie._likelihood",
    "Given": "tweedie._run",
    "Run": "tweedie._run",
    "import_diffusers": "tweedie._run",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'tweedie' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PLACES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
