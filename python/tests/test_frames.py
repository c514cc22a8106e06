"""Frames of every kind go in, and come out as they were."""

import datetime
import decimal

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from conftest import FEW, people

from tweedie import TweedieDensity, _frames


def back(frame):
    rows, kind = _frames.to_rows(frame)
    return kind.frame(rows_of_engine(rows))


def rows_of_engine(rows):
    """The rows as the engine gives samples: in its own few types."""
    table = pa.table(rows)
    columns = []
    for column in table.columns:
        kind = column.type
        if pa.types.is_dictionary(kind):
            column = pa.chunked_array([pa.array(column.to_pylist(), pa.string())])
        elif pa.types.is_integer(kind):
            column = column.cast(pa.int64())
        elif pa.types.is_large_string(kind) or kind == pa.string_view():
            column = column.cast(pa.string())
        elif pa.types.is_timestamp(kind):
            column = column.cast(pa.timestamp("us"), safe=False)
        columns.append(column.combine_chunks())
    return _frames.Rows.from_arrow(pa.table(columns, names=table.column_names))


def test_pandas_comes_back():
    frame = people(50)
    frame["text"] = ["a", None] * 25
    frame["day"] = [datetime.date(2020, 1, 1 + k % 28) for k in range(50)]
    frame["zone"] = pd.Timestamp("2020-01-01", tz="Europe/Zurich") + pd.to_timedelta(range(50), unit="h")
    frame["short"] = np.arange(50, dtype=np.int16)
    frame["single"] = np.linspace(0, 1, 50, dtype=np.float32)
    frame["truth"] = pd.array([True, None] * 25, dtype="boolean")
    frame[7] = range(50)
    found = back(frame)
    pd.testing.assert_frame_equal(found, frame)


def test_polars_comes_back():
    frame = pl.DataFrame(
        {
            "n": pl.Series([1, 2, None], dtype=pl.Int32),
            "x": [0.5, None, 2.5],
            "c": pl.Series(["a", "b", None], dtype=pl.Categorical),
            "e": pl.Series(["u", "v", "u"], dtype=pl.Enum(["v", "u"])),
            "d": [datetime.date(2020, 1, 2), None, datetime.date(2021, 3, 4)],
            "t": [datetime.datetime(2020, 1, 2, 3, 4, 5), None, datetime.datetime(2021, 3, 4)],
            "b": [True, False, None],
        }
    )
    found = back(frame)
    assert found.schema == frame.schema
    assert found.equals(frame)


def test_pyarrow_comes_back():
    table = pa.table(
        {
            "n": pa.array([1, 2, None], pa.int16()),
            "x": pa.array([0.5, None, 2.5], pa.float32()),
            "c": pa.array(["a", "b", None]).dictionary_encode(),
            "d": pa.array([datetime.date(2020, 1, 2), None, datetime.date(2021, 3, 4)]),
        }
    )
    found = back(table)
    assert found.schema.equals(table.schema) and found.equals(table)


def test_arrays_are_columns_of_their_type():
    for dtype in (np.float64, np.float32, np.int64, np.int8, np.uint8, np.bool_):
        array = (np.arange(12).reshape(4, 3) % 2).astype(dtype)
        rows, kind = _frames.to_rows(array)
        assert rows.names == ["c1", "c2", "c3"] and len(rows) == 4
        found = kind.frame(rows_of_engine(rows))
        assert found.dtype == dtype
        np.testing.assert_array_equal(found, array)


def test_columns_of_objects_are_what_they_hold():
    frame = pd.DataFrame(
        {
            "whole": pd.Series([1, None, 3], dtype=object),
            "real": pd.Series([1, 2.5, None], dtype=object),
            "cents": [decimal.Decimal("1.25"), decimal.Decimal("2.50"), None],
            "both": [1, "a", None],
        }
    )
    rows, _ = _frames.to_rows(frame)
    kinds = [rows.column(k)[0] for k in range(4)]
    assert kinds == ["int64", "float64", "float64", "text"]
    assert rows.column(3)[1] == ["1", "a", None]


def test_models_of_frames_give_frames():
    frame = people(200).drop(columns="since")
    frame["city"] = frame["city"].astype(str)
    frame["visits"] = frame["visits"].astype("float64")
    of_polars = pl.from_pandas(frame)
    model = TweedieDensity(**FEW).fit(of_polars)
    assert model.sample(5).schema == of_polars.schema
    assert model.impute(of_polars).schema == of_polars.schema
    # the same rows, whatever frame they are in
    scores = model.score_samples(of_polars[:40])
    np.testing.assert_array_equal(scores, model.score_samples(of_polars[:40].to_arrow()))
    shuffled = of_polars[:40].select(of_polars.columns[::-1])
    np.testing.assert_array_equal(scores, model.score_samples(shuffled))


@pytest.mark.parametrize(
    "bad, error, words",
    [
        (np.zeros(5), ValueError, "2D"),
        (np.zeros((0, 3)), ValueError, "0 sample"),
        (np.zeros((3, 0)), ValueError, "0 feature"),
        (np.array([[1.0, np.inf], [2.0, 3.0]]), ValueError, "infinity: row 1, column `c2`"),
        (np.zeros((3, 2), dtype=complex), ValueError, "[Cc]omplex"),
        (pd.DataFrame({"a": [[1], [2]]}), TypeError, "column `a` holds a list"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), ValueError, "two columns are called `a`"),
        (pd.DataFrame({"a": []}), ValueError, "0 sample"),
        ("text", ValueError, "2D"),
    ],
)
def test_what_is_no_table_is_refused(bad, error, words):
    with pytest.raises(error, match=words):
        TweedieDensity(**FEW).fit(bad)


def test_a_frame_says_itself_what_is_missing():
    """The country code of Namibia is one."""
    codes = ["NA", "CH", None, "?"] * 20
    frame = pd.DataFrame({"country": codes, "x": np.arange(80) ** 1.5})
    model = TweedieDensity(**FEW).fit(frame)
    assert "3 values: " in model.run_.columns[0] and "NA" in model.run_.columns[0]
    filled = model.impute(frame)
    there = frame["country"].notna()
    assert (filled["country"][there] == frame["country"][there]).all()
    assert filled["country"].notna().all()
