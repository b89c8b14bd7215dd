"""Checks the 22 scripts on single-node Polars against DuckDB running the SQL texts on the same files.

    python -m bench.pdsh.check [--data DIR] [--scale-factor 1] [--queries 1,2,3]
"""

from __future__ import annotations

import argparse
import sys
import time

import duckdb
import polars as pl
import polars.selectors as cs
from polars.testing import assert_frame_equal

from bench import pdsh

# DuckDB works in decimals where the scripts work in doubles.
RELATIVE, ABSOLUTE = 1e-9, 1e-6


def plain(df: pl.DataFrame) -> pl.DataFrame:
    """Numbers as doubles: the engines name their types differently (DuckDB's sum of integers is a decimal)."""
    return df.with_columns(cs.numeric().cast(pl.Float64))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--scale-factor", type=float, default=1.0)
    parser.add_argument("--queries", default=",".join(map(str, pdsh.QUERIES)))
    args = parser.parse_args()

    db = duckdb.connect()
    for table in pdsh.TABLES:
        db.execute(f"create view {table} as select * from read_parquet('{pdsh.uri(args.data, table)}')")
    bad = 0
    for number in map(int, args.queries.split(",")):
        begin = time.perf_counter()
        got = pdsh.query(number, args.data, args.scale_factor).collect(engine="streaming")
        middle = time.perf_counter()
        want = pl.DataFrame(db.sql(pdsh.sql(number, args.scale_factor)).to_arrow_table())
        end = time.perf_counter()
        try:
            assert want.height > 0, "the SQL text gives no rows"
            assert_frame_equal(plain(got), plain(want), rel_tol=RELATIVE, abs_tol=ABSOLUTE)
            outcome = "equal"
        except AssertionError as error:
            bad += 1
            outcome = f"DIFFERS\n{error}\n{got}\n{want}"
        print(f"q{number:<3} {got.height:>6} rows  polars {middle - begin:6.3f} s  duckdb {end - middle:6.3f} s  {outcome}")
    print(f"{bad} of the queries differ" if bad else "all equal")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
