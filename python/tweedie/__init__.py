"""Densities of tables and images: diffusion models trained by likelihood.

>>> from tweedie import TweedieDensity
>>> model = TweedieDensity(seconds=60).fit(frame)           # doctest: +SKIP
>>> model.score_samples(new)                                # doctest: +SKIP
>>> model.sample(1000)                                      # doctest: +SKIP
"""

from tweedie._loading import engine as _engine
from tweedie._estimator import TweedieDensity
from tweedie._run import Given, Run, import_diffusers

__version__ = _engine.__version__
__all__ = ["Given", "Run", "TweedieDensity", "import_diffusers"]
