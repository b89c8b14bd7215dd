"""The Python package on this machine: how long a context takes to start, what a query on tiny data costs over Polars alone,
how fast rows come back.

    python -m bench.python [--bytes 1000000000] [--repeats 9] [--save]

Fails above its aims: a start of 1 s, 50 ms a query, 500 MB/s. Other work on the machine shows in all of them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Callable

import polars as pl

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python" / "src"))

import floe  # noqa: E402
from bench.report import machine  # noqa: E402

RESULTS = pathlib.Path(__file__).parent / "results"
START_SECONDS, QUERY_SECONDS, BYTES_A_SECOND = 1.0, 0.05, 500e6


def seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def table(size: int) -> pl.LazyFrame:
    """So many bytes of rows, made by the workers: whole numbers, floats and text."""
    rows = size // 40
    number = pl.int_range(rows, eager=False)
    lf = pl.LazyFrame().select(number.alias("a"))
    text = pl.lit("some text and number ") + (pl.col("a") % 1000).cast(pl.String)
    return lf.with_columns((pl.col("a") * 0.5).alias("b"), text.alias("s"))


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--bytes", type=int, default=1_000_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--save", action="store_true", help="write bench/results/python.json")
    options = parser.parse_args()

    starts = []
    for _ in range(options.repeats):
        begin = time.perf_counter()
        with floe.Local(workers=options.workers):
            starts.append(time.perf_counter() - begin)

    tiny = pl.LazyFrame({"k": [1, 2, 1, 3] * 25, "v": range(100)}).group_by("k").agg(pl.col("v").sum()).sort("k")
    with floe.Local(workers=options.workers, results_memory=4 * options.bytes) as ctx:
        tiny.remote(ctx).show()
        shows = [seconds(lambda: tiny.remote(ctx).show()) for _ in range(options.repeats)]
        alone = [seconds(lambda: tiny.limit(10).collect()) for _ in range(options.repeats)]

        query = table(options.bytes).remote(ctx)._ready()._start(floe.ClientDst(), pl.QueryOptFlags())
        query._succeed()
        frames: list[pl.DataFrame] = []
        reads = [seconds(lambda: frames.append(query._frame())) for _ in range(3)]
        size = frames[0].estimated_size()
        begin = time.perf_counter()
        batches = sum(frame.estimated_size() for frame in query._batches())
        streamed = time.perf_counter() - begin

    figures = {
        "polars": pl.__version__,
        "start_seconds": round(statistics.median(starts), 3),
        "show_over_polars_ms": round(1000 * (statistics.median(shows) - statistics.median(alone)), 2),
        "result_bytes": size,
        "result_mb_per_second": round(size / min(reads) / 1e6),
        "batches_mb_per_second": round(batches / streamed / 1e6),
    }
    print(json.dumps(figures, indent=2))
    if options.save:
        about = {"machine": machine(), "date": datetime.date.today().isoformat()}
        about |= {"workers": options.workers, "repeats": options.repeats}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "python.json").write_text(json.dumps(about | figures, indent=1) + "\n")
    missed = [
        name
        for name, bad in {
            "start": figures["start_seconds"] > START_SECONDS,
            "show": figures["show_over_polars_ms"] > 1000 * QUERY_SECONDS,
            "result": size / min(reads) < BYTES_A_SECOND,
        }.items()
        if bad
    ]
    if missed:
        print(f"python: above the aim: {', '.join(missed)}", file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
