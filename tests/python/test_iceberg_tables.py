"""Iceberg tables as sources: what Polars' own `scan_iceberg` gives, from scripts' and SQL's tables and from clients'
plans."""

from __future__ import annotations

import datetime as dt
import decimal
import uuid

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import FloeError
from tests.python.conftest import pluggable

pytest.importorskip("pyiceberg")
pytest.importorskip("sqlalchemy")
import pyarrow as pa  # noqa: E402
from pyiceberg.catalog.sql import SqlCatalog  # noqa: E402
from pyiceberg.partitioning import PartitionField, PartitionSpec  # noqa: E402
from pyiceberg.schema import Schema  # noqa: E402
from pyiceberg.transforms import BucketTransform, DayTransform, IdentityTransform, TruncateTransform  # noqa: E402
from pyiceberg.types import (  # noqa: E402
    BinaryType,
    DateType,
    DecimalType,
    IntegerType,
    ListType,
    LongType,
    MapType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    UUIDType,
)


@pytest.fixture(scope="module")
def catalog(tmp_path_factory):
    path = tmp_path_factory.mktemp("iceberg")
    catalog = SqlCatalog("c", uri=f"sqlite:///{path}/catalog.db", warehouse=f"file://{path}")
    catalog.create_namespace("n")
    return catalog


@pytest.fixture(scope="module")
def orders(catalog):
    """Partitioned by identity, bucket, day and truncation; deleted rows, renamed, widened, added and dropped columns, an
    evolved partition spec."""
    schema = Schema(
        NestedField(1, "id", IntegerType(), required=False),
        NestedField(2, "region", StringType(), required=False),
        NestedField(3, "at", TimestampType(), required=False),
        NestedField(4, "price", DecimalType(10, 2), required=False),
        NestedField(5, "tags", ListType(6, StringType(), element_required=False), required=False),
        NestedField(7, "place", StructType(NestedField(8, "lat", LongType()), NestedField(9, "name", StringType()))),
        NestedField(10, "attrs", MapType(11, StringType(), 12, LongType(), value_required=False), required=False),
        NestedField(13, "old", StringType(), required=False),
    )
    spec = PartitionSpec(
        PartitionField(2, 1000, IdentityTransform(), "region"),
        PartitionField(3, 1001, DayTransform(), "day"),
        PartitionField(1, 1002, BucketTransform(4), "bucket"),
    )
    table = catalog.create_table("n.orders", schema=schema, partition_spec=spec)

    def rows(first, count, schema):
        numbers = range(first, first + count)
        columns = {
            "id": list(numbers),
            "region": [None if n % 10 == 0 else f"r{n % 3}" for n in numbers],
            "at": [dt.datetime(2026, 1, 1) + dt.timedelta(hours=n % 60) for n in numbers],
            "price": [None if n % 9 == 0 else decimal.Decimal(n) / 4 for n in numbers],
            "tags": [["t"] * (n % 3) if n % 4 else None for n in numbers],
            "place": [{"lat": n, "name": f"p{n % 5}"} if n % 6 else None for n in numbers],
            "attrs": [[("k", n), ("l", None)] if n % 5 else None for n in numbers],
            "old": [f"o{n}" for n in numbers],
            "area": [f"r{n % 3}" for n in numbers],
            "added": [n * 2 for n in numbers],
        }
        arrow = schema.as_arrow()
        return pa.table({name: pa.array(columns[name], arrow.field(name).type) for name in arrow.names}, schema=arrow)

    table.append(rows(0, 400, table.schema()))
    table.append(rows(400, 400, table.schema()))
    table.delete("id >= 100 and id < 150")
    with table.update_schema() as update:
        update.rename_column("region", "area")
        update.update_column("id", LongType())
        update.add_column("added", LongType())
        update.delete_column("old")
        update.add_column(("place", "floor"), IntegerType())
    with table.update_spec() as update:
        update.remove_field("bucket")
        update.add_field("id", TruncateTransform(100), "hundred")
    more = table.schema().as_arrow()
    place = pa.array([{"lat": n, "name": "new", "floor": n % 7} for n in range(800, 1000)], more.field("place").type)
    late = rows(800, 200, Schema(*[field for field in table.schema().fields if field.name != "place"]))
    table.append(late.append_column(more.field("place"), place).select(more.names).cast(more))
    table.manage_snapshots().create_tag(table.history()[0].snapshot_id, "first").commit()
    return catalog.load_table("n.orders")


QUERIES = {
    "all": lambda t: t,
    "groups": lambda t: t.group_by("area").agg(pl.len(), pl.col("price").sum(), pl.col("added").count()),
    "identity": lambda t: t.filter(pl.col("area") == "r1").select("id", "area"),
    "null partition": lambda t: t.filter(pl.col("area").is_null()).select("id"),
    "day": lambda t: t.filter(pl.col("at") < dt.datetime(2026, 1, 2)).select("id", "at"),
    "bucket": lambda t: t.filter(pl.col("id") == 444),
    "bounds": lambda t: t.filter((pl.col("id") > 950) | (pl.col("price") < 3)).select("id", "price"),
    "added": lambda t: t.filter(pl.col("added").is_null()).select("id", "added"),
    "nested": lambda t: t.filter(pl.col("place").struct.field("name") == "p1").select("id", "tags", "attrs"),
    "struct": lambda t: t.select("id", "place"),
    "count": lambda t: t.select(pl.len()),
    "one column": lambda t: t.select("area"),
    "none": lambda t: t.filter(pl.col("id") < -1),
}


