"""Delta and Iceberg tables: Floe with two one-core workers beside Polars' own scans (`deltalake`, `pyiceberg`) on two threads, in
turn, in one run.

    python -m bench.lake --data DIR [--files 10000] [--repeats 3] [--save]

`DIR` holds the PDS-H tables. lineitem is written as a table of each format, in the order of its shipping dates and in 64 files, and
queries read a part of it. A table of many tiny files, of which a filter leaves two, shows what planning costs. Prints each query's
best seconds on both sides and their ratio.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable

import polars as pl
from polars.testing import assert_frame_equal

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python" / "src"))

import floe  # noqa: E402
from bench.functions import timed  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / "results" / "lake.json"
PARTS = 64


shipped, price = pl.col("l_shipdate"), pl.col("l_extendedprice")
QUERIES = {
    "all rows": lambda t: t.group_by("l_returnflag").agg(price.sum(), pl.len()).sort("l_returnflag"),
    "one month": lambda t: t.filter(shipped.is_between(dt.date(1995, 3, 1), dt.date(1995, 3, 31))).select(price.sum(), pl.len()),
    "no file": lambda t: t.filter(shipped > dt.date(2030, 1, 1)).select(pl.len()),
}


# A scan of Polars keeps what it has read of the table's metadata, so each run makes one anew.
Make = Callable[[], pl.LazyFrame]


def delta(path: str, parts: list[pl.DataFrame]) -> Make:
    for part in parts:
        part.write_delta(path, mode="append")
    return lambda: pl.scan_delta(path)


def iceberg(path: str, parts: list[pl.DataFrame]) -> Make:
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.table import StaticTable

    pathlib.Path(path).mkdir()
    catalog = SqlCatalog("bench", uri=f"sqlite:///{path}/catalog.db", warehouse=f"file://{path}")
    catalog.create_namespace("n")
    rows = [part.to_arrow() for part in parts]
    table = catalog.create_table("n.t", schema=rows[0].schema)
    for part in rows:
        table.append(part.cast(table.schema().as_arrow()))
    return lambda: pl.scan_iceberg(StaticTable.from_metadata(table.metadata_location))


def many(path: pathlib.Path, files: int) -> Make:
    """A Delta table of this many links to one file, whose log claims other bounds for each."""
    pl.DataFrame({"id": [1, 2], "s": ["a", "b"]}).write_delta(str(path / "one"))
    log = [json.loads(line) for line in next((path / "one" / "_delta_log").glob("*.json")).read_text().splitlines()]
    added = next(action["add"] for action in log if "add" in action)
    (path / "many" / "_delta_log").mkdir(parents=True)
    lines = [action for action in log if "add" not in action]
    for n in range(files):
        (path / "many" / f"{n}.parquet").hardlink_to(path / "one" / added["path"])
        stats = {"numRecords": 2, "minValues": {"id": n * 10}, "maxValues": {"id": n * 10 + 5}, "nullCount": {"id": 0}}
        lines.append({"add": added | {"path": f"{n}.parquet", "stats": json.dumps(stats)}})
    log = path / "many" / "_delta_log" / f"{0:020}.json"
    log.write_text("\n".join(json.dumps(line) for line in lines))
    return lambda: pl.scan_delta(str(path / "many"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--save", action="store_true", help=f"write bench/results/{RESULTS.name}")
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory, floe.Local(workers=2) as ctx:
        items = pl.scan_parquet(f"{options.data}/lineitem/*.parquet").sort("l_shipdate").collect()
        size = -(-items.height // PARTS)
        parts = list(items.iter_slices(size))
        asked: dict[str, tuple[Make, Callable[[pl.LazyFrame], pl.LazyFrame]]] = {}
        for format, write in (("delta", delta), ("iceberg", iceberg)):
            make = write(f"{directory}/{format}", parts)
            asked |= {f"{format}, {name}": (make, query) for name, query in QUERIES.items()}
        del items, parts
        two = lambda t: t.filter(pl.col("id").is_between(500, 511)).select(pl.len())  # noqa: E731
        asked[f"delta, 2 of {options.files} files"] = (many(pathlib.Path(directory), options.files), two)
        for name, (make, query) in asked.items():
            ours, theirs = [], []
            for _ in range(options.repeats):
                seconds, expected = timed(lambda: query(make()).collect())  # noqa: B023
                theirs.append(seconds)
                seconds, got = timed(lambda: query(make()).remote(ctx).distributed().collect())  # noqa: B023
                ours.append(seconds)
                assert_frame_equal(got, expected)
            figures[name] = {
                "polars_seconds": round(min(theirs), 3),
                "floe_seconds": round(min(ours), 3),
                "ratio": round(min(ours) / min(theirs), 2),
            }
            print(name, figures[name], flush=True)
    if options.save:
        RESULTS.write_text(json.dumps({"date": str(dt.date.today()), "polars": pl.__version__, "queries": figures}, indent=1) + "\n")


if __name__ == "__main__":
    main()
