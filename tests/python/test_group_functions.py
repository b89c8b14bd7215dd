"""Functions of groups: many groups go to one call, and what comes back is what Polars gives with a call for each."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.python.test_dtypes import frame

GROUPS = 2_500


def rows() -> pl.LazyFrame:
    n = pl.int_range(GROUPS * 4, eager=True)
    return pl.LazyFrame({"k": n * 7 % GROUPS, "n": n, "x": n / 3, "maybe": [None if at % 5 == 0 else at for at in n]})


def first(series: pl.Series) -> pl.Series:
    return series.head(1)


def span(series: pl.Series):
    return series.max() - series.min()


def sometimes_none(series: pl.Series) -> pl.Series:
    return series.filter(series % 3 == 0)


AGGREGATIONS = {
    "a value": lambda: pl.col("x").map_batches(span, return_dtype=pl.Float64, returns_scalar=True),
    "a value of a type that is found": lambda: pl.col("n").map_batches(first, returns_scalar=True),
    "a value, or none": lambda: pl.col("n").map_batches(
        lambda s: s.filter(s > GROUPS * 3).head(1), return_dtype=pl.Int64, returns_scalar=True
    ),
    "lists": lambda: pl.col("n").map_batches(lambda s: s.reverse(), return_dtype=pl.Int64),
    "lists of a type that is found": lambda: pl.col("n").map_batches(lambda s: s * 1.5),
    "lists of any length": lambda: pl.col("n").map_batches(sometimes_none, return_dtype=pl.Int64),
    "lists of no rows": lambda: pl.col("n").map_batches(lambda s: s.clear(), return_dtype=pl.Int64),
    "the name": lambda: pl.col("n").map_batches(lambda s: pl.Series([s.name]), return_dtype=pl.String, returns_scalar=True),
    "another name": lambda: pl.col("n").map_batches(first, return_dtype=pl.Int64, returns_scalar=True).alias("one"),
    "its own type": lambda: pl.col("x").map_batches(first, return_dtype=pl.self_dtype(), returns_scalar=True),
    "of an expression": lambda: (pl.col("n") + pl.col("x") * 2).map_batches(span, return_dtype=pl.Float64, returns_scalar=True),
    "of a cast": lambda: pl.col("n").cast(pl.String).map_batches(first, return_dtype=pl.String, returns_scalar=True),
    "of some rows": lambda: pl.col("n").filter(pl.col("n") % 4 == 1).map_batches(lambda s: pl.Series([len(s)]), return_dtype=pl.Int64, returns_scalar=True),
    "of sorted rows": lambda: pl.col("n").sort_by("x", descending=True).map_batches(first, return_dtype=pl.Int64, returns_scalar=True),
    "of an aggregation": lambda: pl.col("n").sum().map_batches(lambda s: s * len(s), return_dtype=pl.Int64, returns_scalar=True),
    "of nulls": lambda: pl.col("maybe").map_batches(lambda s: pl.Series([s.null_count()]), return_dtype=pl.Int64, returns_scalar=True),
    "two columns": lambda: pl.map_groups(["n", "x"], lambda s: s[0] * s[1], return_dtype=pl.Float64),
    "two columns to a value": lambda: pl.map_groups(
        ["n", pl.col("x").alias("y")], lambda s: pl.Series([f"{s[0].name}{s[1].name}{len(s[1])}"]), return_dtype=pl.String, returns_scalar=True
    ),
    "two columns of other lengths": lambda: pl.map_groups(
        ["n", pl.col("x").filter(pl.col("x") > 100)], lambda s: pl.Series([len(s[0]) * 10 + len(s[1])]), return_dtype=pl.Int64, returns_scalar=True
    ),
    "a column and a literal": lambda: pl.map_groups(["n", pl.lit(3)], lambda s: s[0] + s[1], return_dtype=pl.Int64),
    "then summed": lambda: pl.col("n").map_batches(lambda s: s * 2, return_dtype=pl.Int64).sum(),
    "for each element": lambda: pl.col("n").map_elements(lambda v: v + 1, return_dtype=pl.Int64),
    "NumPy": lambda: pl.col("x").map_batches(__import__("numpy").cumsum, return_dtype=pl.Float64),
}  # fmt: skip


@pytest.mark.parametrize("name", AGGREGATIONS)
def test_the_same_as_a_call_for_each_group(three, name):
    grouped = rows().group_by("k").agg(AGGREGATIONS[name]()).sort("k")
    assert_frame_equal(grouped.remote(three).distributed().collect(), grouped.collect(engine="in-memory"))


def test_several_beside_others(three):
    aggregations = [pl.len(), *(make().alias(name) for name, make in AGGREGATIONS.items()), pl.col("x").max().alias("last")]
    for query in (
        rows().group_by("k").agg(aggregations).sort("k"),
        rows().group_by((pl.col("k") % 3).alias("key"), maintain_order=True).agg(aggregations),
        rows().head(50).group_by("k", maintain_order=True).agg(aggregations).select("last", "a value", "k"),
    ):
        assert_frame_equal(query.remote(three).distributed().collect(), query.collect(engine="in-memory"))


def test_no_groups(three):
    # Polars calls each function with no rows then, which not all of them can take.
    able = [make().alias(name) for name, make in AGGREGATIONS.items() if name not in ("a value", "of an expression", "NumPy")]
    query = rows().filter(pl.col("k") < 0).group_by("k").agg(able)
    assert_frame_equal(query.remote(three).distributed().collect(), query.collect(engine="in-memory"))


def test_each_dtype_in_groups(three):
    lf = pl.concat([frame().with_columns(pl.lit(at).alias("__k")) for at in range(5)]).lazy()
    dtypes = {name: dtype for name, dtype in lf.collect_schema().items() if name != "__k"}
    by_kind = {
        "lists": [pl.col(name).map_batches(lambda s: s.reverse(), return_dtype=dtype) for name, dtype in dtypes.items()],
        "values": [
            pl.col(name).map_batches(lambda s: s.tail(1), return_dtype=dtype, returns_scalar=True)
            for name, dtype in dtypes.items()
        ],
        "none": [pl.col(name).map_batches(lambda s: s.clear(), return_dtype=dtype) for name, dtype in dtypes.items()],
        "none as values": [
            pl.col(name).map_batches(lambda s: s.clear(), return_dtype=dtype, returns_scalar=True)
            for name, dtype in dtypes.items()
        ],
    }
    for kind, aggregations in by_kind.items():
        query = lf.group_by("__k").agg(aggregations).sort("__k")
        want = query.collect(engine="in-memory")
        got = query.remote(three).distributed().collect()
        assert got.schema == want.schema, kind
        assert_frame_equal(got, want, categorical_as_str=True)


def test_frames_of_many_groups(three):
    def shaped(group: pl.DataFrame) -> pl.DataFrame:
        return group.select("k", "n", (pl.col("x") - pl.col("x").mean()).alias("away")).head(group["k"][0] % 4)

    query = rows().group_by("k").map_groups(shaped, schema={"k": pl.Int64, "n": pl.Int64, "away": pl.Float64}).sort("n")
    assert_frame_equal(query.remote(three).distributed().collect(), query.collect(engine="in-memory"))


def ordered() -> pl.LazyFrame:
    return pl.LazyFrame({"at": [at * 3 - at % 3 for at in range(200)], "k": [at * 7 % 3 for at in range(200)], "x": range(200)})


def shown(window: pl.DataFrame) -> pl.DataFrame:
    """All that there is to see of a window: its rows."""
    return window.select(
        pl.col("at").min().alias("from"),
        pl.col("at").max().alias("to"),
        pl.col("k").first(),
        pl.col("x").sum(),
        n=pl.len(),
    )


SHOWN = {"from": pl.Int64, "to": pl.Int64, "k": pl.Int64, "x": pl.Int64, "n": pl.UInt32}
CLOSED = ("left", "right", "both", "none")
WINDOWS = {
    **{
        f"every 10, {closed}, {label}": lambda lf, by, closed=closed, label=label: lf.group_by_dynamic(
            "at", every="10i", period="25i", closed=closed, label=label, group_by=by
        )
        for closed in CLOSED
        for label in ("left", "right", "datapoint")
    },
    "with gaps and an offset": lambda lf, by: lf.group_by_dynamic("at", every="50i", period="7i", offset="3i", group_by=by),
    "with bounds": lambda lf, by: lf.group_by_dynamic("at", every="20i", include_boundaries=True, group_by=by),
    "by the first row": lambda lf, by: lf.group_by_dynamic("at", every="20i", start_by="datapoint", group_by=by),
    **{f"rolling, {closed}": lambda lf, by, closed=closed: lf.rolling("at", period="12i", closed=closed, group_by=by) for closed in CLOSED},
    "rolling ahead": lambda lf, by: lf.rolling("at", period="12i", offset="0i", group_by=by),
}  # fmt: skip


@pytest.mark.parametrize("name", WINDOWS)
def test_frames_of_windows(three, name):
    for by in (None, "k", ["k", (pl.col("x") % 2).alias("odd")]):
        query = WINDOWS[name](ordered(), by).map_groups(shown, schema=SHOWN)
        want = query.collect(engine="in-memory")
        got = query.remote(three).distributed().collect()
        # Polars promises an order without keys only.
        order = [] if by is None else list(SHOWN)
        assert_frame_equal(got.sort(order) if order else got, want.sort(order) if order else want)
        assert_frame_equal(query.remote(three).single_node().collect(), want)


def test_frames_of_windows_of_time(three):
    times = ordered().with_columns(at=pl.datetime(2024, 1, 30) + pl.duration(hours=pl.col("at")))
    schema = {"at": pl.Datetime("us"), "n": pl.UInt32}
    for windows in (
        times.group_by_dynamic("at", every="1mo", group_by="k"),
        times.group_by_dynamic("at", every="1d", closed="right"),
        times.rolling("at", period="2d", group_by="k"),
    ):
        query = windows.map_groups(lambda df: df.select(pl.col("at").max(), n=pl.len()), schema=schema)
        want = query.sort("at", "n").collect(engine="in-memory")
        assert_frame_equal(query.sort("at", "n").remote(three).distributed().collect(), want)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda s: s, "expected scalar"),
        (lambda s: pl.Series(["text"]), "expected output type"),
        (lambda s: s.nothing(), "nothing"),
    ],
)
def test_wrong_values_are_errors_alike(three, function, words):
    query = rows().group_by("k").agg(pl.col("n").map_batches(function, return_dtype=pl.Int64, returns_scalar=True))
    with pytest.raises(Exception, match=words) as theirs:
        query.collect(engine="in-memory")
    with pytest.raises(type(theirs.value), match=words):
        query.remote(three).distributed().collect()


def test_one_group_that_fails_fails_the_query(three):
    def fails(series: pl.Series) -> pl.Series:
        if series.min() == GROUPS - 1:
            raise ValueError(f"the group of {series.min()}")
        return series.head(1)

    query = rows().group_by("k").agg(pl.col("n").map_batches(fails, return_dtype=pl.Int64, returns_scalar=True))
    with pytest.raises(ValueError, match=f"the group of {GROUPS - 1}"):
        query.remote(three).distributed().collect()