def lists_of_maps(frame: pl.DataFrame) -> pl.DataFrame:
    """Polars 2.1 has a type for maps, which the engine's Polars lacks."""
    maps = [name for name, dtype in frame.schema.items() if str(dtype).startswith("Map")]
    return frame.with_columns(pl.col(maps).cast(pl.List(pl.Struct({"key": pl.String, "value": pl.Int64})))) if maps else frame


def same(got: pl.DataFrame, want: pl.DataFrame) -> None:
    by = [name for name in want.columns if not want.schema[name].is_nested()]
    assert_frame_equal(got.sort(by), want.sort(by))


@pluggable
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.parametrize("mode", ["distributed", "auto"])
def test_plans_that_scan_a_table_give_what_polars_gives(ctx, orders, query, mode):
    plan = QUERIES[query](pl.scan_iceberg(orders))
    same(plan.collect(engine=floe.Engine(ctx, scaling_mode=mode)), lists_of_maps(plan.collect()))


@pluggable
def test_snapshots_are_read_with_their_own_columns(ctx, orders):
    engine = floe.Engine(ctx, scaling_mode="distributed")
    for entry in orders.history():
        plan = pl.scan_iceberg(orders, snapshot_id=entry.snapshot_id)
        same(plan.collect(engine=engine), lists_of_maps(plan.collect()))


def read(ctx, table, options, text="select count(*) as n from t"):
    table = {"uri": table, "format": "iceberg", "options": options}
    return floe.sql(text, {"t": table}, ctx).collect()


def test_a_table_is_found_by_its_root_or_its_metadata(ctx, orders):
    root = orders.location()
    assert read(ctx, root, {}).item() == 950
    assert read(ctx, root.removeprefix("file://") + "/", {}).item() == 950
    assert read(ctx, orders.metadata_location, {}).item() == 950
    got = floe.sql(f"select area, count(*) as n from iceberg_scan('{root}') group by area order by area", {}, ctx)
    want = pl.scan_iceberg(orders).group_by("area").agg(pl.len().cast(pl.Int64).alias("n"))
    assert_frame_equal(got.collect(), want.collect().sort("area", nulls_last=True))


def test_snapshots_tags_and_times_are_options(ctx, orders):
    first, second = orders.history()[:2]
    assert read(ctx, orders.location(), {"snapshot_id": second.snapshot_id}).item() == 800
    assert read(ctx, orders.location(), {"tag": "first"}).item() == 400
    assert read(ctx, orders.location(), {"branch": "main"}).item() == 950
    then = dt.datetime.fromtimestamp(first.timestamp_ms / 1000, dt.timezone.utc).isoformat()
    assert read(ctx, orders.location(), {"timestamp": then}).item() == 400
    for options, message in [
        ({"snapshot_id": 5}, "5"),
        ({"tag": "last"}, "first"),
        ({"timestamp": "2001-01-01"}, "2001"),
        ({"version": 1}, "snapshot_id, branch or tag"),
    ]:
        with pytest.raises(FloeError, match=message):
            read(ctx, orders.location(), options)


@pluggable
def test_every_type_is_read(ctx, catalog):
    schema = Schema(
        NestedField(1, "u", UUIDType(), required=False),
        NestedField(2, "b", BinaryType(), required=False),
        NestedField(3, "d", DateType(), required=False),
        NestedField(4, "z", TimestamptzType(), required=False),
        NestedField(5, "p", DecimalType(38, 10), required=False),
    )
    table = catalog.create_table("n.types", schema=schema)
    columns = {
        "u": [uuid.UUID(int=7).bytes, None],
        "b": [b"\x00\xff", None],
        "d": [dt.date(1969, 12, 31), None],
        "z": [dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc), None],
        "p": [decimal.Decimal("-12345678901234567890.0123456789"), None],
    }
    arrow = table.schema().as_arrow()
    table.append(pa.table({n: pa.array(v, arrow.field(n).type) for n, v in columns.items()}, schema=arrow))
    plan = pl.scan_iceberg(catalog.load_table("n.types"))
    assert_frame_equal(plan.collect(engine=floe.Engine(ctx, scaling_mode="distributed")), plan.collect())


def test_files_without_ids_are_read_by_the_names_of_the_mapping(ctx, catalog, tmp_path):
    table = catalog.create_table("n.mapped", schema=pa.schema([("a", pa.int64()), ("b", pa.string())]))
    pl.DataFrame({"b": ["x", "y"], "a": [1, 2]}).write_parquet(tmp_path / "0.parquet")
    table.add_files([str(tmp_path / "0.parquet")])
    table.append(pa.table({"a": [3], "b": ["z"]}))
    with table.update_schema() as update:
        update.rename_column("b", "c")
    got = read(ctx, catalog.load_table("n.mapped").location(), {}, "select a, c from t order by a")
    assert got.to_dict(as_series=False) == {"a": [1, 2, 3], "c": ["x", "y", "z"]}


def test_a_table_without_a_snapshot_has_no_rows(ctx, catalog):
    table = catalog.create_table("n.empty", schema=pa.schema([("a", pa.int64())]))
    got = read(ctx, table.location(), {}, "select a from t")
    assert got.schema == {"a": pl.Int64} and got.height == 0
