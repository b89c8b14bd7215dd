"""Delta tables as sources: what Polars' own `scan_delta` gives, from scripts' and SQL's tables and from clients' plans."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import os
import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import FloeError
from tests.python.conftest import pluggable

deltalake = pytest.importorskip("deltalake")


@pytest.fixture(scope="module")
def days(tmp_path_factory) -> str:
    """Five commits of two partitioned columns, a null partition, a later column, deleted and old rows, a checkpoint."""
    rows = 5_000
    frame = pl.DataFrame({
        "id": range(rows),
        "day": [None if n % 11 == 0 else dt.date(2026, 1, 1) + dt.timedelta(days=n % 4) for n in range(rows)],
        "kind": [["a b", "c/d=é", "ß", "x%20"][n % 4] for n in range(rows)],
        "price": [None if n % 7 == 0 else n * 0.25 for n in range(rows)],
        "at": [dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(minutes=n) for n in range(rows)],
        "tags": [["t", None][: n % 3] for n in range(rows)],
        "place": [{"lat": n / 2, "name": f"p{n % 5}"} for n in range(rows)],
        "cents": pl.Series([n for n in range(rows)]).cast(pl.Decimal(12, 2)),
    })
    path = str(tmp_path_factory.mktemp("delta") / "days")
    for at in range(5):
        part = frame.slice(at * rows // 5, rows // 5)
        part.write_delta(path, mode="append", delta_write_options={"partition_by": ["day", "kind"]})
    table = deltalake.DeltaTable(path)
    table.delete("id >= 100 and id < 700")
    table.create_checkpoint()
    more = frame.slice(0, 3).with_columns(pl.lit(1.5).alias("new"))
    more.write_delta(path, mode="append", delta_write_options={"schema_mode": "merge"})
    return path


QUERIES = {
    "all": lambda t: t,
    "groups": lambda t: t.group_by("day").agg(pl.len(), pl.col("price").sum(), pl.col("new").count()),
    "one partition": lambda t: t.filter(pl.col("day") == dt.date(2026, 1, 2)).select("id", "kind"),
    "null partition": lambda t: t.filter(pl.col("day").is_null()).select("id"),
    "no partition": lambda t: t.filter(pl.col("day") > dt.date(2030, 1, 1)),
    "bounds": lambda t: t.filter((pl.col("id") > 4_500) | (pl.col("price") < 3)),
    "nulls": lambda t: t.filter(pl.col("price").is_null() & pl.col("new").is_null()).select("id", "price"),
    "nested": lambda t: t.filter(pl.col("place").struct.field("name") == "p1").select("id", "tags", "place"),
    "count": lambda t: t.select(pl.len()),
    "one column": lambda t: t.select("kind"),
    "none": lambda t: t.filter(pl.col("id") < -1),
    "times": lambda t: t.filter(pl.col("at") >= dt.datetime(2026, 1, 3, tzinfo=dt.timezone.utc)).select("at", "cents"),
    "limit": lambda t: t.sort("id", "new", nulls_last=True).head(7),
}


def same(got: pl.DataFrame, want: pl.DataFrame) -> None:
    by = [name for name in want.columns if not want.schema[name].is_nested()]
    assert_frame_equal(got.sort(by), want.sort(by))


@pluggable
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("mode", ["distributed", "auto"])
def test_plans_that_scan_a_table_give_what_polars_gives(ctx, days, query, mode):
    plan = QUERIES[query](pl.scan_delta(days))
    same(plan.collect(engine=floe.Engine(ctx, scaling_mode=mode)), plan.collect())


@pluggable
def test_tables_are_joined_with_each_other(ctx, days):
    left, right = pl.scan_delta(days), pl.scan_delta(days, version=0)
    plan = left.join(right.select("id", "kind"), on="id").group_by("kind_right").agg(pl.len(), pl.col("id").sum())
    same(plan.collect(engine=floe.Engine(ctx, scaling_mode="distributed")), plan.collect())


def test_versions_and_times_name_a_snapshot(ctx, days, tmp_path):
    counts = {}
    for version in (0, 2, 4):
        table = {"uri": days, "format": "delta", "options": {"version": version}}
        counts[version] = floe.sql("select count(*) as n from t", {"t": table}, ctx).collect().item()
    assert counts == {0: 1_000, 2: 3_000, 4: 5_000}
    copy = tmp_path / "dated"
    shutil.copytree(days, copy)
    for version, commit in enumerate(sorted((copy / "_delta_log").glob("*.json"))):
        day = dt.datetime(2026, 1, 1 + version, tzinfo=dt.timezone.utc).timestamp()
        os.utime(commit, (day, day))
    for then, rows in [("2026-01-01", 1_000), ("2026-01-02T12:00:00+01:00", 2_000), ("2026-02-01", 4_403)]:
        table = {"uri": str(copy), "format": "delta", "options": {"timestamp": then}}
        assert floe.sql("select count(*) as n from t", {"t": table}, ctx).collect().item() == rows
    for options, message in [
        ({"version": 99}, "99"),
        ({"timestamp": "2001-01-01"}, "2001"),
        ({"snapshot_id": 1}, "version .a number. and timestamp"),
        ({"version": 1, "timestamp": "2026-01-01"}, "keep one"),
    ]:
        table = {"uri": days, "format": "delta", "options": options}
        with pytest.raises(FloeError, match=message):
            floe.sql("select * from t", {"t": table}, ctx).collect()


def test_sql_names_a_table_in_the_text(ctx, days):
    got = floe.sql(f"select kind, count(*) as n from delta_scan('{days}') group by kind order by kind", {}, ctx)
    want = pl.read_delta(days).group_by("kind").agg(pl.len().cast(pl.Int64).alias("n")).sort("kind")
    assert_frame_equal(got.collect(), want)


def test_filters_that_are_null_for_a_partition_leave_it_out(ctx, tmp_path):
    frame = pl.DataFrame({"k": [0, 1, None], "a": [1, 2, 3]})
    frame.write_delta(str(tmp_path / "delta"), delta_write_options={"partition_by": ["k"]})
    frame.write_parquet(pl.PartitionBy(tmp_path / "hive", key="k"), mkdir=True)
    hive = {"uri": str(tmp_path / "hive"), "format": "parquet", "options": {"hive_partitioning": True}}
    for table in ({"uri": str(tmp_path / "delta"), "format": "delta"}, hive):
        for condition, rows in [("k >= 0", [1, 2]), ("k <> 1", [1]), ("k >= 0 and a > 1", [2]), ("k is null", [3])]:
            query = floe.sql(f"select a from t where {condition} order by a", {"t": table}, ctx)
            for got in (query.distributed(), query.single_node()):
                assert got.collect()["a"].to_list() == rows, (table["format"], condition)


def test_what_is_no_table_is_told(ctx, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "nothing"):
        with pytest.raises(FloeError, match=f"table t: .*{path.name}"):
            floe.sql("select * from t", {"t": {"uri": str(path), "format": "delta"}}, ctx).collect()


def test_columns_and_their_fields_have_other_names_in_the_files(ctx, tmp_path):
    """Column mapping by name, as Spark writes it: deltalake does not."""
    names = itertools.count(1)

    def field(name, dtype):
        number = next(names)
        metadata = {"delta.columnMapping.id": number, "delta.columnMapping.physicalName": f"col-{number}"}
        return {"name": name, "type": dtype, "nullable": True, "metadata": metadata}

    place = {"type": "struct", "fields": [field("lat", "long"), field("name", "string")]}
    stops = {"type": "array", "elementType": {"type": "struct", "fields": [field("at", "date")]}, "containsNull": True}
    columns = [field("id", "long"), field("kind", "string"), field("place", place), field("stops", stops)]
    folder = tmp_path / "mapped"
    (folder / "_delta_log").mkdir(parents=True)
    day = dt.date(2026, 1, 1)
    rows = pl.DataFrame(
        {
            "col-4": [1, 2, 3],
            "col-6": [{"col-1": 5, "col-2": "p"}, None, {"col-1": None, "col-2": "q"}],
            "col-7": [[{"col-3": day}, None], [], None],
        },
        schema={
            "col-4": pl.Int64,
            "col-6": pl.Struct({"col-1": pl.Int64, "col-2": pl.String}),
            "col-7": pl.List(pl.Struct({"col-3": pl.Date})),
        },
    )
    rows.write_parquet(folder / "0.parquet")
    stats = {"numRecords": 3, "minValues": {"col-4": 1}, "maxValues": {"col-4": 3}, "nullCount": {"col-4": 0}}
    actions = [
        {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}},
        {"metaData": {
            "id": "t", "format": {"provider": "parquet", "options": {}}, "partitionColumns": ["kind"],
            "schemaString": json.dumps({"type": "struct", "fields": columns}),
            "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "7"},
        }},
        {"add": {
            "path": "0.parquet", "partitionValues": {"col-5": "k"}, "size": (folder / "0.parquet").stat().st_size,
            "modificationTime": 0, "dataChange": True, "stats": json.dumps(stats),
        }},
    ]  # fmt: skip
    log = folder / "_delta_log" / f"{0:020}.json"
    log.write_text("\n".join(json.dumps(action) for action in actions))
    table = {"t": {"uri": str(folder), "format": "delta"}}
    got = floe.sql("select * from t where id > 0 order by id", table, ctx).distributed().collect()
    want = rows.select(
        pl.col("col-4").alias("id"),
        pl.lit("k").alias("kind"),
        pl.col("col-6").struct.rename_fields(["lat", "name"]).alias("place"),
        pl.col("col-7").list.eval(pl.element().struct.rename_fields(["at"])).alias("stops"),
    )
    assert_frame_equal(got, want)
    assert floe.sql("select place.lat as lat from t where kind = 'k' and id = 1", table, ctx).collect().item() == 5
