"""`lf.remote(ctx)` and its kin, by the names of Polars Cloud."""

from __future__ import annotations

import asyncio
import sys
import time
import warnings
from uuid import uuid4

import polars as pl
import pytest
from polars.exceptions import InvalidOperationError
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import IgnoredArgumentWarning, QueryCancelledError, ResultGoneError


def oracle(lf: pl.LazyFrame) -> pl.DataFrame:
    return lf.collect(engine="in-memory")


def test_execute_show_collect(ctx, staged):
    assert_frame_equal(staged.remote(ctx).collect(), oracle(staged))
    assert_frame_equal(staged.remote(ctx).distributed().show(3), oracle(staged).head(3))
    assert_frame_equal(staged.remote(ctx).single_node().collect(), oracle(staged))
    assert_frame_equal(staged.remote(ctx).await_and_scan().collect(engine="in-memory"), oracle(staged))
    assert_frame_equal(pl.concat(staged.remote(ctx).collect_batches()), oracle(staged))


def test_a_query_in_the_background(ctx, staged):
    query = staged.remote(ctx).distributed(shuffle_compression="zstd").execute(blocking=False)
    assert isinstance(query, floe.DirectQuery)
    result = query.await_result()
    assert query.get_status() == result.status == floe.QueryStatus.SUCCESS
    assert query.get_status().is_done()
    assert "stage" in query.plan() and "SORT" in query.plan("ir")
    assert query.graph(raw_output=True).startswith("digraph")
    assert query.graph(show=False).startswith("<svg")
    query.cancel()
    assert query.get_status() == floe.QueryStatus.SUCCESS


def test_results(ctx, staged, tmp_path):
    result = staged.remote(ctx).distributed().execute()
    assert result.n_rows_total == 7 and result.total_stages == result.finished_stages > 1
    assert result.failed_stages == 0 and result.file_type == "ipc"
    assert_frame_equal(result.head, oracle(staged))
    statistics = result.stage_statistics()
    assert len(statistics) == result.total_stages and result.stage_statistics(0) == statistics[0]
    assert statistics[-1].rows == 7 and all(one.attempts >= one.tasks > 0 for one in statistics)
    assert result.stage_statistics(99) is None
    # Rows of a result are scanned by the next query; they are not put into its plan.
    again = result.lazy().select(pl.col("sum").sum()).remote(ctx).collect()
    assert again.item() == sum(range(500))
    result.raise_err()
    result.graph(output_path=tmp_path / "stages.svg")
    assert (tmp_path / "stages.svg").read_text().count("<rect") == result.total_stages
    with pytest.raises(ValueError, match="must end in"):
        result.graph(output_path=tmp_path / "stages.png")
    assert "rows: 7" in repr(result) and "QueryResult" in result._repr_html_()
    files = result.location
    result.delete()
    import os

    assert files and not any(os.path.exists(path) for path in files)
    with pytest.raises(InvalidOperationError, match="deleted"):
        result.lazy()
    with pytest.raises(InvalidOperationError, match="already"):
        result.delete()


def test_a_result_of_no_rows_keeps_its_columns(ctx, staged):
    empty = staged.filter(pl.col("k") < 0)
    result = empty.remote(ctx).execute()
    assert result.n_rows_total == 0
    assert_frame_equal(result.lazy().collect(engine="in-memory"), oracle(empty))
    assert_frame_equal(empty.remote(ctx).collect(), oracle(empty))


def test_explain_runs_nothing(ctx, staged, tmp_path):
    before = len(ctx._running().coordinator.json("GET", "/api/v1/queries"))
    text = staged.remote(ctx).distributed().explain()
    assert "stage 0" in text and "stage 1" in text
    assert "SORT" in staged.remote(ctx).explain(plan_stage="ir")
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        staged.select("nothing").remote(ctx).explain()
    with pytest.raises(ValueError, match="plan_stage"):
        staged.remote(ctx).explain(plan_stage="logical")
    assert len(ctx._running().coordinator.json("GET", "/api/v1/queries")) == before


def test_cancel(ctx, endless):
    query = endless.remote(ctx).execute(blocking=False)
    while query.get_status() not in (floe.QueryStatus.INPROGRESS, floe.QueryStatus.SCHEDULED):
        time.sleep(0.01)
    query.cancel()
    result = query.await_result()
    assert result.status == query.get_status() == floe.QueryStatus.CANCELED
    with pytest.raises(InvalidOperationError):
        result.lazy()
    with pytest.raises(QueryCancelledError):
        result.raise_err()


