"""Frames and arrays to columns and back, in the kind in which they came.

What speaks Arrow's C interface (polars, pyarrow and others) is handed over as it is. Of pandas and
NumPy columns are, each by its type, so that nothing else has to be installed.
"""

from __future__ import annotations

import datetime
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from tweedie._loading import engine

Rows = engine.Rows


def _module(frame: Any) -> str:
    return type(frame).__module__.split(".")[0]


def is_pandas(frame: Any) -> bool:
    """Whether it is a frame of pandas, which need not be installed."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(frame, pandas.DataFrame)


def has_names(frame: Any) -> bool:
    """Whether its columns have names, by which a model finds them."""
    return isinstance(frame, Rows) or is_pandas(frame) or hasattr(frame, "__arrow_c_stream__")


def array_names(d: int) -> list[str]:
    """The names that columns without names have, those of the program's NPY files."""
    return [f"c{k}" for k in range(1, d + 1)]


# --- in -------------------------------------------------------------------------------------------


def to_rows(frame: Any, names: Sequence[str] | None = None) -> tuple[Any, Kind]:
    """The rows of a frame or a 2-D array, and what to give back for it.

    ``names`` are the columns of the model, which an array without names has in this order.

    Raises:
        TypeError: for what is no table.
        ValueError: for a table without rows or columns, or with an infinite number.
    """
    if isinstance(frame, Rows):
        return frame, ArrowKind(None, "rows")
    if is_pandas(frame):
        if frame.shape[0] == 0 or frame.shape[1] == 0:
            raise ValueError(_empty(frame.shape))
        _check_names([str(name) for name in frame.columns])
        columns = [_pandas_column(str(name), frame.iloc[:, k]) for k, name in enumerate(frame.columns)]
        return Rows.from_columns(columns), PandasKind(frame)
    if hasattr(frame, "__arrow_c_stream__"):
        if _module(frame) in ("polars", "pandas") and type(frame).__name__ == "Series":
            raise ValueError(_one_dimension(1))
        rows = Rows.from_arrow(frame)
        _check_names(rows.names)
        if len(rows) == 0:
            raise ValueError(_empty((0, len(rows.names))))
        return rows, ArrowKind(frame, _module(frame))
    array = _array(frame)
    if names is None:
        names = array_names(array.shape[1])
    elif len(names) != array.shape[1]:
        found, expected = array.shape[1], len(names)
        raise ValueError(
            f"X has {found} features, but TweedieDensity is expecting {expected} features as input"
        )
    columns = [_array_column(name, array[:, k]) for k, name in enumerate(names)]
    return Rows.from_columns(columns), ArrayKind(array.dtype, names)


def _check_names(names: list[str]) -> None:
    repeated = [name for k, name in enumerate(names) if name in names[:k]]
    if repeated:
        raise ValueError(f"two columns are called `{repeated[0]}`: give each a name of its own")


def _one_dimension(ndim: int) -> str:
    remedy = "Reshape your data with array.reshape(-1, 1) if it has one column."
    return f"Expected 2D array, got {ndim}D array instead. {remedy}"


def _empty(shape: tuple[int, int]) -> str:
    if shape[0] == 0:
        return f"Found array with 0 sample(s) (shape={shape}) while a minimum of 1 is required."
    return f"Found array with 0 feature(s) (shape={shape}) while a minimum of 1 is required."


def _array(values: Any) -> np.ndarray:
    if hasattr(values, "tocsr") or hasattr(values, "todense"):
        raise TypeError("Sparse data was passed, but dense data is required: give X.toarray()")
    array = np.asarray(values)
    if np.iscomplexobj(array):
        raise ValueError("Complex data not supported")
    if array.ndim != 2:
        raise ValueError(_one_dimension(array.ndim))
    if 0 in array.shape:
        raise ValueError(_empty(array.shape))
    if array.dtype.kind not in "fiubOUS":
        raise TypeError(f"an array of {array.dtype} is no table of numbers or texts")
    return array


def _array_column(name: str, values: np.ndarray) -> tuple[str, str, Any, Any]:
    kind = values.dtype.kind
    if kind == "f":
        return _float_column(name, values)
    if kind in "iu":
        return _whole_column(name, values, None)
    if kind == "b":
        return name, "bool", np.ascontiguousarray(values), None
    return _object_column(name, list(values))


def _float_column(name: str, values: np.ndarray) -> tuple[str, str, Any, Any]:
    if np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise ValueError(f"Input X contains infinity: row {row + 1}, column `{name}`")
    to = np.float32 if values.dtype.itemsize <= 4 else np.float64
    missing = np.isnan(values)
    return name, np.dtype(to).name, np.ascontiguousarray(values, dtype=to), missing if missing.any() else None


