"""SQL that Polars 2.x keeps in a plan, together with Python functions, and over files or nothing."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import PlanError
from tests.python.conftest import pluggable
from tests.python.test_sql import KEEPS_SQL

pytestmark = pytest.mark.skipif(not KEEPS_SQL, reason="this version of Polars resolves SQL itself")


def rows() -> pl.LazyFrame:
    return pl.LazyFrame({"k": [at % 5 for at in range(50)], "n": range(50)})


def doubled(of: str) -> pl.Expr:
    return pl.col(of).map_elements(lambda value: value * 2, return_dtype=pl.Int64)


def plus(of: str) -> pl.Expr:
    return pl.col(of).map_elements(lambda value: value + 1, return_dtype=pl.Int64)


def execute(text: str, **tables: pl.LazyFrame) -> pl.LazyFrame:
    return pl.SQLContext(tables, eager=False).execute(text)


BOTH = "select a.k, a.n, b.n as m from a join b on a.n = b.n order by a.n, a.k"
QUERIES = {
    "above SQL": lambda: execute("select k, n from t where n % 2 = 0", t=rows()).with_columns(doubled("n").alias("m")),
    "below SQL": lambda: execute("select k, sum(n) as s from t group by k order by k", t=rows().with_columns(doubled("n"))),
    "in the first table": lambda: execute(BOTH, a=rows().with_columns(doubled("k")), b=rows()),
    "in the second table": lambda: execute(BOTH, a=rows(), b=rows().with_columns(doubled("n"))),
    "in both tables": lambda: execute(BOTH, a=rows().with_columns(plus("n")), b=rows().with_columns(doubled("n"))),
    "above, below and between": lambda: execute(
        "select k, n from inside where k > 1 order by n",
        inside=execute("select * from t", t=rows().with_columns(doubled("n"))).with_columns(plus("n")),
    ).with_columns(plus("k")),
    "in groups": lambda: (
        execute("select * from t", t=rows())
        .group_by("k")
        .agg(pl.col("n").map_batches(lambda s: s.max() - s.min(), return_dtype=pl.Int64, returns_scalar=True))
        .sort("k")
    ),
    "of frames": lambda: execute("select k from t order by k", t=rows().map_batches(lambda df: df.head(3))),
    "a table that is shared": lambda: execute(
        "select count(*) as c from a join b on a.n = b.n", **dict.fromkeys("ab", rows().with_columns(doubled("n")))
    ),
}


@pytest.mark.parametrize("name", QUERIES)
def test_functions_around_sql(ctx, name):
    query = QUERIES[name]()
    want = query.collect(engine="in-memory")
    assert_frame_equal(query.remote(ctx).collect(), want)
    assert_frame_equal(query.remote(ctx).distributed().collect(), want)


def test_a_text_over_files(ctx, tmp_path):
    frame = rows().collect()
    frame.write_parquet(tmp_path / "t.parquet")
    frame.write_csv(tmp_path / "t.csv")
    frame.write_ndjson(tmp_path / "t.ndjson")
    for function, file in [("read_parquet", "t.parquet"), ("read_csv", "t.csv"), ("read_ndjson", "t.ndjson")]:
        query = pl.sql(f"select k, sum(n) as s from {function}('{tmp_path}/{file}') group by k order by k", eager=False)
        want = frame.group_by("k").agg(pl.col("n").sum().alias("s")).sort("k")
        assert_frame_equal(query.remote(ctx).collect(), want)
        assert_frame_equal(query.remote(ctx).distributed().collect(), want)


def test_files_beside_tables_and_functions(ctx, tmp_path):
    rows().collect().write_parquet(tmp_path / "t.parquet")
    text = f"select a.n, b.k from a join read_parquet('{tmp_path}/t.parquet') b on a.n = b.n order by a.n"
    query = execute(text, a=rows().with_columns(doubled("n"))).with_columns(plus("k"))
    assert_frame_equal(query.remote(ctx).collect(), query.collect(engine="in-memory"))


def test_a_file_that_is_not_there_is_told_at_its_place(ctx, tmp_path):
    query = pl.sql(f"select * from read_parquet('{tmp_path}/nothing.parquet')", eager=False)
    with pytest.raises(FileNotFoundError, match="nothing.parquet"):
        query.remote(ctx).collect()


def test_a_text_over_nothing(ctx):
    query = pl.sql("select 1 as a, 'x' as b", eager=False)
    assert query.remote(ctx).collect().rows() == [(1, "x")]
    assert query.with_columns(plus("a")).remote(ctx).distributed().collect().rows() == [(2, "x")]
    # Beside one over a table: each has its place in the plan.
    beside = pl.concat([query.select(n=pl.col("a").cast(pl.Int64)), execute("select n from t where n > 47", t=rows())])
    assert sorted(beside.remote(ctx).collect()["n"]) == [1, 48, 49]


#: Every way in which Polars takes SQL; `t` is a table with the columns k and n, `few` a frame of some of its rows.
WAYS = {
    "lf.sql": lambda t, few: t.sql("select k, sum(n) as s from self group by k order by k"),
    "lf.sql with a name": lambda t, few: t.sql("select k, max(n) as m from it where n > 3 group by k order by k", table_name="it"),
    "df.sql of a lazy frame": lambda t, few: few.lazy().sql("select n, k from self order by n desc limit 3"),
    "df.sql, which is run at once": lambda t, few: pl.concat([t, few.sql("select k, n from self where k = 1").lazy()]).sort("n", "k"),
    "pl.sql": lambda t, few: pl.sql("select t.k, count(*) as c from t join few on t.n = few.n group by t.k order by t.k", eager=False),
    "one of pl.sql_expr": lambda t, few: t.select("k", pl.sql_expr("n * 2 as v")).sort("v"),
    "several of pl.sql_expr": lambda t, few: t.group_by("k").agg(pl.sql_expr(["sum(n) as s", "min(n) as m"])).sort("k"),
    "SQLContext": lambda t, few: pl.SQLContext(a=t, b=few).execute("select a.n, b.k from a left join b on a.n = b.n order by a.n", eager=False),
    "SQLContext with a table that is registered": lambda t, few: pl.SQLContext().register("r", t).execute("select k from r where n = 7", eager=False),
}


#: Texts whose meaning depends on the types of what they name, so that Polars 2.1 keeps them in the plan as they are.
EXPRESSIONS = {
    "integers": "n * 2 - 1 as v",
    "a quotient": "n / 4 as v",
    "a remainder": "n % 4 as v",
    "decimals": "price * rate as v",
    "a quotient of decimals": "price / rate as v",
    "a sum of decimals and integers": "price + n as v",
    "a date and an interval": "day + interval '1 month' as v",
    "days between": "day - date '2024-01-01' as v",
    "a mixed comparison": "price > n as v",
    "within a function": "abs(n * -2) as v",
    "within a condition": "case when n * 2 > 5 then n + 1 else n / 2 end as v",
    "a window": "sum(n * 2) over (partition by k) as v",
}


def typed() -> pl.LazyFrame:
    numbers = list(range(12))
    return pl.LazyFrame(
        {
            "n": [None if i == 5 else i for i in numbers],
            "k": [i % 3 for i in numbers],
            "price": pl.Series([Decimal(i * 7) / 4 for i in numbers], dtype=pl.Decimal(10, 2)),
            "rate": pl.Series([Decimal(i % 4 + 1) / 8 for i in numbers], dtype=pl.Decimal(6, 3)),
            "day": [None if i == 2 else dt.date(2024, 1, 30) + dt.timedelta(days=i) for i in numbers],
        }
    )


@pytest.mark.parametrize("text", EXPRESSIONS.values(), ids=EXPRESSIONS)
def test_an_expression_of_one_text(text, ctx):
    places = {
        "select": lambda t, e: t.select("n", e),
        "with_columns": lambda t, e: t.with_columns(e),
        "behind others": lambda t, e: t.filter(pl.col("k") < 2).with_columns(e).select("v", "n").filter(pl.col("v").is_not_null()),
    }
    for where, place in places.items():
        query = place(typed(), pl.sql_expr(text))
        want = query.collect(engine="in-memory")
        assert want.height > 0, where
        assert_frame_equal(floe.collect(query, ctx), want, check_row_order=where == "select")
        assert_frame_equal(query.remote(ctx).distributed().collect(), want, check_row_order=False)


def test_expressions_of_texts_in_keys_filters_and_joins(ctx):
    t = typed()
    queries = [
        t.filter(pl.sql_expr("n * 2 > 6")).select("n", "k"),
        t.group_by(pl.sql_expr("n % 3").alias("g")).agg(pl.sql_expr("sum(n * 2)").alias("s"), pl.len().alias("c")).sort("g"),
        t.sort(pl.sql_expr("n * -1"), nulls_last=True).select("n"),
        t.join(t.select("n", "price"), left_on=pl.sql_expr("n + 1"), right_on="n", how="left").sort("n").select("n", "price_right"),
        pl.concat([t.select(pl.sql_expr("n * 2").alias("v")), t.select(pl.sql_expr("n * 3").alias("v"))]).sort("v"),
    ]
    for query in queries:
        want = query.collect(engine="in-memory")
        assert_frame_equal(floe.collect(query, ctx), want, check_row_order=False)
        assert_frame_equal(query.remote(ctx).distributed().collect(), want, check_row_order=False)


def test_what_is_wrong_with_an_expression_of_a_text(ctx):
    if tuple(int(part) for part in pl.__version__.split(".")[:2]) < (2, 1):
        pytest.skip("this version resolves it at once")
    t = typed().select(pl.sql_expr("nothing * 2 as v"))
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing"):
        floe.collect(t, ctx)


@pluggable
@pytest.mark.parametrize("way", WAYS)
def test_sql_of_polars_runs_by_the_engine(way, ctx):
    t, few = rows(), rows().collect(engine="in-memory").filter(pl.col("n") % 3 == 0)
    query = WAYS[way](t, few)
    want = query.collect(engine="in-memory")
    assert want.height > 0
    assert_frame_equal(query.collect(engine=floe.Engine(ctx)), want)
    staged = floe.Engine(ctx, scaling_mode="distributed", partitions_per_worker=2, equi_join_broadcast_limit=0)
    assert_frame_equal(query.collect(engine=staged), want)
    assert_frame_equal(staged.collect(query), want)


def test_a_text_within_a_plan_has_the_same_limit(ctx):
    """As long as a text of its own may be, and not longer."""
    fits = "select n, '" + "x" * (1 << 19) + "' as x from t"
    assert execute(fits, t=rows()).select(pl.col("n").sum()).remote(ctx).collect().item() == 1225
    query = execute("select n, '" + "x" * (2 << 20) + "' as x from t", t=rows())
    with pytest.raises(PlanError, match="the SQL text has 2048 KiB, at most 1024 KiB are read"):
        query.remote(ctx).collect()
