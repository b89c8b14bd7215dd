"""The lists of functions say what runs."""

from __future__ import annotations

import random
import unicodedata

import duckdb
import polars as pl

from tests.sql import functions


def test_the_lists_are_those_that_run(engine):
    found, wrong = functions.running(engine)
    assert not wrong, wrong
    docs, rust = functions.written()
    assert docs == functions.documented(found), "python -m tests.sql.functions --write"
    assert rust == functions.rust(found), "python -m tests.sql.functions --write"
    assert sum(map(len, found.values())) > 160


def test_no_function_of_polars_is_forgotten():
    """Of all that DuckDB calls a function, and the names that Polars has beside those of others."""
    names = {name for (name,) in duckdb.sql("select distinct function_name from duckdb_functions()").fetchall()}
    names = {name for name in names if name.isidentifier() and name.islower()}
    own = {"approx_quantile", "bitand", "columns", "cotd", "covar", "dayofweek", "erf", "erfc", "grouping_id", "initcap", "stdev_samp", "week"}
    assert len(names) > 500
    assert functions.forgotten(names | own) == []


def test_initcap_knows_all_letters(engine, tmp_path):
    """At the beginning, in and after a word; and beside a sigma, whose small form depends on what is around it."""
    rng = random.Random(4)
    letters = [c for c in map(chr, range(0x110000)) if unicodedata.category(c) not in ("Cn", "Cs", "Co")]
    beside = ["Σ", "σ", "ς", "Α", "'", "ʰ", " ", "İ", "ß", "1", "a", "B", "·", "\u0307", "ǆ", "中", "_", "ﬁ", *rng.sample(letters, 40)]
    texts = [f"{c}a{c}{c}B 1{c}x" for c in letters] + ["".join(rng.choices(beside, k=rng.randrange(9))) for _ in range(50_000)]
    pl.DataFrame({"s": [*texts, None]}).write_parquet(tmp_path / "t.parquet", row_group_size=20_000)
    query = "select s, initcap(s) as t from t"
    got, _ = engine.run(query, {"t": str(tmp_path / "t.parquet")})
    want = pl.SQLContext(t=pl.scan_parquet(tmp_path / "t.parquet")).execute(query).collect()
    unlike = got.join(want, on="s", nulls_equal=True).filter(~pl.col("t").eq_missing(pl.col("t_right"))).unique()
    assert got.height == want.height > 150_000
    assert unlike.rows() == []
