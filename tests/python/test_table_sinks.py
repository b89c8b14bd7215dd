"""Delta and Iceberg tables that the workers write: read back by other engines, row for row, and committed once."""

from __future__ import annotations

import datetime as dt
import glob
import json
import os
import threading
import uuid
from decimal import Decimal

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import FloeError, UnsupportedPlanError

deltalake = pytest.importorskip("deltalake")
pytest.importorskip("pyiceberg")

ROWS = 20_000


@pytest.fixture(scope="module")
def rows() -> pl.DataFrame:
    day = dt.date(2026, 1, 1)
    return pl.DataFrame(
        {
            "id": range(ROWS),
            "day": [None if n % 11 == 0 else day + dt.timedelta(days=n % 4) for n in range(ROWS)],
            "kind": [["a b", "c/d=é", "ß", None][n % 4] for n in range(ROWS)],
            "price": [None if n % 7 == 0 else n * 0.25 for n in range(ROWS)],
            "at": [dt.datetime(2026, 1, 1, tzinfo=dt.timezone.utc) + dt.timedelta(minutes=n) for n in range(ROWS)],
            "local": [dt.datetime(1969, 12, 31) + dt.timedelta(hours=n % 60) for n in range(ROWS)],
            "cents": [Decimal(n).scaleb(-2) for n in range(ROWS)],
            "raw": [bytes([n % 256]) for n in range(ROWS)],
            "yes": [n % 3 == 0 for n in range(ROWS)],
            "tags": [["t", None][: n % 3] for n in range(ROWS)],
            "place": [{"lat": n / 2, "name": f"p{n % 5}"} for n in range(ROWS)],
        },
        schema_overrides={"cents": pl.Decimal(12, 2)},
    )


