"""`sink_delta` and `sink_iceberg` of a LazyFrame with Floe's engine. They need `deltalake` and `pyiceberg[sql-sqlite]`."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import UnsupportedPlanError
from tests.python.conftest import pluggable

pytestmark = pluggable


@pytest.fixture
def rows():
    numbers = pl.LazyFrame({"k": [n % 5 for n in range(10_000)], "v": range(10_000)})
    return numbers.group_by("k").agg(pl.col("v").sum(), pl.len().cast(pl.Int64).alias("n")).sort("k")


def test_delta_tables_are_written_from_the_rows_as_they_come(ctx, rows, tmp_path):
    deltalake = pytest.importorskip("deltalake")
    engine = floe.Engine(ctx, scaling_mode="distributed")
    want = rows.collect(engine="in-memory")
    assert rows.sink_delta(tmp_path / "t", engine=engine) is None
    assert_frame_equal(pl.read_delta(str(tmp_path / "t")).sort("k"), want)
    rows.sink_delta(tmp_path / "t", mode="append", delta_write_options={"partition_by": []}, engine=engine)
    assert deltalake.DeltaTable(tmp_path / "t").version() == 1 and pl.read_delta(str(tmp_path / "t")).height == 10
    matched = {"predicate": "s.k = t.k", "source_alias": "s", "target_alias": "t"}
    newer = rows.with_columns(pl.col("v") + 1)
    merger = newer.sink_delta(tmp_path / "t", mode="merge", delta_merge_options=matched, engine=engine)
    merger.when_matched_update_all().execute()
    assert pl.read_delta(str(tmp_path / "t"))["v"].sum() == 2 * (want["v"].sum() + 5)
    with pytest.raises(pl.exceptions.ColumnNotFoundError):
        rows.select("nothing").sink_delta(tmp_path / "no", engine=engine)
    assert not (tmp_path / "no").exists()
    assert not [
        one for one in ctx._running().coordinator.json("GET", "/api/v1/queries") if one.get("phase") == "Running"
    ]


@pytest.fixture
def table(tmp_path):
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    import pyarrow
    from pyiceberg.catalog.sql import SqlCatalog

    catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    fields = [("k", pyarrow.int64()), ("v", pyarrow.int64()), ("n", pyarrow.int64())]
    return catalog.create_table("n.t", schema=pyarrow.schema(fields))


def test_iceberg_tables_are_refused_by_name_and_written_by_this_process(ctx, rows, table):
    engine = floe.Engine(ctx, scaling_mode="distributed")
    with pytest.raises(UnsupportedPlanError, match=r"sink_iceberg: .* pl\.scan_arrow_c_stream"):
        rows.sink_iceberg(table, mode="append", engine=engine)
    assert table.refresh().current_snapshot() is None
    # What the error says to do.
    pl.scan_arrow_c_stream(rows.collect_batches(engine=engine)).sink_iceberg(table, mode="append")
    assert_frame_equal(pl.scan_iceberg(table.refresh()).collect().sort("k"), rows.collect(engine="in-memory"))
