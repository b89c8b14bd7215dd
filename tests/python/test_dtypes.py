"""Rows come back with their dtypes whole, by every way that they come."""

from __future__ import annotations

import datetime as dt
import decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

DAY = dt.datetime(2024, 2, 29, 12, 30, 15, 123456)
COLUMNS = {
    "bool": pl.Series([True, None, False]),
    "i8": pl.Series([1, None, -3], dtype=pl.Int8),
    "u64": pl.Series([2**64 - 1, None, 0], dtype=pl.UInt64),
    "i128": pl.Series([2**100, None, -(2**100)], dtype=pl.Int128),
    "u128": pl.Series([2**127 + 1, None, 0], dtype=pl.UInt128),
    "f16": pl.Series([1.5, None, float("inf")], dtype=pl.Float16),
    "f32": pl.Series([1.5, None, float("nan")], dtype=pl.Float32),
    "dec": pl.Series([decimal.Decimal("1.50"), None, decimal.Decimal("-99999999999999999999.99")], dtype=pl.Decimal(38, 2)),
    "date": pl.Series([dt.date(2024, 2, 29), None, dt.date(1900, 1, 1)]),
    "time": pl.Series([dt.time(1, 2, 3, 4), None, dt.time(0)]),
    "ms": pl.Series([DAY, None, DAY], dtype=pl.Datetime("ms")),
    "zoned": pl.Series([DAY, None, DAY], dtype=pl.Datetime("ns")).dt.replace_time_zone("Europe/Amsterdam"),
    "span": pl.Series([dt.timedelta(1), None, dt.timedelta(microseconds=1)], dtype=pl.Duration("us")),
    "text": pl.Series(["a", None, "a text that is longer than twelve bytes: ä€𝄞"]),
    "bytes": pl.Series([b"\x00\xff", None, b""]),
    "enum": pl.Series(["b", None, "a"], dtype=pl.Enum(["a", "b", "never"])),
    "cat": pl.Series(["x", None, "y"], dtype=pl.Categorical),
    "list": pl.Series([[1, None], None, []], dtype=pl.List(pl.Int32)),
    "array": pl.Series([[1, 2], None, [3, None]], dtype=pl.Array(pl.Int8, 2)),
    "struct": pl.Series([{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}], dtype=pl.Struct({"a": pl.Int64, "b": pl.Enum(["x", "y"])})),
    "cats": pl.Series([["x", "y"], None, []], dtype=pl.List(pl.Categorical)),
    "deep": pl.Series([[{"c": ["x"]}], None, []], dtype=pl.List(pl.Struct({"c": pl.List(pl.Categorical)}))),
    "null": pl.Series([None, None, None], dtype=pl.Null),
}  # fmt: skip


def frame() -> pl.DataFrame:
    return pl.DataFrame([series.alias(name) for name, series in COLUMNS.items()])


@pytest.mark.parametrize("name", COLUMNS)
def test_each_dtype(ctx, name):
    want = frame().select(name)
    for got in (want.lazy().remote(ctx).collect(), want.lazy().remote(ctx).execute().lazy().collect(engine="in-memory")):
        assert got.schema == want.schema
        assert_frame_equal(got, want, categorical_as_str=True)


def come_back_whole(ctx) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """All dtypes at once through stages; gives the query and its rows, for other ways of reading them."""
    rows = pl.concat([frame().with_row_index("n")] * 50)
    lf = rows.lazy().with_columns(pl.int_range(pl.len()).alias("at")).sort("at", descending=True)
    want = lf.collect(engine="in-memory")
    got = lf.remote(ctx).distributed().collect()
    assert got.schema == want.schema
    assert_frame_equal(got, want, categorical_as_str=True)
    return lf, want


def test_all_at_once_over_stages(ctx):
    lf, want = come_back_whole(ctx)
    batched = pl.concat(list(lf.remote(ctx).distributed().collect_batches()))
    assert_frame_equal(batched, want, categorical_as_str=True)


def test_no_rows_and_no_columns(ctx):
    for want in (frame().clear(), pl.DataFrame()):
        assert_frame_equal(want.lazy().remote(ctx).collect(), want, categorical_as_str=True)


def test_odd_names(ctx):
    want = pl.DataFrame({"": [1], "a\n\"b'": [2], "ä€": [3], "__index": [4]})
    assert_frame_equal(want.lazy().remote(ctx).collect(), want)


def test_many_rows(ctx):
    lf = pl.LazyFrame({"a": range(700_000)}).with_columns(pl.col("a").cast(pl.String).alias("s"))
    want = lf.collect(engine="in-memory")
    assert_frame_equal(lf.remote(ctx).distributed().collect(), want)
    frames = list(lf.remote(ctx).distributed().collect_batches())
    assert len(frames) > 1
    assert_frame_equal(pl.concat(frames), want)


def test_a_large_plan_travels_as_a_file(ctx):
    import os

    want = pl.DataFrame({"s": ["x" * 50 + str(n) for n in range(150_000)]})
    scratch = ctx._running().scratch
    assert_frame_equal(want.lazy().remote(ctx).collect(), want)
    assert not [name for name in os.listdir(scratch) if name.startswith("plan-")]
