"""Small tables, and models of them that are fitted once."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import importlib.util

import numpy as np
import pandas as pd
import pytest

from tweedie import TweedieDensity

#: Steps of a training that has to end, and not to be good.
FEW = dict(seconds=None, steps=20, options={"model.network.width": 16, "model.network.depth": 2})


def whole_torch():
    """Whether torch is installed, and not its libraries alone."""
    spec = importlib.util.find_spec("torch")
    return spec is not None and spec.origin is not None


def numbers(n=300, seed=0):
    """Rows of three correlated numbers."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 1))
    return np.hstack([x, 0.5 * x + rng.normal(size=(n, 1)), rng.gamma(2.0, size=(n, 1))])


def people(n=400, seed=0):
    """A frame with every kind of column, and holes."""
    rng = np.random.default_rng(seed)
    age = rng.integers(18, 90, n)
    frame = pd.DataFrame(
        {
            "age": age,
            "height": np.round(150 + 0.2 * age + 10 * rng.normal(size=n), 1),
            "city": pd.Categorical(
                rng.choice(["Bern", "Basel", "Genf"], n), categories=["Genf", "Bern", "Basel"]
            ),
            "smokes": rng.random(n) < 0.3,
            "visits": pd.array(rng.poisson(2, n), dtype="Int64"),
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 900, n), unit="D"),
        }
    )
    frame.loc[rng.random(n) < 0.1, "height"] = np.nan
    frame.loc[rng.random(n) < 0.1, "visits"] = pd.NA
    frame.loc[rng.random(n) < 0.05, "city"] = None
    return frame


@pytest.fixture(scope="session")
def table():
    return numbers()


@pytest.fixture(scope="session")
def frame():
    return people()


@pytest.fixture(scope="session")
def of_numbers(table):
    return TweedieDensity(**FEW).fit(table)


@pytest.fixture(scope="session")
def of_people(frame):
    return TweedieDensity(**FEW).fit(frame)
