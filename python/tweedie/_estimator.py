"""An estimator in the manner of scikit-learn."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, DensityMixin, OutlierMixin
from sklearn.utils.validation import check_is_fitted

from tweedie import _frames
from tweedie._loading import engine
from tweedie._progress import Progress, callback
from tweedie._run import Given, PathLike, Run, _json


def _nested(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options whose names may be paths, ``train.ema``, as a tree."""
    tree: dict[str, Any] = {}
    for path, value in options.items():
        *parents, name = path.split(".")
        inner = tree
        for parent in parents:
            inner = inner.setdefault(parent, {})
        if isinstance(value, Mapping) and isinstance(inner.get(name), dict):
            inner[name].update(_nested(value))
        else:
            inner[name] = _nested(value) if isinstance(value, Mapping) else value
    return tree


#: Trainings draw dropout from LibTorch's one generator: one after the other.
_FITTING = threading.Lock()


@contextlib.contextmanager
def _own_generator() -> Iterator[None]:
    """Leaves torch's generator to the user as it was, and to no other training meanwhile."""
    torch: Any = sys.modules.get("torch")
    with _FITTING:
        state = torch.get_rng_state() if hasattr(torch, "get_rng_state") else None
        try:
            yield
        finally:
            if state is not None:
                torch.set_rng_state(state)


