"""`floe.sql`: a text over named tables, whatever they are, with the methods of every query."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import LocalFileError, PlanError, UnsupportedPlanError
from tests.python.conftest import PLUGGABLE

#: Versions 2.x keep a text in the plan; older ones resolve it themselves.
KEEPS_SQL = int(pl.__version__.split(".")[0]) >= 2
TOTALS = "select region, sum(amount) as total from sales group by region order by region"


@pytest.fixture
def sales(tmp_path) -> pl.DataFrame:
    frame = pl.DataFrame({"region": ["north", "south", "north", None], "amount": [1, 2, 3, 4]})
    for at, part in enumerate(frame.iter_slices(2)):
        part.write_parquet(tmp_path / f"sales-{at}.parquet")
    frame.write_csv(tmp_path / "sales.csv", separator=";")
    return frame


def expected(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.group_by("region").agg(pl.col("amount").sum().alias("total")).sort("region", nulls_last=True)


@pytest.mark.parametrize("kind", ["glob", "path", "fields", "frame", "lazy", "mixed"])
def test_tables_are_files_or_frames(ctx, sales, tmp_path, kind):
    table = {
        "glob": str(tmp_path / "sales-*.parquet"),
        "path": tmp_path / "sales-*.parquet",
        "fields": {"uri": str(tmp_path / "sales.csv"), "options": {"separator": ";"}},
        "frame": sales,
        "lazy": sales.lazy(),
        "mixed": str(tmp_path / "sales-*.parquet"),
    }[kind]
    tables = {"sales": table} | ({"other": sales} if kind == "mixed" else {})
    query = floe.sql(TOTALS, tables, ctx)
    assert_frame_equal(query.collect(), expected(sales))
    assert_frame_equal(query.distributed().collect(), expected(sales))
    assert query.show(1).height == 1


def test_nothing_runs_before_it_is_asked_to(ctx):
    query = floe.sql("select * from nowhere", {"t": "/nowhere/at/all.parquet"}, ctx)
    with pytest.raises(pl.exceptions.SQLInterfaceError, match=r"line 1, column 15: there is no table nowhere"):
        query.collect()
    assert "floe.sql" in repr(query)


def test_parameters_and_views(ctx, sales, tmp_path):
    tables = {"sales": str(tmp_path / "sales-*.parquet")}
    views = {"big": "select * from sales where amount >= $least", "regions": "select distinct region from big"}
    query = floe.sql("select count(*) as n from regions", tables, ctx, params={"least": 3}, views=views)
    assert query.collect().item() == 2
    with pytest.raises(pl.exceptions.SQLSyntaxError, match=r"view big, line 1, column 37: no parameter least"):
        floe.sql("select * from regions", tables, ctx, views=views).collect()
    with pytest.raises(ValueError, match="params: not with tables that are frames"):
        floe.sql(TOTALS, {"sales": sales}, ctx, params={"least": 3})
    over_frames = floe.sql("select count(*) as n from b", {"sales": sales}, ctx, views={"b": "select * from a", "a": TOTALS})
    assert over_frames.collect().item() == 3


def test_statements_and_files_in_the_text(ctx, sales, tmp_path):
    tables = {"sales": str(tmp_path / "sales-*.parquet")}
    assert floe.sql("show tables", tables, ctx).collect().rows() == [("sales",)]
    described = floe.sql("describe sales", tables, ctx).collect()
    assert described.rows() == [("region", "str"), ("amount", "i64")]
    text = f"select count(*) as n from read_csv('{tmp_path}/sales.csv')"
    assert floe.sql(text, ctx=ctx).collect().item() == 4
    explained = floe.sql(TOTALS, tables, ctx).distributed().explain()
    assert "stage 0" in explained
    with pytest.raises(UnsupportedPlanError, match="resolved by the engine"):
        floe.sql(TOTALS, tables, ctx).explain(plan_stage="ir")


def test_results_stay_and_sinks_write(ctx, sales, tmp_path):
    query = floe.sql(TOTALS, {"sales": str(tmp_path / "sales-*.parquet")}, ctx)
    result = query.execute()
    assert result.n_rows_total == 3
    assert_frame_equal(result.lazy().collect(engine="in-memory"), expected(sales))
    assert_frame_equal(pl.concat(query.collect_batches()), expected(sales))
    for name, sink, read in [
        ("out.parquet", query.sink_parquet, pl.read_parquet),
        ("out/", query.sink_parquet, lambda path: pl.read_parquet(f"{path}*.parquet")),
        ("out.arrow", query.sink_ipc, pl.read_ipc),
        ("out.ndjson", query.sink_ndjson, pl.read_ndjson),
    ]:
        sink(f"{tmp_path}/{name}").await_result()
        assert_frame_equal(read(f"{tmp_path}/{name}"), expected(sales), check_row_order=not name.endswith("/"))
    query.sink_csv(tmp_path / "out.csv", separator="|", include_header=False).await_result()
    assert (tmp_path / "out.csv").read_text().splitlines()[0] == "north|4"
    seen = []
    query.sink_batches(lambda frame: seen.append(frame.height)).await_result()
    assert sum(seen) == 3
    with pytest.raises(UnsupportedPlanError, match="data_page_size"):
        query.sink_parquet(tmp_path / "x.parquet", data_page_size=10)


def test_what_only_this_process_can_call_is_refused_by_name(ctx, sales, tmp_path):
    query = floe.sql(TOTALS, {"sales": str(tmp_path / "sales-*.parquet")}, ctx)
    for sink in (query.sink_parquet, query.sink_csv, query.sink_ipc, query.sink_ndjson):
        with pytest.raises(UnsupportedPlanError, match=r"credential_provider runs in this process.*storage_options"):
            sink(tmp_path / "x", credential_provider=lambda: ({}, None))
    with pytest.raises(UnsupportedPlanError, match="metadata as a dictionary"):
        query.sink_parquet(tmp_path / "x.parquet", metadata=lambda _: {})
    # What names no function changes nothing, and a name's end still says how text is compressed.
    query.sink_csv(tmp_path / "x.csv.gz", credential_provider=None).await_result()
    assert (tmp_path / "x.csv.gz").read_bytes()[:2] == b"\x1f\x8b"
    query.sink_ndjson(tmp_path / "y.ndjson", compression="gzip").await_result()
    assert (tmp_path / "y.ndjson").read_bytes()[:2] == b"\x1f\x8b"


def test_the_context_that_is_set_counts(ctx, sales, tmp_path):
    query = floe.sql(TOTALS, {"sales": str(tmp_path / "sales-*.parquet")})
    with pytest.raises(RuntimeError, match="set_compute_context"):
        query.collect()
    with floe.set_compute_context(ctx):
        assert query.collect().height == 3


@pytest.mark.skipif(not KEEPS_SQL, reason="this version of Polars resolves SQL itself")
def test_sql_of_polars_runs_on_the_engine(ctx, sales):
    lf = pl.SQLContext({"sales": sales.lazy()}, eager=False).execute(TOTALS)
    assert_frame_equal(lf.remote(ctx).collect(), expected(sales))
    if PLUGGABLE:
        assert_frame_equal(lf.collect(engine=floe.Engine(ctx)), expected(sales))


@pytest.mark.parametrize(
    ("query", "tables", "error", "match"),
    [
        (1, {}, TypeError, "query: int is no text"),
        ("select 1", {"t": 1}, TypeError, "t is a int, neither a URI nor a frame"),
        ("select 1", {"t": {"format": "csv"}}, ValueError, "t has no uri"),
    ],
)
def test_what_cannot_be_a_query_is_refused_by_name(ctx, query, tables, error, match):
    with pytest.raises(error, match=match):
        floe.sql(query, tables, ctx)


def test_a_cluster_does_not_see_files_of_this_machine():
    from floe._kubernetes import Kubernetes
    from floe._request import Request

    cluster = object.__new__(Kubernetes)
    cluster._compute, cluster._workers, cluster._storage, cluster._ttl = {}, 2, {}, 60
    fields = {"plan": {"sql": "select 1"}, "tables": {"t": {"uri": "data/t.parquet"}}}
    with pytest.raises(LocalFileError, match="table t is data/t.parquet"):
        cluster._spec(Request(sql=fields))
    fields["tables"]["t"]["uri"] = "s3://lake/t.parquet"
    spec = cluster._spec(Request(sql=fields))
    assert spec["plan"] == {"sql": "select 1"} and spec["compute"]["workers"] == 2
    assert issubclass(LocalFileError, PlanError)
