"""Delta and Iceberg tables on a real S3 server."""

from __future__ import annotations

import datetime as dt

import polars as pl
import pytest

from tests import support
from tests.stores.test_stores import run


@pytest.fixture
def frame() -> pl.DataFrame:
    days = [dt.date(2026, 1, 1) + dt.timedelta(days=n % 6) for n in range(6_000)]
    return pl.DataFrame({"id": range(6_000), "day": days, "amount": [n / 4 for n in range(6_000)]})


def ask(workdir, s3, uri: str, format: str, plan: dict) -> pl.DataFrame:
    run(workdir, "ask", {
        "plan": plan,
        "tables": {"t": {"format": format, "uri": uri}},
        "storage": s3.storage | {"options": s3.storage["options"] | s3.credentials},
        "sink": {"uri": "out/", "format": "parquet", "mode": "overwrite"},
    })  # fmt: skip
    return pl.read_parquet(workdir / "out" / "*.parquet")


SQL = {"sql": "select day, count(*) as n, sum(amount) as amount from t where id >= 1000 group by day order by day"}
SCRIPT = {"python": {"script": "result = scan('t').filter(pl.col('day').dt.day() == 2).select('id').sort('id')"}}


def check(workdir, s3, uri: str, format: str, frame: pl.DataFrame) -> None:
    want = frame.filter(pl.col("id") >= 1000).group_by("day").agg(pl.len().cast(pl.Int64).alias("n"), pl.col("amount").sum())
    support.assert_same(ask(workdir, s3, uri, format, SQL), want.sort("day"))
    want = frame.filter(pl.col("day").dt.day() == 2).select("id").sort("id")
    support.assert_same(ask(workdir, s3, uri, format, SCRIPT), want)


def test_delta(s3, workdir, frame):
    deltalake = pytest.importorskip("deltalake")
    options = s3.credentials | {"aws_endpoint_url": s3.endpoint, "aws_region": s3.region, "aws_allow_http": "true"}
    options |= {"aws_s3_allow_unsafe_rename": "true"}
    for part in frame.iter_slices(2_000):
        part.write_delta("s3://floe/delta/t", mode="append", storage_options=options, delta_write_options={"partition_by": "day"})
    table = deltalake.DeltaTable("s3://floe/delta/t", storage_options=options)
    table.create_checkpoint()
    table.delete("id >= 1500 and id < 1600")
    check(workdir, s3, "s3://floe/delta/t/", "delta", frame.filter(~pl.col("id").is_between(1500, 1599)))


def test_iceberg(s3, workdir, frame):
    pytest.importorskip("pyiceberg")
    pytest.importorskip("sqlalchemy")
    from pyiceberg.catalog.sql import SqlCatalog

    properties = {"s3.access-key-id": s3.key, "s3.secret-access-key": s3.secret}
    properties |= {"s3.endpoint": s3.endpoint, "s3.region": s3.region, "warehouse": "s3://floe/iceberg"}
    (workdir / "data").mkdir()
    catalog = SqlCatalog("c", uri=f"sqlite:///{workdir}/data/catalog.db", **properties)
    catalog.create_namespace("n")
    table = catalog.create_table("n.t", schema=frame.to_arrow().schema)
    for part in frame.iter_slices(2_000):
        table.append(part.to_arrow().cast(table.schema().as_arrow()))
    table.delete("id >= 1500 and id < 1600")
    kept = frame.filter(~pl.col("id").is_between(1500, 1599))
    check(workdir, s3, table.location(), "iceberg", kept)
    check(workdir, s3, table.metadata_location, "iceberg", kept)


@pytest.mark.parametrize("format", ["delta", "iceberg"])
def test_tables_are_written(workdir, s3, frame, format):
    (workdir / "data").mkdir()
    for part in range(3):
        frame[part::3].write_parquet(workdir / "data" / f"{part}.parquet")
    uri = f"s3://floe/written/{format}"
    for name, more in [("make", {"mode": "error", "partitionBy": ["day"]}), ("add", {"mode": "append"})]:
        run(workdir, name, {
            "plan": {"sql": "SELECT * FROM t"},
            "tables": {"t": {"uri": "data/*.parquet"}},
            "storage": s3.storage | {"options": s3.storage["options"] | s3.credentials},
            "sink": {"uri": uri, "format": format} | more,
        })  # fmt: skip
    if format == "delta":
        deltalake = pytest.importorskip("deltalake")
        options = s3.credentials | {"aws_endpoint_url": s3.endpoint, "aws_region": s3.region, "aws_allow_http": "true"}
        table = deltalake.DeltaTable(uri, storage_options=options)
        got, version = pl.from_arrow(table.to_pyarrow_table()), table.version()
        assert version == 1 and table.metadata().partition_columns == ["day"]
    else:
        pytest.importorskip("pyiceberg")
        from pyiceberg.table import StaticTable

        properties = {"s3.access-key-id": s3.key, "s3.secret-access-key": s3.secret, "s3.endpoint": s3.endpoint, "s3.region": s3.region}
        table = StaticTable.from_metadata(f"{uri}/metadata/v2.metadata.json", properties)
        got = pl.from_arrow(table.scan().to_arrow())
        assert len(table.history()) == 2 and [field.name for field in table.spec().fields] == ["day"]
    support.assert_same(got.select(frame.columns).sort("id"), pl.concat([frame, frame]).sort("id"))
    check(workdir, s3, uri, format, pl.concat([frame, frame]))
