"""Python functions in a plan: Floe with two one-core workers beside single-process Polars on two threads, in turn, in one run.

    python -m bench.functions [--rows 10000000] [--groups 100000] [--repeats 3]

Prints each query's best seconds on both sides and their ratio; fails below the aim for the element-wise function.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable

import polars as pl
from polars.testing import assert_frame_equal

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "python" / "src"))

import floe  # noqa: E402

AIM = 1.6


def queries(numbers: pl.LazyFrame, groups: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    return {
        "elements": numbers.select(
            pl.col("n").map_elements(lambda n: (n * 31 + 7) % 1013, return_dtype=pl.Int64).sum()
        ),
        "element-wise batches": numbers.select(
            pl.col("x").map_batches(lambda s: (s * 2 + 1).sqrt(), return_dtype=pl.Float64, is_elementwise=True).sum()
        ),
        "groups": groups.group_by("g")
        .agg(pl.col("x").map_batches(lambda s: s.max() - s.min(), return_dtype=pl.Float64, returns_scalar=True))
        .select(pl.col("x").sum()),
    }


def timed(work: Callable[[], pl.DataFrame]) -> tuple[float, pl.DataFrame]:
    begin = time.perf_counter()
    frame = work()
    return time.perf_counter() - begin, frame


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--groups", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    figures: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as directory, floe.Local(workers=2) as ctx:
        for name, count in (("numbers", options.rows), ("groups", options.groups * 10)):
            n = pl.int_range(count, eager=True)
            frame = pl.DataFrame({"n": n, "g": n % options.groups, "x": n / 7})
            frame.write_parquet(f"{directory}/{name}.parquet", row_group_size=max(1, count // 16))
        scans = [pl.scan_parquet(f"{directory}/{name}.parquet") for name in ("numbers", "groups")]
        for name, query in queries(*scans).items():
            ours, theirs = [], []
            for _ in range(options.repeats):
                seconds, expected = timed(lambda: query.collect(engine="streaming"))
                theirs.append(seconds)
                seconds, got = timed(lambda: query.remote(ctx).distributed().collect())
                ours.append(seconds)
                assert_frame_equal(got, expected)
            figures[name] = {
                "polars_seconds": round(min(theirs), 3),
                "floe_seconds": round(min(ours), 3),
                "times_as_fast": round(min(theirs) / min(ours), 2),
            }
            print(name, figures[name], flush=True)
    print(json.dumps({"polars": pl.__version__, **figures}, indent=2))
    if figures["elements"]["times_as_fast"] < AIM:
        print(f"elements: below {AIM} times as fast", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
