"""How far work is, for people and for callbacks."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

#: What is said of work that goes on: a dictionary with ``kind`` (``"begin"``, ``"progress"``,
#: ``"figure"``, ``"end"`` or ``"remark"``) and what belongs to it.
Event = dict[str, Any]
Progress: TypeAlias = "bool | Callable[[Event], None]"


class Bar:
    """A bar by tqdm where that is installed, else nothing but remarks on standard error."""

    def __init__(self) -> None:
        try:
            from tqdm.auto import tqdm
        except ImportError:
            tqdm = None
        self._tqdm = tqdm
        self._bar: Any = None

    def __call__(self, event: Event) -> None:
        kind = event["kind"]
        if kind == "remark":
            write = self._bar.write if self._bar is not None else print
            write(event["text"], file=sys.stderr)
        elif kind == "begin":
            self.close()
            if self._tqdm is not None:
                self._bar = self._tqdm(total=event["of"], desc=event["what"])
        elif kind == "progress" and self._bar is not None:
            self._bar.update(event["done"] - self._bar.n)
        elif kind == "figure" and self._bar is not None:
            self._bar.set_postfix_str(event["text"], refresh=False)
        elif kind == "end":
            self.close()

    def close(self) -> None:
        """Ends the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _warn(event: Event) -> None:
    """Nobody watches: what is probably not what was meant is a warning all the same."""
    if event["kind"] == "remark" and event["level"] == "warning":
        warnings.warn(event["text"], UserWarning, stacklevel=2)


def callback(progress: Progress) -> Callable[[Event], None]:
    """Whom work tells how far it is."""
    if callable(progress):
        return progress
    return Bar() if progress else _warn
