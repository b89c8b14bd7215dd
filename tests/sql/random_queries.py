"""Checks random queries: python -m tests.sql.random_queries [--count 200] [--seed 9]

Each runs on Floe, forced into stages on three workers, half of them without broadcasts, and on Polars 2.1 over the same
files. Prints the seed, every query whose results differ, and a summary; ends non-zero if any differs.
"""

from __future__ import annotations

import argparse
import collections
import decimal
import math
import pathlib
import sys
import tempfile

import polars as pl

from tests.sql import generate, record
from tests.sql.engine import BY_HASH, Engine


def key(v) -> tuple:
    """By what values are sorted: floats as far as all engines agree on them."""
    if v is None:
        return (2, 0)
    if isinstance(v, float):
        return (1, "nan") if math.isnan(v) else (0, round(v, 6))
    if isinstance(v, (int, decimal.Decimal)) and not isinstance(v, bool):
        return (0, v)
    return (1, str(v))


def comparable(frame: pl.DataFrame, ordered: bool) -> list[tuple]:
    """Rows to compare: in their order where the query gives them one, else as a multiset."""
    return frame.rows() if ordered else sorted(frame.rows(), key=lambda row: tuple(map(key, row)))


def close(a: list[tuple], b: list[tuple]) -> bool:
    """Whether rows are equal: floats nearly, all else exactly."""

    def same(u, v) -> bool:
        if isinstance(u, float) and isinstance(v, float):
            return u == v or math.isnan(u) and math.isnan(v) or abs(u - v) <= 1e-6 + 1e-9 * abs(u)
        return u == v and type(u) is type(v)

    return len(a) == len(b) and all(same(u, v) for x, y in zip(a, b) for u, v in zip(x, y))


def check(seed: int, count: int, engine: Engine, say=print) -> tuple[collections.Counter, list[str]]:
    outcomes, wrong = collections.Counter(), []
    with tempfile.TemporaryDirectory() as directory:
        uris = generate.tables(seed, pathlib.Path(directory))
        context = pl.SQLContext({name: pl.scan_parquet(uri) for name, uri in uris.items()}, eager=False)
        for at in range(count):
            query = generate.query(seed, at)
            try:
                want = context.execute(query).collect()
            except Exception as error:
                want = f"{type(error).__name__}: {str(error).splitlines()[0]}"
            try:
                got, summary = engine.run(query, uris, execution=BY_HASH if at % 2 else {})
            except RuntimeError as error:
                got = str(error).removeprefix("sql: ")
            if isinstance(want, str) or isinstance(got, str):
                same = isinstance(want, str) and isinstance(got, str)
                outcomes["both refuse" if same else "one refuses"] += 1
            else:
                ordered = record.ordered(query)
                same = want.schema == got.schema and close(comparable(want, ordered), comparable(got, ordered))
                outcomes["in order"] += same and ordered
                outcomes["equal" if same else "differs"] += 1
                outcomes["in more than one stage"] += same and len(summary["stages"]) > 1
            if not same:
                wrong.append(query)
                show = lambda r: r if isinstance(r, str) else f"{r.schema}\n      {comparable(r, record.ordered(query))[:4]}"
                say(f"seed {seed} query {at}: {query}\n   polars {show(want)}\n   floe   {show(got)}")
    return outcomes, wrong


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=9)
    args = parser.parse_args()
    print(f"seed {args.seed}")
    engine = Engine()
    try:
        outcomes, wrong = check(args.seed, args.count, engine)
    finally:
        engine.close()
    print(", ".join(f"{n} {what}" for what, n in outcomes.items()))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
