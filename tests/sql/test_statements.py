"""Statements about tables and queries: SUMMARIZE against DuckDB, DESCRIBE, SHOW TABLES, EXPLAIN."""

from __future__ import annotations

import re

import duckdb
import polars as pl
import pytest

from tests.sql import tables
from tests.sql.engine import BY_HASH

WAYS = {"single-node": ("single-node", {}), "distributed": ("distributed", {}), "by-hash": ("distributed", BY_HASH)}
FIGURES = ["column_name", "column_type", "min", "max", "unique", "avg", "std", "q25", "q50", "q75", "count", "null_count"]
NUMBERS = ("i", "f", "decimal")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("table", ["emp", "dept", "sales", "nums", "empty"])
def test_summaries_are_what_duckdb_counts(table, way, engine, small):
    mode, execution = WAYS[way]
    got, _ = engine.run(f"summarize {table}", small, mode=mode, execution=execution)
    assert got.columns == FIGURES
    assert got["column_name"].to_list() == tables.frames()[table].columns
    db = duckdb.connect()
    for row in got.iter_rows(named=True):
        column = f'"{row["column_name"]}"'
        of = lambda what: db.execute(f"select {what} from read_parquet('{small[table]}')").fetchone()
        count, nulls, distinct, least, most = of(f"count(*), count(*) - count({column}), count(distinct {column}), min({column}), max({column})")
        assert (row["count"], row["null_count"], row["unique"]) == (count, nulls, distinct), row
        if row["column_type"].startswith(NUMBERS):
            figures = of(f"avg({column}), stddev_samp({column}::double), " + ", ".join(f"quantile_cont({column}::double, {q})" for q in (0.25, 0.5, 0.75)))
            for name, want in zip(["avg", "std", "q25", "q50", "q75"], figures):
                assert row[name] == (want if want is None else pytest.approx(float(want))), (name, row)
            assert [v and float(v) for v in (row["min"], row["max"])] == [v and float(v) for v in (least, most)], row
        else:
            assert row["avg"] is row["std"] is row["q50"] is None
            text = lambda v: v if v is None or isinstance(v, str) else str(v).lower()
            assert (text(row["min"]) or "").removesuffix(".000000") == (text(least) or ""), row
            assert (text(row["max"]) or "").removesuffix(".000000") == (text(most) or ""), row


def test_a_query_is_summarized_and_described(engine, small):
    query = "select region, sum(amount) as total, array_agg(qty) as all_of_it from sales where id < $below group by region"
    got, _ = engine.run(f"summarize {query}", small, params={"below": 60})
    assert got["count"].to_list() == [4, 4, 4] and got["unique"].to_list() == [4, 4, None]
    got, _ = engine.run(f"describe {query}", small, params={"below": 60})
    assert got.rows() == [("region", "str"), ("total", "decimal[38,2]"), ("all_of_it", "list[i32]")]
    got, _ = engine.run("describe nest", small)
    assert got["column_type"].to_list() == ["i64", "list[i64]", "list[str]", "struct[2]"]
    assert engine.run("show tables", small)[0]["name"].to_list() == sorted(small)


def test_explain_shows_the_stages(engine, small):
    query = "select d.city, count(*) as n from emp e join dept d on e.dept_id = d.id group by d.city"
    got, _ = engine.run(f"explain {query}", small, execution=BY_HASH)
    text = "\n".join(got.to_series())
    assert got.width == 1 and "stage 0" in text and "hash" in text.lower(), text


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> dict[str, str]:
    """Two tables whose join has millions of rows, and a small one that leaves few of the second."""
    folder = tmp_path_factory.mktemp("chain")
    found = {}
    for name, frame in {
        "wide": pl.DataFrame({"k": [at % 10 for at in range(20_000)], "v": 1}),
        "deep": pl.DataFrame({"k": [at % 10 for at in range(20_000)], "id": range(20_000)}),
        "few": pl.DataFrame({"id": range(0, 20_000, 5_000), "name": list("abcd")}),
    }.items():
        frame.write_parquet(folder / f"{name}.parquet")
        found[name] = str(folder / f"{name}.parquet")
    return found


def test_explain_shows_the_order_of_joins_and_why(engine, chain):
    query = "select f.name, sum(w.v) as n from wide w join deep d on w.k = d.k join few f on d.id = f.id group by f.name order by f.name"
    want = [(name, 2_000) for name in "abcd"]
    explained = "\n".join(engine.run(f"explain {query}", chain)[0].to_series())
    note = re.search(r"joins are done in the order (.*): about (.*) rows on the way, (.*) as written", explained)
    assert note, explained
    tables = [re.search(r"(wide|deep|few)", name)[1] for name in note[1].split(", ")]
    assert sorted(tables) == ["deep", "few", "wide"] and tables[2] == "wide" and "million" in note[3], note[0]
    assert engine.run(query, chain)[0].rows() == want
    off = {"reorderJoins": False}
    assert "joins are done" not in "\n".join(engine.run(f"explain {query}", chain, execution=off)[0].to_series())
    assert engine.run(query, chain, execution=off)[0].rows() == want