class TweedieDensity(DensityMixin, OutlierMixin, BaseEstimator):
    """A density of a table: a diffusion model trained by likelihood.

    Columns are taken as they come: numbers, categories, dates and times, and missing cells. A tenth
    of the rows is held out while training, to keep the best parameters by and to hold new rows
    against (:meth:`p_values`, :meth:`predict`).

    Args:
        seconds: how long to train, the fit of the base included; None for no limit.
        steps: at most so many steps of the optimiser; None for the usual number.
        objective: what is minimised, by the names of ``tweedie train --objective``: ``"lm"``,
            Likelihood Matching, ``"sm"``, score matching, and others.
        rank: the rank of the covariance head, or ``"full"``; None for the usual one.
        context: columns that are given: the model is one of the others given these.
        contamination: the error rate of :meth:`predict`: a row of the same distribution is called an
            outlier with at most this probability.
        device: where to compute: ``"cpu"`` or ``"cuda:N"``.
        random_state: the seed of the training, an integer; None for 0.
        progress: whether to show a bar, or who is told of every event (a callable).
        out: a directory to keep the run in, which must not hold one; None for a temporary one.
        options: any option of a training by its path, such as ``{"train.batch_size": 64}`` or
            ``{"data.types": …}``; the tree of all of them is ``run_.config``.

    Attributes:
        run_: the fitted :class:`Run`.
        n_features_in_, feature_names_in_: the columns of the training rows.
        offset_: the log-likelihood below which :meth:`predict` calls a row an outlier.
    """

    def __init__(
        self,
        *,
        seconds: float | None = 60.0,
        steps: int | None = None,
        objective: str | None = None,
        rank: int | str | None = None,
        context: Sequence[str] = (),
        contamination: float = 0.05,
        device: str = "cpu",
        random_state: int | None = None,
        progress: Progress = False,
        out: PathLike | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.seconds = seconds
        self.steps = steps
        self.objective = objective
        self.rank = rank
        self.context = context
        self.contamination = contamination
        self.device = device
        self.random_state = random_state
        self.progress = progress
        self.out = out
        self.options = options

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.input_tags.string = True
        tags.input_tags.categorical = True
        return tags

    # --- fitting ---

    def _layers(self) -> list[dict[str, Any]]:
        seed = 0 if self.random_state is None else self.random_state
        if not isinstance(seed, (int, np.integer)):
            drawn = getattr(seed, "integers", None) or getattr(seed, "randint", None)
            if drawn is None:
                raise ValueError(f"random_state: {seed!r}: give an integer or a generator of NumPy")
            seed = drawn(2**31)
        own: dict[str, Any] = {"seed": int(seed)}
        if self.seconds is not None:
            own["train.max_seconds"] = float(self.seconds)
        if self.steps is not None:
            own["train.iterations"] = int(self.steps)
        if self.rank is not None:
            full = isinstance(self.rank, str)
            own["model.head.structure"] = self.rank if full else {"low-rank": int(self.rank)}
        if len(self.context):
            own["data.context"] = [self.context] if isinstance(self.context, str) else list(self.context)
        layers = [_nested(own)]
        if self.options:
            layers.append(_nested(self.options))
        return layers

    def fit(self, X: Any, y: Any = None) -> TweedieDensity:
        """Fits the density to the rows of ``X``, a frame or an array ``[n, d]``; ``y`` is ignored.

        Ctrl-C ends it with ``KeyboardInterrupt``; what was learned until then is there all the same.

        Raises:
            ValueError: for rows or options that cannot be used, with the place and the remedy.
            RuntimeError: if the training diverges.
        """
        if not 0.0 < self.contamination < 1.0:
            raise ValueError(f"contamination: {self.contamination}: give a share between 0 and 1")
        rows, kind = _frames.to_rows(X)
        if len(rows) < 2:
            raise ValueError(
                f"n_samples={len(rows)}: a density needs rows to be trained on and others to be held out"
            )
        self.n_features_in_ = len(rows.names)
        if _frames.has_names(X):
            self.feature_names_in_ = np.asarray(rows.names, dtype=object)
        elif hasattr(self, "feature_names_in_"):
            del self.feature_names_in_
        self.__dict__.pop("run_", None)
        density = engine.Density()
        request = _json({"layers": self._layers(), "device": self.device})
        out = None if self.out is None else os.fspath(self.out)
        try:
            with _own_generator():
                density.fit(rows, request, self.objective, out, callback(self.progress))
        except KeyboardInterrupt:
            if density.is_fitted():
                self._keep(density, kind)
            raise
        self._keep(density, kind)
        return self

    def _keep(self, density: Any, kind: Any) -> None:
        self.run_ = Run(density, device=self.device, kind=kind, array_names=self._training_names())

    def _fitted(self) -> Run:
        check_is_fitted(self, "run_")
        return self.run_

    def _checked(self, X: Any) -> Any:
        """Rows for the model: columns by name where they have one, else in the order of training."""
        self._fitted()
        names = None if _frames.has_names(X) else self._training_names()
        return _frames.to_rows(X, names)[0]

    def _training_names(self) -> list[str]:
        own = getattr(self, "feature_names_in_", None)
        return _frames.array_names(self.n_features_in_) if own is None else [str(name) for name in own]

    # --- log-likelihoods ---

    def score_samples(self, X: Any, **options: Any) -> Any:
        """The log-likelihood of each row, in nats in the data's own units: :meth:`Run.score_samples`."""
        return self._fitted().score_samples(self._checked(X), **options)

    def score(self, X: Any, y: Any = None, **options: Any) -> float:
        """The mean log-likelihood of the rows, in nats."""
        return self._fitted().score(self._checked(X), **options)

    def evaluate(self, X: Any, **options: Any) -> dict[str, Any]:
        """What is found of the model on test rows: :meth:`Run.evaluate`."""
        return self._fitted().evaluate(self._checked(X), **options)

    # --- outliers ---

    def _held_out(self) -> np.ndarray:
        """Log-likelihoods of rows that the model was not trained on, in rising order."""
        return self._fitted().held_out()

    def calibrate(self, X: Any, **options: Any) -> TweedieDensity:
        """Holds later rows against the log-likelihoods of these, which the model was not trained on,
        rather than against those of its validation rows."""
        self._fitted().calibrate(self._checked(X), **options)
        return self

    def p_values(self, X: Any) -> np.ndarray:
        """How often a row of the same distribution scores no higher: :meth:`Run.p_values`."""
        return self._fitted().p_values(self._checked(X))

    @property
    def offset_(self) -> float:
        """The log-likelihood below which a row is called an outlier."""
        held_out = self._held_out()
        # as many held-out rows lie below as a p-value of at most `contamination` allows
        count = int(np.floor(self.contamination * (1 + len(held_out)) + 1e-9)) - 1
        if count < 0:
            needed = int(np.ceil(1 / self.contamination)) - 1
            few = f"of {len(held_out)} held-out rows no row is called an outlier at {self.contamination}"
            remedy = f"calibrate with {needed} or more, or fit to more rows"
            warnings.warn(f"{few}; {remedy}", UserWarning, stacklevel=3)
            return float("-inf")
        return float(held_out[min(count, len(held_out) - 1)])

    def decision_function(self, X: Any) -> np.ndarray:
        """The log-likelihood of each row above that of an outlier; below 0 it is one."""
        return self._fitted().score_as_held_out(self._checked(X)) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """-1 for outliers, 1 for the others: rows whose p-value is at most ``contamination``."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    # --- samples ---

    def sample(self, n: int = 1, **options: Any) -> Any:
        """Samples, in the kind of frame that the model was fitted to: :meth:`Run.sample`."""
        return self._fitted().sample(n, **options)

    def given(self, cells: Mapping[str, Any] | None = None, /, **more: Any) -> Given:
        """The distribution of the other columns given these: ``model.given(age=40).sample(100)``."""
        return self._fitted().given(cells, **more)

    def impute(self, X: Any, **options: Any) -> Any:
        """The rows with what is missing filled in, given what is there: :meth:`Run.impute`."""
        return self._fitted().impute(X, **options)

    # --- keeping ---

    def report(self, out: PathLike | None = None, X: Any = None, **options: Any) -> Path:
        """Writes one self-contained HTML page about the model: :meth:`Run.report`."""
        rows = None if X is None else self._checked(X)
        return self._fitted().report(out, rows, **options)

    def save(self, path: PathLike) -> None:
        """Writes the run to a new directory, for the program and for :meth:`load`: :meth:`Run.save`."""
        self._fitted().save(path)

    @classmethod
    def load(cls, path: PathLike, *, device: str = "cpu") -> TweedieDensity:
        """The density of a run of a table, whoever trained it."""
        run = Run.load(path, device=device)
        if run.image:
            raise ValueError(f"{path} is a run of images: use tweedie.Run.load")
        model = cls(device=device)
        model.run_ = run
        model.feature_names_in_ = np.asarray(run.names, dtype=object)
        model.n_features_in_ = len(run.names)
        return model
