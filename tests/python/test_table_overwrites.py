"""Overwriting a part of a Delta or Iceberg table, and changing its columns: read back by other engines."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import polars as pl
import pytest

import floe
from floe.exceptions import FloeError
from tests.python.test_table_sinks import iceberg, read, same, write

pytest.importorskip("deltalake")
pytest.importorskip("pyiceberg")

FORMATS = pytest.mark.parametrize("format", ["delta", "iceberg"])
DAY = dt.date(2026, 1, 1)
# Delta tables say so by a class of Polars'.
REFUSED = (FloeError, pl.exceptions.SchemaError)


def days(first: int, n_days: int, n_rows: int, start: int = 0) -> pl.DataFrame:
    """Rows of some days, of which the last have none."""
    day = [DAY + dt.timedelta(days=first + n % n_days) for n in range(n_rows)]
    at = [dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(days=first + n % n_days, hours=n % 24) for n in range(n_rows)]
    rows = pl.DataFrame({"id": range(start, start + n_rows), "day": day, "kind": [["eu", "us"][n % 2] for n in range(n_rows)], "at": at})
    return rows.with_columns(pl.when(pl.col("id") % 10 == 9).then(None).otherwise(pl.col("kind")).alias("kind"))


@FORMATS
def test_partitions_of_the_result_replace_those_of_the_table(ctx, tmp_path, format):
    root, before = tmp_path / "t", days(0, 4, 400)
    write(before.lazy(), ctx, format, root, mode="overwrite", overwrite="partitions", partition_by=["day", "kind"])
    same(read(format, root), before)
    new = days(2, 3, 60, start=1000).filter(pl.col("kind") != "us")
    write(new.lazy(), ctx, format, root, mode="overwrite", overwrite="partitions")
    gone = new.select("day", "kind").unique()
    want = pl.concat([before.join(gone, on=["day", "kind"], how="anti", nulls_equal=True), new])
    same(read(format, root), want)
    # Null is a partition like any other.
    nulls = days(0, 1, 10, start=5000).with_columns(pl.lit(None, pl.String).alias("kind"))
    write(nulls.lazy(), ctx, format, root, mode="overwrite", overwrite="partitions")
    want = pl.concat([want.filter(~((pl.col("day") == DAY) & pl.col("kind").is_null())), nulls])
    same(read(format, root), want)
    write(new.lazy().filter(pl.col("id") < 0), ctx, format, root, mode="overwrite", overwrite="partitions")
    same(read(format, root), want)
    write(new.lazy(), ctx, format, root, mode="overwrite")
    same(read(format, root), new)


@pytest.mark.parametrize("transform", ["month(at)", "day(at)", "hour(at)", "bucket(4, id)", "truncate(100, id)", "truncate(1, kind)"])
def test_partitions_of_transforms_are_replaced(ctx, tmp_path, transform):
    root, before = tmp_path / "t", days(0, 6, 300)
    write(before.lazy(), ctx, "iceberg", root, mode="append", partition_by=transform)
    where = {task.file.file_path: str(task.file.partition) for task in iceberg(root).scan().plan_files()}
    # A single row: all rows of its partition go, and no others.
    one = before.head(1).with_columns(pl.lit(0, pl.Int64).alias("id"))
    write(one.lazy(), ctx, "iceberg", root, mode="overwrite", overwrite="partitions")
    left = {task.file.file_path: str(task.file.partition) for task in iceberg(root).scan().plan_files()}
    [own] = [partition for path, partition in left.items() if path not in where]
    assert {path for path, partition in where.items() if partition != own} == left.keys() & where.keys()
    kept = pl.concat([pl.read_parquet(path.removeprefix("file://")) for path in left.keys() & where.keys()] or [before.head(0)])
    same(read("iceberg", root), pl.concat([kept.select(before.columns).cast(before.schema), one]))
    assert transform == "month(at)" or kept.height > 0


@FORMATS
def test_what_a_filter_holds_for_is_replaced(ctx, tmp_path, format):
    root, before = tmp_path / "t", days(0, 4, 400)
    write(before.lazy(), ctx, format, root, mode="append", partition_by=["day", "kind"])
    where = "day >= '2026-01-02' AND kind = 'eu'"
    new = days(1, 3, 90, start=1000).filter(kind="eu")
    write(new.lazy(), ctx, format, root, mode="overwrite", overwrite_where=where)
    gone = (pl.col("day") > DAY) & (pl.col("kind") == "eu")
    want = pl.concat([before.filter(gone.not_().fill_null(True)), new])
    same(read(format, root), want)
    # Rows that it does not hold for would stay beside those of the table.
    for bad in (days(0, 1, 20).filter(kind="eu"), days(1, 1, 20)):
        with pytest.raises(FloeError, match="does not hold for .*leave them out"):
            write(bad.lazy(), ctx, format, root, mode="overwrite", overwrite_where=where)
    same(read(format, root), want)
    for filter, says in [("id = 1", "partitioned by"), ("days = 1", "no column days"), ("day =", "at the end"), ("day = 1", "a date such as")]:
        with pytest.raises(FloeError, match=says):
            write(new.lazy(), ctx, format, root, mode="overwrite", overwrite_where=filter)
    # No rows: what it holds for is deleted.
    write(new.lazy().head(0), ctx, format, root, mode="overwrite", overwrite_where="kind IS NULL or day = '2026-01-01'")
    same(read(format, root), want.filter(pl.col("kind").is_not_null() & (pl.col("day") != DAY)))
    assert sorted(str(path) for path in Path(root).rglob("*.parquet")) == sorted(set(data_files(format, root)))


def data_files(format: str, root) -> list[str]:
    """Files that some snapshot of the table has, so that none is left over."""
    if format == "delta":
        lines = [line for log in (root / "_delta_log").glob("*.json") for line in log.read_text().splitlines()]
        from urllib.parse import unquote

        return [str(root / unquote(json.loads(line)["add"]["path"])) for line in lines if '"add"' in line]
    table = iceberg(root)
    snapshots = [snapshot.snapshot_id for snapshot in table.snapshots()]
    files = [task.file.file_path for snapshot in snapshots for task in table.scan(snapshot_id=snapshot).plan_files()]
    return [path.removeprefix("file://") for path in files]


@FORMATS
def test_what_goes_with_overwriting_only_is_refused(ctx, tmp_path, format):
    rows = days(0, 1, 3).lazy()
    for options in ({"overwrite": "partitions"}, {"overwrite_where": "day = '2026-01-01'"}):
        with pytest.raises(FloeError, match="mode: overwrite only"):
            write(rows, ctx, format, tmp_path / "t", mode="append", **options)
    with pytest.raises(FloeError, match="excludes"):
        write(rows, ctx, format, tmp_path / "t", mode="overwrite", overwrite="partitions", overwrite_where="day = '2026-01-01'")
    assert not (tmp_path / "t").exists()


@FORMATS
def test_columns_are_added_if_asked_for(ctx, tmp_path, format):
    root = tmp_path / "t"
    before = pl.DataFrame({"id": [1, 2], "place": [{"x": 1}, {"x": 2}]})
    write(before.lazy(), ctx, format, root, mode="append")
    more = pl.DataFrame({"extra": ["a", None], "id": [3, 4], "place": [{"x": 3}, {"x": 4}], "n": [1.5, 2.5]})
    with pytest.raises(REFUSED, match="extra.*sink.schemaEvolution: merge"):
        write(more.lazy(), ctx, format, root, mode="append")
    same(read(format, root), before)
    write(more.lazy(), ctx, format, root, mode="append", schema_evolution="merge")
    want = pl.concat([before, more.select("id", "place", "extra", "n")], how="diagonal")
    same(read(format, root), want)
    table = {"uri": str(root), "format": format}
    got = floe.sql("select id from t where extra is null and n > 2", {"t": table}, ctx).collect()
    assert got["id"].to_list() == [4]
    # It is the table's from now on.
    write(before.lazy(), ctx, format, root, mode="append")
    write(more.lazy(), ctx, format, root, mode="overwrite", schema_evolution="merge")
    same(read(format, root), more)
    with pytest.raises(REFUSED, match="extra"):
        write(more.lazy().with_columns(pl.lit(1).alias("extra")), ctx, format, root, mode="append", schema_evolution="merge")


def test_iceberg_widens_types(ctx, tmp_path):
    root = tmp_path / "t"
    narrow = pl.DataFrame({"id": [1, 2], "i": [1, None], "f": [0.5, None]}, schema={"id": pl.Int64, "i": pl.Int32, "f": pl.Float32})
    write(narrow.lazy(), ctx, "iceberg", root, mode="append", partition_by="bucket(2, i)")
    wide = pl.DataFrame({"id": [3], "i": [2**40], "f": [1e300]})
    with pytest.raises(FloeError, match="column i has the type long.*schemaEvolution"):
        write(wide.lazy(), ctx, "iceberg", root, mode="append")
    write(wide.lazy(), ctx, "iceberg", root, mode="append", schema_evolution="merge")
    want = pl.concat([narrow.cast({"i": pl.Int64, "f": pl.Float64}), wide])
    same(read("iceberg", root), want)
    got = floe.sql("select id from t where i > 0 and f > 0 order by id", {"t": {"uri": str(root), "format": "iceberg"}}, ctx)
    assert got.collect()["id"].to_list() == [1, 3]


def test_delta_widens_types_where_the_table_allows_it(ctx, tmp_path):
    root = tmp_path / "t"
    narrow = pl.DataFrame({"id": [1, 2], "i": [1, None], "l": [[1], [2]]}, schema={"id": pl.Int64, "i": pl.Int32, "l": pl.List(pl.Int16)})
    write(narrow.lazy(), ctx, "delta", root, mode="append")
    wide = pl.DataFrame({"id": [3], "i": [2**40], "l": [[2**20]]})
    with pytest.raises(REFUSED, match='"i" is of the type long.*delta.enableTypeWidening'):
        write(wide.lazy(), ctx, "delta", root, mode="append", schema_evolution="merge")
    # No writer of this environment sets the property, so the log gets it as Spark would write it.
    first = [json.loads(line) for line in (root / "_delta_log" / f"{0:020}.json").read_text().splitlines()]
    [metadata] = [action for action in first if "metaData" in action]
    metadata["metaData"]["configuration"] = {"delta.enableTypeWidening": "true"}
    features = {"readerFeatures": ["typeWidening"], "writerFeatures": ["appendOnly", "invariants", "typeWidening"]}
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, **features}}
    (root / "_delta_log" / f"{1:020}.json").write_text("".join(json.dumps(action) + "\n" for action in (protocol, metadata)))
    write(wide.lazy(), ctx, "delta", root, mode="append", schema_evolution="merge")
    got = floe.sql("select * from t order by id", {"t": {"uri": str(root), "format": "delta"}}, ctx).collect()
    same(got, pl.concat([narrow.cast(wide.schema), wide]))
    log = (root / "_delta_log" / f"{2:020}.json").read_text()
    changed = [json.loads(json.loads(line)["metaData"]["schemaString"]) for line in log.splitlines() if '"metaData"' in line]
    changes = {field["name"]: field["metadata"].get("delta.typeChanges") for field in changed[0]["fields"]}
    assert changes["i"] == [{"fromType": "integer", "toType": "long"}] and changes["id"] is None
    assert changes["l"] == [{"fromType": "short", "toType": "long", "fieldPath": "element"}]
