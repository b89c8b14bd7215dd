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
UNLIKE = "DuckDB gives other rows"
FEWER = "DuckDB gives other digits"


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


def recorded(path: pathlib.Path, context: pl.SQLContext, db: duckdb.DuckDBPyConnection, say=print) -> list[slt.Case]:
    """What both engines make of the queries of a file."""
    cases = []
    for query in filter(None, map(str.strip, path.read_text().splitlines())):
        sort = "nosort" if ordered(query) else "rowsort"
        try:
            frame = context.execute(query).collect()
        except Exception as error:
            say(f"left out, Polars: {query}: {str(error).splitlines()[0][:100]}")
            continue
        rows = frame.rows()
        case = slt.Case(query, slt.letters(frame.schema), sort, slt.lines(rows, sort))
        cases.append(case)
        try:
            other = db.execute(query).fetchall()
        except duckdb.Error as error:
            case.comments.append(f"DuckDB does not run it ({str(error).splitlines()[0][:60]})")
            continue
        theirs = slt.lines(other, sort)
        if theirs == case.rows:
            continue
        # DuckDB's means and quotients of decimals are floats, Polars' have a scale.
        unlike = FEWER if slt.lines(other, sort, 6) == slt.lines(rows, sort, 6) else UNLIKE
        case.comments.append(f"{unlike}: " + " | ".join(theirs)[:200])
        if unlike == UNLIKE:
            say(f"differs: {query}\n   polars {case.rows[:4]}\n   duckdb {theirs[:4]}")
    return cases


def written(directory: pathlib.Path, source: pathlib.Path, cases: list[slt.Case]) -> pathlib.Path:
    path = directory / f"{source.stem}.slt"
    slt.write(path, f"{path.stem.replace('_', ' ')}: recorded from cases/{source.name} by record.py", cases)
    return path


def record(path: pathlib.Path, context: pl.SQLContext, db: duckdb.DuckDBPyConnection) -> None:
    cases = recorded(path, context, db)
    written(HERE, path, cases)
    print(f"{path.stem}: {len(cases)} cases, {sum(UNLIKE in ' '.join(case.comments) for case in cases)} unlike DuckDB's")


def main() -> None:
    paths = [pathlib.Path(p) for p in sys.argv[1:]] or sorted((HERE / "cases").glob("*.sql"))
    with tempfile.TemporaryDirectory() as directory:
        context, db = engines(pathlib.Path(directory))
        for path in paths:
            record(path, context, db)


if __name__ == "__main__":
    main()
