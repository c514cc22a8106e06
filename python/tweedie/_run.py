"""A fitted density of any kind: a table's, or of images."""

from __future__ import annotations

import datetime
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import weakref
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from tweedie import _frames
from tweedie._loading import engine
from tweedie._progress import Progress, callback

PathLike: TypeAlias = "str | os.PathLike[str]"


def _json(options: Mapping[str, Any]) -> str:
    """Options of the library, none of those that are None."""
    given = {name: value for name, value in options.items() if value is not None}
    return json.dumps(given, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"{value!r} is no value of an option")


# Log-likelihoods of held-out rows, in the directory of a run that was saved.
_CALIBRATION = "calibration.json"


def _fingerprint(path: Path) -> int:
    """Of all that a run's scores depend on."""
    found = 0
    for file in sorted(path.glob("*.safetensors")):
        if "state" not in file.name:
            found = zlib.crc32(file.name.encode() + file.read_bytes(), found)
    return found


def _cell(value: Any) -> str:
    """A given value as a file has it."""
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _check_given(cells: Mapping[str, Any]) -> None:
    for name, value in cells.items():
        if _frames.is_missing(value):
            raise ValueError(f"given: `{name}` is missing: give a value, or leave it out")


class Run:
    """A run: a fitted model with its columns, in a directory of its own.

    Runs of ``tweedie train``, ``TweedieDensity`` and the library are the same. One is loaded with
    :meth:`load`, or is the ``run_`` of a fitted estimator. A run of a table takes and gives frames, a
    run of images arrays of bytes ``[n, H, W]``, or ``[n, H, W, 3]`` in colour.
    """

    def __init__(
        self,
        density: Any,
        *,
        device: str = "cpu",
        kind: Any = None,
        array_names: Sequence[str] | None = None,
    ) -> None:
        self._density = density
        # of the columns of an array: also of those that the training left out
        self._array_names = None if array_names is None else list(array_names)
        self._kind = _frames.default_kind() if kind is None else kind
        self._device = device
        self._process = os.getpid()
        self._scores: np.ndarray | None = None
        self._scored_by: dict[str, Any] = {}
        self._describe()

    def _describe(self) -> None:
        found = json.loads(self._density.describe())
        #: The run's directory; a temporary one as long as it is not saved.
        self.path = Path(found["path"])
        #: The names of the columns.
        self.names: list[str] = found["names"]
        #: What each column was found to be, a line each; empty of numbers alone and images.
        self.columns: list[str] = found["columns"] or []
        #: The complete configuration.
        self.config: dict[str, Any] = found["config"]
        #: How the training ended: steps, seconds, the best validation bound.
        self.status: dict[str, Any] | None = found["status"]
        #: What has to be known beside every figure of this run.
        self.remarks: list[str] = found["remarks"]
        #: The columns that the model is given.
        self.context: list[str] = found["context"]
        #: Channels, height and width, of images.
        self.image: tuple[int, int, int] | None = tuple(found["image"]) if found["image"] else None

    @classmethod
    def load(cls, path: PathLike, *, device: str = "cpu") -> Run:
        """The run in a directory.

        Args:
            path: the directory, as ``tweedie train --out`` or :meth:`save` wrote it.
            device: where to compute: ``"cpu"`` or ``"cuda:N"``.

        Raises:
            ValueError: if there is no run, or its files are damaged or of a newer version.
        """
        run = cls(engine.Density.load(os.fspath(path), device), device=device)
        kept = Path(path) / _CALIBRATION
        if kept.is_file():
            try:
                found = json.loads(kept.read_text())
                # of other parameters, as after more training, they are none of this run's
                if found["of"] == _fingerprint(Path(path)):
                    run._scores = np.asarray(found["scores"], dtype=np.float64)
                    run._scored_by = dict(found["scored_by"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{kept}: damaged ({error}); delete it and calibrate anew") from error
        return run

    def __repr__(self) -> str:
        what = f"images {self.image}" if self.image else f"{len(self.names)} columns"
        return f"<tweedie.Run of {what} in {str(self.path)!r}>"

    # --- rows ---

    def _here(self) -> Any:
        """The engine's density; in a forked process loaded anew."""
        if self._process != os.getpid():
            self._density = engine.Density.load(os.fspath(self.path), self._device)
            self._process = os.getpid()
        return self._density

    def _to_rows(self, X: Any) -> Any:
        if self.image:
            return _image_rows(X, self.image)
        return _frames.to_rows(X, self._array_names or self.names)[0]

    def _frame(self, rows: Any) -> Any:
        if self.image:
            levels = rows.levels()
            if levels is None:
                # latents of images are columns
                return _frames.ArrayKind().frame(rows)
            flat, shape, _ = levels
            images = flat.reshape(-1, *shape).transpose(0, 2, 3, 1)
            return images[..., 0] if shape[0] == 1 else images
        return self._kind.frame(rows)

    # --- log-likelihoods ---

    def score_samples(
        self,
        X: Any,
        *,
        return_std: bool = False,
        estimator: str = "elbo",
        steps: int | None = None,
        draws: int | None = None,
        given: Sequence[str] = (),
        seed: int = 0,
        progress: Progress = False,
        **options: Any,
    ) -> Any:
        """The log-likelihood of each row, in nats in the data's own units.

        Args:
            X: rows ``[n, d]``: a frame with the run's columns by name, or an array in their order.
            return_std: whether to return the standard errors over each row's own draws, too.
            estimator: ``"elbo"``, a lower bound by ``steps`` steps; ``"ode"``, the probability flow,
                an estimate; ``"one-step"``, a few evaluations; ``"bound"``.
            steps: steps of the ELBO, by default 100.
            draws: draws of each row, by default 4.
            given: columns that are given: the likelihood is of the others given these.
            seed: the seed of the draws.
            options: any other option of the library's ``ScoreOptions``, such as ``covariance``.

        Returns:
            An array ``[n]``, or two of them: ``-inf`` of a row so far out that no number is so small.
        """
        request = dict(estimator=estimator, steps=steps, draws=draws, given=list(given), seed=seed, **options)
        found = self._here().score(self._to_rows(X), _json(request), callback(progress))
        if return_std:
            return found["values"], found["std_errors"]
        return found["values"]

    def score(self, X: Any, y: Any = None, **options: Any) -> float:
        """The mean log-likelihood of the rows, in nats; of rows whose probability flow cannot be solved
        there is none, and they are left out. ``-inf`` where a row is so far out."""
        values = self.score_samples(X, **options)
        there = values[~np.isnan(values)]
        return float(there.mean()) if len(there) else float("nan")

    def calibrate(
        self,
        X: Any = None,
        *,
        rows: int = 2000,
        estimator: str = "elbo",
        seed: int = 0,
        progress: Progress = False,
        **options: Any,
    ) -> Run:
        """Takes log-likelihoods of held-out rows, for p-values of others (:meth:`held_out`).

        Args:
            X: rows that the run was not trained on, by default its validation rows, which are known
                as long as its training rows are where they were.
            rows: how many are scored at most, drawn at random.

        Raises:
            ValueError: if there are none.
        """
        how = dict(estimator=estimator, seed=seed, **options)
        given = None if X is None else self._to_rows(X)
        try:
            scores = self._here().calibration(given, rows, _json(how), callback(progress))
        except ValueError as error:
            if X is None:
                remedy = "call calibrate with rows that it was not trained on"
                raise ValueError(f"the held-out rows of the training are not at hand: {remedy}") from error
            raise
        self._scores, self._scored_by = scores, how
        return self

    def p_values(self, X: Any) -> np.ndarray:
        """How often a row of the same distribution scores no higher, scored as held-out rows were.

        A row that is exchangeable with the held-out rows has a p-value of at most α with a probability
        of at most α, whatever the model (split-conformal). The run's validation rows, which are taken
        where :meth:`calibrate` was not called, chose the parameters that it kept: their scores are a
        little higher for it.
        """
        held_out, scores = self.held_out(), self.score_as_held_out(X)
        below = np.searchsorted(held_out, scores, side="right")
        return np.where(np.isnan(scores), np.nan, (1 + below) / (1 + len(held_out)))

    def held_out(self) -> np.ndarray:
        """Log-likelihoods of rows that the run was not trained on, in rising order: those of
        :meth:`calibrate`, which is called where it was not."""
        if self._scores is None:
            self.calibrate()
        assert self._scores is not None
        return self._scores

    def score_as_held_out(self, X: Any) -> np.ndarray:
        """The log-likelihood of each row, computed as :meth:`held_out` has them."""
        self.held_out()
        return self.score_samples(X, **self._scored_by)

    # --- samples ---

    def sample(
        self,
        n: int = 1,
        *,
        given: Mapping[str, Any] | Any = None,
        draws: int = 1,
        steps: int | None = None,
        sampler: str | None = None,
        seed: int | None = 0,
        progress: Progress = False,
        **options: Any,
    ) -> Any:
        """Samples: a frame of ``n`` rows, or images.

        Args:
            n: how many.
            given: values of some columns, of a table that is not of numbers alone: the others are
                drawn given these. Or a frame of rows that have some of the columns; then there are
                ``draws`` samples of each, and ``n`` does not count.
            steps: steps of the sampler, by default 20.
            sampler: ``"ancestral"``, ``"ddim"``, ``"flow"`` and others, as ``tweedie sample --help``
                lists them.
            seed: the seed of the noise: the same samples on the same seed. None for others every time.
            options: any other option of the library's ``SampleOptions``.
        """
        if seed is None:
            seed = int.from_bytes(os.urandom(4), "little")
        request = _json(dict(steps=steps, sampler=sampler, seed=seed, **options))
        if given is None or isinstance(given, Mapping):
            _check_given(given or {})
            if given:
                self._check_mixed()
            if any(isinstance(value, (datetime.date, np.datetime64)) for value in (given or {}).values()):
                # as a frame has them, whatever their format in a file
                columns = {str(name): [value] * int(n) for name, value in (given or {}).items()}
                rows = _frames.rows_of_columns(columns)
                return self._frame(self._here().fill(rows, "{}", request, callback(progress)))
            cells = [(str(name), _cell(value)) for name, value in (given or {}).items()]
            return self._frame(self._here().sample(int(n), request, cells, callback(progress)))
        return self._fill(given, {"fill": "draw", "draws": draws}, request, progress)

    def impute(
        self,
        X: Any,
        *,
        fill: str = "draw",
        draws: int | None = None,
        interval: float | None = None,
        steps: int | None = None,
        seed: int = 0,
        progress: Progress = False,
        **options: Any,
    ) -> Any:
        """The rows with what is missing filled in, given what is there.

        Args:
            X: rows with missing cells, some of the columns or all. What is there comes back as it is,
                with the frame's index, its order of columns, and columns that the model does not know.
            fill: ``"draw"``, a draw given the rest of the row; ``"mean"`` or ``"median"`` of draws,
                of categories the most frequent.
            draws: draws of each row: by default 1, or 50 where they are summarised. With more than
                one each row comes so often, numbered in a column ``draw``.
            interval: the probability of an interval beside each mean or median, in columns
                ``NAME_low`` and ``NAME_high``.
        """
        request = _json(dict(steps=steps, seed=seed, **options))
        return self._fill(X, {"fill": fill, "draws": draws, "interval": interval}, request, progress)

    def _fill(self, X: Any, fill: Mapping[str, Any], request: str, progress: Progress) -> Any:
        self._check_mixed()
        rows, kind = _frames.to_rows(X, self._array_names or self.names)
        found = self._here().fill(rows, _json(fill), request, callback(progress))
        return kind.completed(X, kind.frame(found), found.names)

    def _check_mixed(self) -> None:
        if self.image or not self.columns:
            what = "images" if self.image else "numbers alone"
            remedy = 'a table is fitted to be with options={"data.types": "mixed"}'
            raise ValueError(f"the model is of {what}, and not of columns given others: {remedy}")

    def given(self, cells: Mapping[str, Any] | None = None, /, **more: Any) -> Given:
        """The distribution of the other columns given these: ``run.given(age=40).sample(100)``."""
        return Given(self, {**(cells or {}), **more})

    # --- latents ---

    def encode(self, X: Any, *, progress: Progress = False, **options: Any) -> np.ndarray:
        """Rows to latents ``[n, d]`` of the probability flow, standard normal for rows of the model's
        distribution; of numbers alone and images."""
        rows = self._to_rows(X)
        flat = self._here().encode(rows, _json(options), callback(progress))
        return flat.reshape(len(rows), -1)

    def decode(self, latents: Any, *, progress: Progress = False, **options: Any) -> Any:
        """Latents to rows: :meth:`encode` undone."""
        latents = np.ascontiguousarray(latents, dtype=np.float64)
        if latents.ndim != 2:
            raise ValueError(f"latents are [n, d], found {latents.ndim} dimensions")
        return self._frame(self._here().decode(latents, _json(options), callback(progress)))

    # --- judgement ---

    def evaluate(self, X: Any = None, *, progress: Progress = False, **options: Any) -> dict[str, Any]:
        """What is found of the run on test rows, as ``tweedie evaluate --json`` prints it.

        Args:
            X: test rows, by default those that the run kept.
            options: options of the library's ``EvaluateOptions``, such as ``metrics=["nll"]`` or
                ``steps=[20, 100]``.
        """
        rows = None if X is None else self._to_rows(X)
        return json.loads(self._here().evaluate(rows, _json(options), callback(progress)))

    def report(self, out: PathLike | None = None, X: Any = None, *, arguments: Sequence[str] = ()) -> Path:
        """Writes one self-contained HTML page about the run, by the program; its path.

        Args:
            out: the page, by default ``report.html`` in the working directory.
            X: test rows, by default those that the run kept.
            arguments: further arguments of ``tweedie report``, such as ``["--quality"]``.
        """
        page = Path("report.html" if out is None else out)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "run"
            self._here().save(os.fspath(copy))
            command = [sys.executable, "-m", "tweedie", "report", str(copy), "--quiet", *arguments]
            if X is not None:
                data = Path(folder) / "rows.arrow"
                self._to_rows(X).write(os.fspath(data))
                command += ["--data", str(data)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
                error = ValueError if done.returncode == 2 else RuntimeError
                raise error(lines[-1].removeprefix("error: "))
            shutil.copyfile(copy / "report.html", page)
        return page

    # --- keeping ---

    def save(self, path: PathLike) -> None:
        """Writes the run to a new directory, which must not hold one, and beside it the log-likelihoods
        of held-out rows (:meth:`held_out`) where they are known or the rows are, as :meth:`load` finds
        them.

        Raises:
            ValueError: if it is taken.
        """
        self._here().save(os.fspath(path))
        scores = self._known_scores()
        if scores is not None:
            of = _fingerprint(Path(path))
            kept = {"of": of, "scores": scores.tolist(), "scored_by": self._scored_by}
            (Path(path) / _CALIBRATION).write_text(json.dumps(kept))

    def _known_scores(self) -> np.ndarray | None:
        """What :meth:`held_out` has, unless the rows are gone."""
        try:
            return self._scores if self.image else self.held_out()
        except (ValueError, RuntimeError):
            return None

    def __getstate__(self) -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "run"
            self._here().save(os.fspath(path))
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                for file in sorted(path.rglob("*")):
                    if file.is_file():
                        archive.write(file, file.relative_to(path).as_posix())
        return {
            "run": packed.getvalue(),
            "device": self._device,
            "kind": self._kind,
            "array_names": self._array_names,
            # the rows do not go with it, and so their scores do
            "scores": self._known_scores(),
            "scored_by": self._scored_by,
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        folder = tempfile.mkdtemp(prefix="tweedie-")
        path = Path(folder) / "run"
        with zipfile.ZipFile(io.BytesIO(state["run"])) as archive:
            archive.extractall(path)
        density = engine.Density.load(os.fspath(path), state["device"])
        self.__init__(  # type: ignore[misc]
            density, device=state["device"], kind=state["kind"], array_names=state["array_names"]
        )
        self._scores, self._scored_by = state["scores"], state["scored_by"]
        # it goes with the run, and not with that of a forked process
        weakref.finalize(self, _remove, folder, os.getpid())


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)


class Given:
    """Columns given others: what :meth:`Run.given` returns."""

    def __init__(self, run: Run, cells: Mapping[str, Any]) -> None:
        self._run = run
        #: What is given.
        self.cells = dict(cells)

    def __repr__(self) -> str:
        return f"{self._run!r}.given({self.cells!r})"

    def sample(self, n: int = 1, **options: Any) -> Any:
        """``n`` rows in which these cells are given."""
        return self._run.sample(n, given=self.cells, **options)

    def score_samples(self, X: Any, **options: Any) -> Any:
        """The log-likelihood of each row's other columns given its own values of these."""
        return self._run.score_samples(X, given=list(self.cells), **options)


def _image_rows(X: Any, image: tuple[int, int, int]) -> Any:
    """Images of bytes as the engine has them, channels first."""
    array = np.asarray(X)
    channels, height, width = image
    if array.dtype != np.uint8:
        raise ValueError(f"images are arrays of bytes (uint8), found {array.dtype}")
    if array.shape[1:] == (height, width) and channels == 1:
        array = array[:, None]
    elif array.shape[1:] == (height, width, channels):
        array = array.transpose(0, 3, 1, 2)
    elif array.shape[1:] != (channels, height, width):
        shape = (height, width) if channels == 1 else (height, width, channels)
        raise ValueError(f"images are [n, {', '.join(map(str, shape))}], found {list(array.shape)}")
    return engine.Rows.images(np.ascontiguousarray(array))


def import_diffusers(model: Any, *, device: str = "cpu") -> Run:
    """The density that a model of diffusers is.

    Args:
        model: the folder of a pipeline or of a U-Net or DiT with its scheduler, or a pipeline object,
            which is written to a temporary folder first.
        device: where to compute.

    Raises:
        ValueError: if it is no model that can be computed here.
    """
    if isinstance(model, (str, os.PathLike)):
        return Run(engine.Density.import_diffusers(os.fspath(model), device), device=device)
    if not hasattr(model, "save_pretrained"):
        raise TypeError("give the folder of a model of diffusers, or a pipeline")
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        return Run(engine.Density.import_diffusers(folder, device), device=device)
