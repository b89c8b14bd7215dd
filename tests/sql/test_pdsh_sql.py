"""The 22 PDS-H texts as SQL, on one and on three workers, against Polars 2.1 and DuckDB running the same texts."""

from __future__ import annotations

import duckdb
import polars as pl
import polars.selectors as cs
import pytest
from polars.testing import assert_frame_equal

from bench import pdsh

SCALE = "1"


@pytest.fixture(scope="module")
def inputs(data):
    directory = data(SCALE)
    uris = {table: pdsh.uri(directory, table) for table in pdsh.TABLES}
    db = duckdb.connect()
    for table, uri in uris.items():
        db.execute(f"create view {table} as select * from read_parquet('{uri}')")
    return uris, pl.SQLContext({table: pl.scan_parquet(uri) for table, uri in uris.items()}, eager=False), db


def plain(df: pl.DataFrame) -> pl.DataFrame:
    return df.with_columns(cs.numeric().cast(pl.Float64))


def assert_same(got: pl.DataFrame, want: pl.DataFrame) -> None:
    assert_frame_equal(plain(got), plain(want), rel_tol=1e-9, abs_tol=1e-6)


@pytest.mark.parametrize("number", pdsh.QUERIES)
def test_query(number, engine, inputs, s3, s3_tables_of):
    uris, context, db = inputs
    text = pdsh.sql(number, float(SCALE)).strip().rstrip(";")
    want = context.execute(text).collect(engine="streaming")
    assert_same(want, pl.DataFrame(db.sql(text).to_arrow_table()))
    storage = s3.storage
    storage["options"] |= s3.credentials
    stored = {table: pdsh.uri(s3_tables_of(SCALE), table) for table in pdsh.TABLES}
    for workers in (1, 3):
        for tables, access in ((uris, None), (stored, storage)):
            got, summary = engine.run(text, tables, workers=workers, storage=access)
            assert got.schema == want.schema
            assert_same(got, want)
            if workers == 3:
                assert len(summary["stages"]) > 1
                alone = [f"{one['node']}: {one['reason']}" for one in summary.get("singleWorker", [])]
                assert not alone, f"q{number}: on one worker: {alone}"