#: Whole numbers beyond this are not all held by a double: they are codes, and no measurements.
_EXACT = 2**53


def _whole_column(name: str, values: np.ndarray, missing: Any) -> tuple[str, str, Any, Any]:
    if len(values) and (int(values.max()) > _EXACT or int(values.min()) < -_EXACT):
        there = np.zeros(len(values), dtype=bool) if missing is None else missing
        return name, "text", [None if hole else str(v) for v, hole in zip(values, there)], None
    whole = np.uint64 if values.dtype == np.uint64 else np.int64
    return name, np.dtype(whole).name, np.ascontiguousarray(values, dtype=whole), missing


def is_missing(value: Any) -> bool:
    if value is None:
        return True
    try:
        # NaN, NaT and pandas' NA
        return bool(value != value)
    except (TypeError, ValueError):
        return type(value).__name__ == "NAType"


def _object_column(name: str, values: list[Any]) -> tuple[str, str, Any, Any]:
    """A column of Python's own values: of one type they are of that, else texts."""
    missing = np.array([is_missing(value) for value in values])
    there = [value for value, hole in zip(values, missing) if not hole]

    def filled(empty: Any, of: Any = lambda value: value) -> list[Any]:
        return [empty if hole else of(value) for value, hole in zip(values, missing)]

    if any(isinstance(value, (dict, list, tuple, set, np.ndarray)) for value in there):
        kind = type(next(v for v in there if isinstance(v, (dict, list, tuple, set, np.ndarray)))).__name__
        raise TypeError(f"argument must be a string or a number: column `{name}` holds a {kind}")
    if there and all(isinstance(value, (bool, np.bool_)) for value in there):
        return name, "bool", np.array(filled(False), dtype=bool), missing
    numbers = (int, float, np.integer, np.floating)
    if there and all(isinstance(v, numbers) and not isinstance(v, (bool, np.bool_)) for v in there):
        if all(isinstance(value, (int, np.integer)) for value in there):
            if all(abs(int(value)) <= _EXACT for value in there):
                return name, "int64", np.array(filled(0), dtype=np.int64), missing
            return name, "text", filled(None, str), None
        column = _float_column(name, np.array(filled(np.nan, float), dtype=np.float64))
        return column
    if there and all(isinstance(value, datetime.datetime) for value in there):
        if any(value.tzinfo is not None for value in there):
            epoch = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
            kind = "time_utc"
        else:
            epoch, kind = datetime.datetime(1970, 1, 1), "time"
        step = datetime.timedelta(microseconds=1)
        return name, kind, np.array(filled(0, lambda v: (v - epoch) // step), dtype=np.int64), missing
    if there and all(isinstance(value, datetime.date) for value in there):
        first = datetime.date(1970, 1, 1)
        return name, "date", np.array(filled(0, lambda v: (v - first).days), dtype=np.int32), missing
    if there and all(type(value).__name__ == "Decimal" for value in there):
        return _float_column(name, np.array(filled(np.nan, float), dtype=np.float64))
    return name, "text", filled(None, str), None


def rows_of_columns(columns: dict[str, list[Any]]) -> Any:
    """The rows of columns of Python's own values."""
    return Rows.from_columns([_object_column(name, values) for name, values in columns.items()])


def _pandas_column(name: str, series: Any) -> tuple[str, str, Any, Any]:
    import pandas as pd

    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        codes = np.ascontiguousarray(series.cat.codes, dtype=np.int32)
        return name, "category", codes, [str(category) for category in dtype.categories]
    if isinstance(dtype, pd.DatetimeTZDtype):
        series, kind = series.dt.tz_convert("UTC").dt.tz_localize(None), "time_utc"
        return name, kind, *_micros(series)
    missing = series.isna().to_numpy(dtype=bool)
    some = missing if missing.any() else None
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return name, "time", *_micros(series)
    if pd.api.types.is_timedelta64_dtype(dtype):
        seconds = series.dt.total_seconds().to_numpy(dtype=np.float64)
        return _float_column(name, seconds)
    if pd.api.types.is_bool_dtype(dtype):
        return name, "bool", series.fillna(False).to_numpy(dtype=bool), some
    if pd.api.types.is_integer_dtype(dtype):
        filled = series.fillna(0) if some is not None else series
        whole = np.uint64 if str(dtype).lower().startswith("uint64") else np.int64
        return _whole_column(name, filled.to_numpy(dtype=whole), some)
    if pd.api.types.is_float_dtype(dtype):
        size = np.float32 if str(dtype).lower().startswith(("float32", "float16")) else np.float64
        return _float_column(name, series.to_numpy(dtype=size, na_value=np.nan))
    if pd.api.types.is_complex_dtype(dtype):
        raise ValueError(f"Complex data not supported: column `{name}`")
    return _object_column(name, list(series))


def _micros(series: Any) -> tuple[np.ndarray, Any]:
    missing = series.isna().to_numpy(dtype=bool)
    micros = series.to_numpy(dtype="datetime64[us]").astype(np.int64)
    return np.where(missing, 0, micros), missing if missing.any() else None


# --- out ------------------------------------------------------------------------------------------


def _within(dtype: Any) -> tuple[int, int]:
    """The least and the greatest number that a type of whole numbers holds."""
    range_ = np.iinfo(dtype)
    return int(range_.min), int(range_.max)


class Kind:
    """The kind of frame that rows came in, so that rows go back as the same."""

    def frame(self, rows: Any) -> Any:
        """The rows as such a frame; columns that it does not know are as they are."""
        raise NotImplementedError

    def completed(self, given: Any, filled: Any, names: Sequence[str]) -> Any:
        """``filled``, with columns ``names``, in which each row of ``given`` comes as often as it was
        drawn: cells that were there are as they were, and columns stand in their order, those that
        were added last."""
        return filled


class ArrayKind(Kind):
    """NumPy's arrays."""

    def __init__(self, dtype: Any = np.float64, names: Sequence[str] = ()) -> None:
        self.dtype = np.dtype(dtype)
        self.names = list(names)

    def frame(self, rows: Any) -> np.ndarray:
        columns = []
        for k in range(len(rows.names)):
            kind, values, missing = rows.column(k)
            if kind == "text":
                values = np.array(values, dtype=object)
            elif missing is not None:
                values = np.where(missing, np.nan, values.astype(np.float64))
            columns.append(values)
        if any(column.dtype == object for column in columns):
            return np.column_stack([column.astype(object) for column in columns])
        stacked = np.column_stack(columns)
        holes = stacked.dtype.kind == "f" and np.isnan(stacked).any()
        if self.dtype.kind in "iu" and not holes:
            return np.rint(stacked).clip(*_within(self.dtype)).astype(self.dtype)
        if self.dtype.kind == "b" and not holes:
            return stacked.astype(bool)
        return stacked.astype(self.dtype) if self.dtype.kind == "f" else stacked

    def completed(self, given: Any, filled: Any, names: Sequence[str]) -> Any:
        array = np.asarray(given)
        rows = np.repeat(array, len(filled) // len(array), axis=0)
        columns = []
        for k, name in enumerate(self.names):
            own = rows[:, k]
            if name in names:
                holes = np.array([is_missing(value) for value in own])
                own = np.where(holes, filled[:, list(names).index(name)], own)
            columns.append(own)
        columns += [filled[:, k] for k, name in enumerate(names) if name not in self.names]
        return np.column_stack(columns)


class PandasKind(Kind):
    """Frames of pandas."""

    def __init__(self, frame: Any = None) -> None:
        columns = [] if frame is None else list(frame.columns)
        self.labels = {str(name): name for name in columns}
        self.dtypes = {str(name): frame.dtypes.iloc[k] for k, name in enumerate(columns)}
        self.dates = {
            str(name)
            for k, name in enumerate(columns)
            if frame.dtypes.iloc[k].kind == "O" and _holds_dates(frame.iloc[:, k])
        }

    def frame(self, rows: Any) -> Any:
        import pandas as pd

        columns = {}
        for k, name in enumerate(rows.names):
            columns[self.labels.get(name, name)] = self._series(pd, name, *rows.column(k))
        return pd.DataFrame(columns)

    def completed(self, given: Any, filled: Any, names: Sequence[str]) -> Any:
        import pandas as pd

        rows = given.iloc[np.repeat(np.arange(len(given)), len(filled) // len(given))]
        filled.index = rows.index
        columns = {}
        for name in rows.columns:
            if name not in filled.columns:
                columns[name] = rows[name]
                continue
            own, found = rows[name], filled[name]
            holes = own.isna().to_numpy(dtype=bool)
            # of one type they are put together as such, else as they are
            both = own.copy() if own.dtype == found.dtype else own.astype(object)
            if holes.any():
                both[holes] = found[holes]
            columns[name] = both if own.dtype == found.dtype else both.infer_objects()
        columns.update({name: filled[name] for name in filled.columns if name not in columns})
        return pd.DataFrame(columns, index=rows.index)

    def _series(self, pd: Any, name: str, kind: str, values: Any, missing: Any) -> Any:
        dtype = self.dtypes.get(name)
        if kind == "date":
            series = pd.Series(values.astype("datetime64[D]").astype("datetime64[s]"))
        elif kind == "time":
            series = pd.Series(values.astype("datetime64[us]"))
        elif kind == "text":
            series = pd.Series(values, dtype=object)
        else:
            series = pd.Series(values)
        if missing is not None:
            if kind == "int64":
                series = series.astype("Int64")
            elif kind == "bool":
                series = series.astype("boolean")
            series = series.mask(missing)
        if dtype is None:
            return series
        if isinstance(dtype, pd.CategoricalDtype):
            known = {str(category): category for category in dtype.categories}
            back = [None if is_missing(value) else known.get(str(value)) for value in series]
            return pd.Series(pd.Categorical(back, dtype=dtype))
        if isinstance(dtype, pd.DatetimeTZDtype):
            return series.dt.tz_localize("UTC").dt.tz_convert(dtype.tz).astype(dtype)
        if name in self.dates:
            return series.dt.date.astype(object).where(series.notna(), None)
        if pd.api.types.is_timedelta64_dtype(dtype):
            return pd.to_timedelta(series, unit="s").astype(dtype)
        if series.isna().any() and isinstance(dtype, np.dtype) and dtype.kind in "iub":
            return series
        if pd.api.types.is_integer_dtype(dtype) and kind in ("float64", "float32", "int64"):
            series = series.round().clip(*_within(getattr(dtype, "numpy_dtype", dtype)))
        try:
            return series.astype(dtype)
        except (TypeError, ValueError):
            return series


def _holds_dates(series: Any) -> bool:
    there = [value for value in series if not is_missing(value)]
    return bool(there) and all(
        isinstance(value, datetime.date) and not isinstance(value, datetime.datetime) for value in there
    )


class ArrowKind(Kind):
    """Frames of polars, tables of pyarrow, and whatever else speaks Arrow's C interface."""

    def __init__(self, frame: Any, module: str) -> None:
        self.module = module
        self.schema: Any = getattr(frame, "schema", None)

    def frame(self, rows: Any) -> Any:
        if self.module == "polars":
            import polars as pl

            found = pl.DataFrame(rows)
            casts = {name: dtype for name, dtype in self.schema.items() if name in found.columns}
            whole = [name for name, dtype in casts.items() if dtype.is_integer()]
            held = [
                pl.col(name).clip(*_within(str(casts[name]).lower())).alias(name)
                for name in whole
                if found.schema[name].is_numeric()
            ]
            return found.with_columns(held).cast(casts, strict=False)
        if self.module == "rows":
            return rows
        import pyarrow as pa
        import pyarrow.compute as pc

        table = pa.table(rows)
        if self.module != "pyarrow" or self.schema is None:
            return table
        for k, name in enumerate(table.column_names):
            if name not in self.schema.names:
                continue
            to = self.schema.field(name).type
            column = table.column(k)
            if pa.types.is_dictionary(to):
                column = column.cast(to.value_type).dictionary_encode()
            elif not column.type.equals(to):
                if pa.types.is_integer(to) and not pa.types.is_string(column.type):
                    low, high = _within(to.to_pandas_dtype())
                    column = pc.max_element_wise(
                        pc.min_element_wise(column, high, skip_nulls=False), low, skip_nulls=False
                    )
                column = column.cast(to, safe=False)
            table = table.set_column(k, name, column)
        return table

    def completed(self, given: Any, filled: Any, names: Sequence[str]) -> Any:
        times = len(filled) // max(len(given), 1) if hasattr(given, "__len__") else 0
        if self.module == "polars" and times:
            import polars as pl

            rows = given.select(pl.all().repeat_by(times).explode()) if times > 1 else given
            both = {
                name: pl.select(pl.coalesce(rows[name], filled[name])).to_series()
                if name in filled.columns
                else rows[name]
                for name in rows.columns
            }
            added = {name: filled[name] for name in filled.columns if name not in both}
            return pl.DataFrame({**both, **added})
        if self.module == "pyarrow" and times:
            import pyarrow as pa
            import pyarrow.compute as pc

            rows = given.take(pa.array(np.repeat(np.arange(len(given)), times)))
            columns = {}
            for name in rows.column_names:
                own = rows[name]
                if name in filled.column_names and not pa.types.is_dictionary(own.type):
                    own = pc.coalesce(own, filled[name])
                elif name in filled.column_names:
                    own = filled[name]
                columns[name] = own
            columns.update({n: filled[n] for n in filled.column_names if n not in columns})
            return pa.table(columns)
        return filled


def default_kind() -> Kind:
    """What a loaded run gives: frames of pandas where it is installed, else arrays."""
    try:
        import pandas  # noqa: F401
    except ImportError:
        return ArrayKind()
    return PandasKind()