@pytest.fixture(scope="module")
def source(rows, tmp_path_factory) -> str:
    """The rows in several files, so that several tasks write."""
    directory = tmp_path_factory.mktemp("source")
    for at in range(4):
        rows.slice(at * ROWS // 4, ROWS // 4).write_parquet(directory / f"{at}.parquet")
    return f"{directory}/*.parquet"


def newest_metadata(root) -> str:
    return max(glob.glob(f"{root}/metadata/*.metadata.json"), key=os.path.getmtime)


def iceberg(root):
    from pyiceberg.table import StaticTable

    return StaticTable.from_metadata(newest_metadata(root))


def read(format: str, root) -> pl.DataFrame:
    """The rows as another engine reads them."""
    if format == "delta":
        return pl.from_arrow(deltalake.DeltaTable(str(root)).to_pyarrow_table())
    return pl.from_arrow(iceberg(root).scan().to_arrow())


def write(lf: pl.LazyFrame, ctx, format: str, root, **options):
    remote = lf.remote(ctx).distributed()
    query = remote.sink_delta(root, **options) if format == "delta" else remote.sink_iceberg(root, **options)
    result = query.await_result()
    result.raise_err()
    return result


def same(got: pl.DataFrame, want: pl.DataFrame) -> None:
    assert_frame_equal(got.select(want.columns).sort("id"), want.sort("id"))


FORMATS = pytest.mark.parametrize("format", ["delta", "iceberg"])


@FORMATS
def test_other_engines_read_what_was_written(ctx, rows, source, tmp_path, format):
    lf, root = pl.scan_parquet(source), tmp_path / "t"
    result = write(lf, ctx, format, root, mode="error")
    assert result.n_rows_total == ROWS and result.location == [str(root)] and result.file_type == format
    same(read(format, root), rows)
    same(pl.read_delta(str(root)) if format == "delta" else pl.scan_iceberg(newest_metadata(root)).collect(), rows)
    table = {"uri": str(root), "format": format}
    same(floe.sql("select * from t", {"t": table}, ctx).collect(), rows)
    with pytest.raises(FloeError, match="exists|there is a table|already"):
        write(lf, ctx, format, root, mode="error")
    write(lf.head(10), ctx, format, root, mode="append")
    same(read(format, root), pl.concat([rows, rows.head(10)]))
    write(lf.filter(pl.col("id") < 5), ctx, format, root, mode="overwrite")
    same(read(format, root), rows.head(5))


@FORMATS
def test_files_are_parted_as_asked_and_left_out_by_filters(ctx, rows, source, tmp_path, format):
    root = tmp_path / "t"
    write(pl.scan_parquet(source), ctx, format, root, mode="error", partition_by=["day", "kind"])
    same(read(format, root), rows)
    # The next writer finds the partitioning in the table.
    write(pl.scan_parquet(source).head(100), ctx, format, root, mode="append")
    same(read(format, root), pl.concat([rows, rows.head(100)]))
    table = {"uri": str(root), "format": format}
    where = "day = date '2026-01-02' and kind = 'c/d=é'"
    query = floe.sql(f"select count(*) as n from t where {where}", {"t": table}, ctx)
    files = {"day": dt.date(2026, 1, 2), "kind": "c/d=é"}
    want = pl.concat([rows, rows.head(100)]).filter(day=files["day"], kind=files["kind"]).height
    assert query.collect().item() == want > 0
    stages = query.distributed().explain()
    assert " files)" in stages and "(" in stages, stages
    of, total = [int(n) for n in stages.split(" files)")[0].rsplit("(", 1)[1].split(" of ")]
    assert of < total / 3
    with pytest.raises((FloeError, pl.exceptions.PolarsError), match="partition"):
        write(pl.scan_parquet(source), ctx, format, root, mode="append", partition_by=["kind"])


TRANSFORMS = ["year(local)", "month(at)", "day(local)", "hour(local)", "bucket(4, id)", "bucket(3, kind)",
              "bucket(5, cents)", "bucket(4, day)", "bucket(4, at)", "bucket(4, raw)", "truncate(1000, id)", "truncate(1, kind)"]


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_iceberg_are_those_of_pyiceberg(ctx, rows, source, tmp_path, transform):
    from pyiceberg.expressions import EqualTo

    write(pl.scan_parquet(source), ctx, "iceberg", tmp_path / "t", mode="error", partition_by=[transform])
    table = iceberg(tmp_path / "t")
    column = transform.rstrip(")").split("(")[1].split(",")[-1].strip()
    # pyiceberg leaves out files by its own transform of the value: a wrong partition would lose the row.
    for at in (1, 2, 777, ROWS - 1):
        value = rows[column][at]
        if value is None:
            continue
        literal = value if not isinstance(value, (dt.date, dt.datetime)) else value.isoformat()
        found = table.scan(row_filter=EqualTo(column, literal)).to_arrow()
        assert found.num_rows == rows.filter(pl.col(column) == value).height
    values = [task.file.partition for task in table.scan().plan_files()]
    # All rows are of one month.
    assert len({str(value) for value in values}) > 1 or transform == "month(at)"
    same(read("iceberg", tmp_path / "t"), rows)


@FORMATS
def test_tables_of_other_writers_are_added_to(ctx, rows, tmp_path, format):
    root = str(tmp_path / "t")
    part = rows.select("id", "kind", "price", pl.col("id").cast(pl.Int64).alias("wide")).head(100)
    if format == "delta":
        part.write_delta(root, delta_write_options={"partition_by": ["kind"]})
    else:
        from pyiceberg.catalog.sql import SqlCatalog

        catalog = SqlCatalog("c", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
        catalog.create_namespace("n")
        made = catalog.create_table("n.t", schema=part.to_arrow().schema, location=f"file://{root}")
        made.append(part.to_arrow())
    narrower = part.lazy().with_columns(pl.col("id") + 1000, pl.col("wide").cast(pl.Int32)).drop("price")
    if format == "iceberg":
        # The catalog says which metadata is current: a root without its catalog is another table's business.
        with pytest.raises(FloeError, match="catalog|metadata"):
            write(narrower, ctx, format, root, mode="append")
        return
    write(narrower, ctx, format, root, mode="append")
    want = pl.concat([part, narrower.with_columns(pl.col("wide").cast(pl.Int64)).collect()], how="diagonal")
    same(read(format, root), want)
    for bad, says in [
        (narrower.with_columns(pl.lit(1).alias("new")), "new"),
        (narrower.with_columns(pl.lit("x").alias("wide")), "wide"),
    ]:
        with pytest.raises((FloeError, pl.exceptions.PolarsError), match=says):
            write(bad, ctx, format, root, mode="append")
    same(read(format, root), want)


@FORMATS
def test_types_that_no_table_has_are_refused_by_the_columns_name(ctx, tmp_path, format):
    one = pl.LazyFrame({"x": [1]})
    for dtype in (pl.Datetime("ns"), pl.Time, pl.Duration("us"), pl.Int128):
        with pytest.raises(FloeError, match="column 'x'"):
            write(one.with_columns(pl.col("x").cast(dtype)), ctx, format, tmp_path / "t", mode="append")
    assert not (tmp_path / "t").exists()
    wide = {"a": pl.UInt8, "b": pl.UInt16, "c": pl.UInt32, "d": pl.UInt64}
    frame = pl.DataFrame({name: [0, dtype.max().pipe(lambda e: pl.select(e).item())] for name, dtype in wide.items()}, schema=wide)
    frame = frame.with_columns(pl.Series("e", ["u", "v"], dtype=pl.Enum(["v", "u"])), pl.Series("f", [[1, 2], [3, 4]], dtype=pl.Array(pl.Int64, 2)))
    write(frame.lazy(), ctx, format, tmp_path / "t", mode="append")
    got = read(format, tmp_path / "t").sort("a")
    for name in wide:
        assert got[name].cast(pl.Int128).to_list() == frame[name].cast(pl.Int128).to_list()
    assert got["e"].to_list() == ["u", "v"] and got["f"].to_list() == [[1, 2], [3, 4]]


@FORMATS
def test_a_failed_query_leaves_no_file_and_no_commit(ctx, rows, source, tmp_path, format):
    root = tmp_path / "t"
    write(pl.scan_parquet(source).head(10), ctx, format, root, mode="append")
    before = sorted(path for path in root.rglob("*") if path.is_file())
    bad = pl.scan_parquet(source).with_columns(pl.when(pl.col("id") == ROWS - 1).then(pl.lit("x")).otherwise(pl.lit("1")).cast(pl.Int64).alias("id"))
    with pytest.raises((FloeError, pl.exceptions.PolarsError)):
        write(bad, ctx, format, root, mode="append")
    assert sorted(path for path in root.rglob("*") if path.is_file()) == before
    assert not [path for path in root.parent.rglob(".floe-*") if path.is_dir() and any(path.iterdir())]


@FORMATS
def test_writers_at_once_lose_nothing(ctx, rows, tmp_path, format):
    root, errors = tmp_path / "t", []
    write(rows.lazy().head(0), ctx, format, root, mode="append")

    def add(at: int) -> None:
        try:
            write(rows.lazy().slice(at * 10, 10), ctx, format, root, mode="append")
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=add, args=(at,)) for at in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors
    same(read(format, root), rows.head(80))


def test_the_history_names_the_query(ctx, rows, tmp_path):
    result = write(rows.lazy().head(3), ctx, "delta", tmp_path / "d", mode="append")
    [log] = (tmp_path / "d" / "_delta_log").glob("*.json")
    actions = [json.loads(line) for line in log.read_text().splitlines()]
    [txn] = [action["txn"] for action in actions if "txn" in action]
    assert txn["appId"].startswith("floe-") and uuid.UUID(txn["appId"].removeprefix("floe-"))
    assert deltalake.DeltaTable(str(tmp_path / "d")).history()[0]["engineInfo"].startswith("Floe")
    write(rows.lazy().head(3), ctx, "iceberg", tmp_path / "i", mode="append")
    summary = iceberg(tmp_path / "i").current_snapshot().summary
    assert summary.additional_properties["floe.query"] and summary["added-records"] == "3"
    assert result.n_rows_total == 3


def test_what_is_no_table_of_a_root_is_refused(ctx, rows, tmp_path):
    with pytest.raises(UnsupportedPlanError, match="catalog"):
        rows.lazy().remote(ctx).sink_iceberg("t", mode="append", catalog=object())
    with pytest.raises(UnsupportedPlanError, match="object"):
        rows.lazy().remote(ctx).sink_iceberg(object(), mode="append")
    with pytest.raises(FloeError, match="week"):
        write(rows.lazy(), ctx, "iceberg", tmp_path / "t", mode="append", partition_by="week(at)")
    with pytest.raises(FloeError, match="values of columns only"):
        write(rows.lazy(), ctx, "delta", tmp_path / "t", mode="append", partition_by="day(at)")
