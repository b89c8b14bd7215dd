"""Records what the SQL suite expects: python -m tests.sql.record [FILE.sql …]

Each line of `cases/*.sql` is a query. DuckDB and Polars run it over the same tables; where both give the same rows, these
become the case in `*.slt`. Where they differ Polars' rows stand and the case says so; what Polars does not run is left
out and named here.
"""

from __future__ import annotations

import pathlib
import sys
import tempfile

import duckdb
import polars as pl

from tests.sql import slt, tables

HERE = pathlib.Path(__file__).parent


def engines(directory: pathlib.Path) -> tuple[pl.SQLContext, duckdb.DuckDBPyConnection]:
    globs = tables.write(directory)
    frames = {name: pl.scan_parquet(glob) for name, glob in globs.items()}
    db = duckdb.connect()
    for name, glob in globs.items():
        db.execute(f"create view {name} as select * from read_parquet('{glob}')")
    return pl.SQLContext(frames, eager=False), db


def ordered(query: str) -> bool:
    """Whether the outermost level of a query has an ORDER BY."""
    depth, outer = 0, ""
    for char in query.lower():
        depth += {"(": 1, ")": -1}.get(char, 0)
        outer += char if depth == 0 else " "
    return "order by" in outer


def record(path: pathlib.Path, context: pl.SQLContext, db: duckdb.DuckDBPyConnection) -> None:
    cases, unlike = [], 0
    for query in filter(None, map(str.strip, path.read_text().splitlines())):
        sort = "nosort" if ordered(query) else "rowsort"
        try:
            rows = context.execute(query).collect().rows()
        except Exception as error:
            print(f"left out, Polars: {query}: {str(error).splitlines()[0][:100]}")
            continue
        try:
            other = db.execute(query).fetchall()
        except duckdb.Error as error:
            other = f"does not run it ({str(error).splitlines()[0][:60]})"
        case = slt.Case(query, sort=sort, rows=slt.lines(rows, sort))
        if isinstance(other, str):
            case.comments.append(f"DuckDB {other}")
        elif slt.lines(other, sort) != case.rows:
            unlike += 1
            case.comments.append("DuckDB gives other rows: " + " | ".join(slt.lines(other, sort))[:200])
            print(f"differs: {query}\n   polars {case.rows[:4]}\n   duckdb {slt.lines(other, sort)[:4]}")
        columns = list(zip(*rows)) or [()] * 1
        case.types = "".join(next((slt.letter(v) for v in column if v is not None), "T") for column in columns)
        cases.append(case)
    slt.write(HERE / f"{path.stem}.slt", f"{path.stem.replace('_', ' ')}: recorded from cases/{path.name} by record.py", cases)
    print(f"{path.stem}: {len(cases)} cases, {unlike} unlike DuckDB's")


def main() -> None:
    paths = [pathlib.Path(p) for p in sys.argv[1:]] or sorted((HERE / "cases").glob("*.sql"))
    with tempfile.TemporaryDirectory() as directory:
        context, db = engines(pathlib.Path(directory))
        for path in paths:
            record(path, context, db)


if __name__ == "__main__":
    main()
