"""Tables of a REST catalog (Apache's own): read and written by their names, by the side of PyIceberg."""

from __future__ import annotations

import shutil

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from tests.stores import iceberg_rest
from tests.stores.test_stores import run

pytest.importorskip("pyiceberg")
pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    if program := iceberg_rest.missing():
        pytest.skip(f"{program} is not on this machine")
    with iceberg_rest.serve(tmp_path_factory.mktemp("catalog")) as uri:
        yield uri


@pytest.fixture(scope="module")
def catalog(uri):
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog("lake", type="rest", uri=uri)
    catalog.create_namespace("sales")
    table = catalog.create_table("sales.orders", ORDERS.to_arrow().schema)
    table.append(ORDERS.to_arrow())
    table.append(ORDERS.head(2).to_arrow())
    return catalog


ORDERS = pl.DataFrame({"id": [1, 2, 3, 4], "region": ["a", "b", None, "a"], "amount": [1.5, 2.5, 3.5, None]})


def ask(workdir, uri, name, plan, *, failing=None, **spec) -> pl.DataFrame:
    spec = {"plan": plan, "catalogs": {"lake": {"uri": uri}}} | spec
    if "sink" not in spec:
        spec["sink"] = {"uri": f"{name}/", "format": "parquet", "mode": "overwrite"}
    run(workdir, name, spec, failing=failing)
    if failing or "uri" not in spec["sink"]:
        return pl.DataFrame()
    rows = pl.read_parquet(workdir / name / "*.parquet")
    shutil.rmtree(workdir / name)
    return rows


def test_tables_are_read_by_their_names(workdir, uri, catalog):
    both = pl.concat([ORDERS, ORDERS.head(2)])
    got = ask(workdir, uri, "sql", {"sql": "SELECT * FROM lake.sales.orders WHERE id >= 2 ORDER BY id, amount"})
    assert_frame_equal(got, both.filter(pl.col("id") >= 2).sort("id", "amount"))
    script = "result = scan('lake.sales.orders').group_by('region').len().sort('region')"
    got = ask(workdir, uri, "script", {"python": {"script": script}})
    assert_frame_equal(got, both.group_by("region").len().sort("region"), check_dtypes=False)
    first = catalog.load_table("sales.orders").history()[0].snapshot_id
    table = {"catalog": "lake", "table": "sales.orders", "options": {"snapshot_id": first}}
    got = ask(workdir, uri, "old", {"sql": "SELECT count(*) AS n FROM t"}, tables={"t": table})
    assert got.item() == 4


def test_tables_are_made_and_added_to_by_commits_of_the_catalog(workdir, uri, catalog):
    sink = {"catalog": "lake", "table": "sales.by_region", "mode": "append", "partitionBy": ["region"]}
    plan = {"sql": "SELECT region, sum(amount) AS amount, count(*) AS n FROM lake.sales.orders GROUP BY region"}
    ask(workdir, uri, "make", plan, sink=sink)
    ask(workdir, uri, "add", plan, sink={key: value for key, value in sink.items() if key != "partitionBy"})
    table = catalog.load_table("sales.by_region")
    want = pl.concat([ORDERS, ORDERS.head(2)]).group_by("region").agg(pl.col("amount").sum(), pl.len().cast(pl.Int64).alias("n"))
    got = pl.from_arrow(table.scan().to_arrow()).sort("region", "n")
    assert_frame_equal(got, pl.concat([want, want]).sort("region", "n"), check_row_order=False)
    assert [field.name for field in table.spec().fields] == ["region"] and len(table.history()) == 2
    got = pl.from_arrow(table.scan(row_filter="region = 'b'").to_arrow())
    assert got["n"].to_list() == [2, 2]
    # PyIceberg goes on where Floe stopped.
    table.append(want.head(1).to_arrow().cast(table.schema().as_arrow()))
    assert catalog.load_table("sales.by_region").scan().to_arrow().num_rows == 2 * want.height + 1


def test_what_is_not_there_is_named(workdir, uri, catalog):
    table = {"catalog": "lake", "table": "sales.order"}
    ask(workdir, uri, "no", {"sql": "SELECT * FROM t"}, tables={"t": table}, failing="sales.orders")
    ask(workdir, uri, "nospec", {"sql": "SELECT 1 AS x"}, sink={"catalog": "sea", "table": "a.b"}, failing="sea")
    sink = {"catalog": "lake", "table": "sales.orders", "mode": "error"}
    ask(workdir, uri, "there", {"sql": "SELECT 1 AS id"}, sink=sink, failing="overwrite")
    sink["mode"] = "append"
    ask(workdir, uri, "more", {"sql": "SELECT 1 AS id, 2 AS wrong"}, sink=sink, failing="wrong")
    assert catalog.load_table("sales.orders").scan().to_arrow().num_rows == 6
