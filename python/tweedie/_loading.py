"""Loads the engine into the process, with the LibTorch of the installed torch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import sys

#: The torch whose LibTorch the engine was built for.
TORCH = "2.11"


def check_torch() -> None:
    """Refuses a torch of another minor version in one line.

    Raises:
        ImportError: if there is none, or another.
    """
    remedy = f'pip install "torch=={TORCH}.*"'
    if "torch" in sys.modules:
        found = sys.modules["torch"].__version__
    else:
        try:
            found = importlib.metadata.version("torch")
        except importlib.metadata.PackageNotFoundError:
            raise ImportError(f"tweedie needs torch {TORCH}, and there is none: {remedy}") from None
    if found.split(".")[:2] != TORCH.split("."):
        raise ImportError(f"tweedie needs torch {TORCH}, found {found}: {remedy}")


def let_threads_sleep() -> None:
    """Lets waiting threads of OpenMP sleep sooner, unless the user says how they wait.

    It is read when LibTorch is loaded; where torch is imported already it changes nothing.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


check_torch()
let_threads_sleep()

try:
    from tweedie import _engine
except ImportError as error:
    # the file of a torch that is damaged, or not beside the package
    spec = importlib.util.find_spec("torch")
    place = spec.origin if spec else "nowhere"
    raise ImportError(f"tweedie cannot load LibTorch {TORCH} of the torch at {place}: {error}") from error

engine = _engine