def test_await_result_async(ctx, staged, endless):
    async def run():
        result = await staged.remote(ctx).execute(blocking=False).await_result_async()
        assert result.n_rows_total == 7
        query = endless.remote(ctx).execute(blocking=False)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(query.await_result_async(), 0.3)
        return query

    query = asyncio.run(run())
    assert query.await_result().status == floe.QueryStatus.CANCELED


def test_a_failed_query(ctx, staged):
    query = staged.select(pl.col("nothing")).remote(ctx).execute(blocking=False)
    result = query.await_result(raise_on_failure=False)
    assert result.status == floe.QueryStatus.FAILED and result.head is None
    with pytest.raises(pl.exceptions.ColumnNotFoundError, match="nothing") as error:
        result.raise_err()
    assert error.value.query_id == query.id and error.value.category == "user"
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        query.await_result()


def test_a_deleted_query(ctx, staged):
    query = staged.remote(ctx).execute(blocking=False)
    result = query.await_result()
    query.delete_result()
    with pytest.raises(ResultGoneError):
        result.head  # noqa: B018


def test_labels_priority_retries_and_lineage(ctx, staged):
    remote = staged.remote(ctx, n_retries=1, priority=3, engine="streaming", scaling_mode="distributed")
    lineage = {"job_namespace": "etl", "job_name": "nightly"}
    assert remote.labels("docs").with_lineage(**lineage).execute().n_rows_total == 7
    with pytest.raises(ValueError, match="parent"):
        remote.with_lineage(**lineage, parent_run_id=uuid4())
    with pytest.raises(ValueError, match="job_name"):
        remote.with_lineage(job_namespace="etl", job_name="")
    with pytest.raises(ValueError, match="labels"):
        remote.labels(" ")


@pytest.mark.parametrize(
    ("use", "match"),
    [
        (lambda lf, ctx: lf.remote(ctx, plan_type="plain"), "plan_type"),
        (lambda lf, ctx: lf.remote(ctx, engine="in-memory"), "in-memory"),
        (lambda lf, ctx: lf.remote(ctx).distributed(shuffle_format="parquet"), "shuffle_format"),
        (lambda lf, ctx: lf.remote(ctx).distributed(shuffle_compression_level=3), "shuffle_compression_level"),
        (lambda lf, ctx: lf.remote(ctx).distributed(expression_lowering=False), "expression_lowering"),
        (lambda lf, ctx: lf.remote(ctx).distributed(planner="naive"), "planner"),
        (lambda lf, ctx: lf.remote(ctx).distributed(sort_partitioned=False), "sort_partitioned"),
        (lambda lf, ctx: lf.remote(ctx).distributed(max_workers=1).collect(), "max_workers"),
        (lambda lf, ctx: lf.remote(ctx).collect(ttl=10), "ttl"),
        (lambda lf, ctx: lf.remote(ctx).execute().graph(show=False, figsize=(8, 6)), "figsize"),
        (lambda lf, ctx: lf.remote(ctx).explain(silent=False), "silent=False"),
        (lambda lf, ctx: floe.sql("select 1 as a", None, ctx).sink_csv("x.csv", batch_size=7).await_result(), "batch_size"),
    ],
)
def test_what_means_nothing_here_warns(ctx, staged, use, match, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.warns(IgnoredArgumentWarning, match=match) as caught:
        use(staged, ctx)
    # Whatever the garbage collector warns of meanwhile is not meant.
    (told,) = [warning for warning in caught if warning.category is IgnoredArgumentWarning]
    assert told.filename == __file__


def test_nothing_warns_without_reason(ctx, staged):
    with warnings.catch_warnings():
        warnings.simplefilter("error", floe.exceptions.FloeWarning)
        staged.remote(ctx, priority=2).distributed(min_workers=None).show()
        staged.remote(ctx).explain(silent=True)
        staged.remote(ctx).execute().graph(show=False, figsize=(16, 12))


def test_set_compute_context(ctx, staged):
    @floe.set_compute_context(ctx)
    def inside():
        return staged.remote().show(1).height

    assert inside() == 1
    with floe.set_compute_context(ctx):
        assert staged.remote().collect().height == 7


def test_other_contexts_stay_with_polars(staged, monkeypatch):
    given = []

    class Cloud:
        class LazyFrameRemote:
            def __init__(self, **arguments):
                given.append(arguments)

    monkeypatch.setattr(sys.modules[pl.LazyFrame.__module__], "pc", Cloud)
    other = object()
    remote = staged.remote(other, n_retries=2)
    assert isinstance(remote, Cloud.LazyFrameRemote) and given[0]["context"] is other
    assert given[0]["n_retries"] == 2


def test_a_query_that_is_only_planned(ctx, staged, tmp_path):
    before = len(ctx._running().coordinator.json("GET", "/api/v1/queries"))
    query = floe.spawn(staged, dst=tmp_path / "x.parquet", context=ctx, distributed=True, execute_until="physical")
    assert query.get_status() == floe.QueryStatus.SUCCESS and "stage 0" in query.plan()
    assert query.graph(show=False).count("<rect") == query.await_result().total_stages > 1
    ir = floe.spawn_blocking(staged, dst=floe.TmpDst(), context=ctx, execute_until="ir")
    assert "SORT" in ir.plan("ir") and ir.n_rows_total is None and "SUCCESS" in repr(ir)
    with pytest.raises(ResultGoneError, match="execute_until"):
        ir.lazy()
    ir.delete()
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        floe.spawn(staged.select("nothing"), dst=floe.TmpDst(), context=ctx, execute_until="physical")
    with pytest.raises(ValueError, match="execute_until: 'plan' is none of"):
        floe.spawn_many([staged], dst=floe.TmpDst(), context=ctx, execute_until="plan")
    assert not list(tmp_path.iterdir())
    assert len(ctx._running().coordinator.json("GET", "/api/v1/queries")) == before


@pytest.mark.parametrize("kind", ["parquet", "ipc", "csv", "ndjson"])
def test_what_a_sink_wrote_is_scanned_where_it_is(ctx, staged, tmp_path, kind):
    want = oracle(staged)
    for target in (f"{tmp_path}/one.{kind}", f"{tmp_path}/many/"):
        result = getattr(staged.remote(ctx).distributed(), f"sink_{kind}")(target).await_result()
        assert result.file_type == kind and result.location == [target]
        got = result.lazy().select(want.columns).collect(engine="in-memory").sort("k").cast(want.schema)
        assert_frame_equal(got, want)
        assert result.lazy().select(pl.len()).remote(ctx).collect().item() == want.height
    if kind == "csv":
        written = {"separator": ";", "include_header": False, "null_value": "-"}
        result = staged.remote(ctx).sink_csv(tmp_path / "x", sink_to_single_file=True, **written).await_result()
        assert result.lazy().collect(engine="in-memory").rows() == want.rows()
    files = pl.PartitionBy(tmp_path / "parts", key="k")
    result = getattr(staged.remote(ctx), f"sink_{kind}")(files, mkdir=True).await_result()
    assert result.file_type == kind and result.lazy().select(pl.len()).collect(engine="in-memory").item() == want.height


def test_sinks_take_the_further_arguments_of_polars(ctx, staged, tmp_path):
    want = oracle(staged)
    staged.remote(ctx).sink_csv(tmp_path / "deep" / "x.csv.gz", compression="gzip", mkdir=True).await_result()
    assert_frame_equal(pl.read_csv(tmp_path / "deep" / "x.csv.gz", schema=want.schema), want)
    with pytest.raises(pl.exceptions.PolarsError, match="extension"):
        staged.remote(ctx).sink_ndjson(tmp_path / "x.json", compression="zstd").await_result()
    staged.remote(ctx).sink_ndjson(tmp_path / "x.json", compression="zstd", check_extension=False).await_result()
    assert_frame_equal(pl.read_ndjson(tmp_path / "x.json", schema=want.schema), want)
    staged.remote(ctx).sink_ipc(tmp_path / "x.arrow", record_batch_size=2, sync_on_close="data").await_result()
    assert len(list(pl.scan_ipc(tmp_path / "x.arrow").collect(engine="in-memory").iter_slices(2))) == 4


def test_show_versions(ctx, capsys):
    floe.show_versions(ctx)
    told = capsys.readouterr().out
    assert f"Polars (Python): {pl.__version__}" in told and f"Floe (engine): {floe.__version__}" in told
