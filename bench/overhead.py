"""What stages cost: a query of three stages on tiny data, forced to be distributed over three warm workers, and the same
plan on Polars alone.

    python -m bench.overhead [--repeats 50] [--limit-ms 20]

Ends non-zero when the difference of the medians is above the limit.
"""

from __future__ import annotations

import argparse
import pathlib
import statistics
import sys
import tempfile

import polars as pl

from bench.server import Floe, Wheel


def tiny() -> pl.LazyFrame:
    """Scan and partial group-by; final group-by; gather and sort."""
    rows = range(300)
    frame = pl.LazyFrame({"key": [row % 7 for row in rows], "value": [float(row) for row in rows]})
    return frame.group_by("key").agg(pl.col("value").sum(), pl.len()).sort("key")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--before", help="a floe-runner of another version, to be run beside this one")
    parser.add_argument("--limit-ms", type=float, default=20.0)
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="floe-bench.") as scratch:
        plan = str(pathlib.Path(scratch) / "tiny.bin")
        tiny().serialize(plan)
        engines = {"alone": Wheel(1), "distributed": Floe("distributed", args.workers, 1, "distributed")}
        if args.before:
            engines["before"] = Floe("before", args.workers, 1, "distributed", runner=args.before)
        try:
            times: dict[str, list[float]] = {name: [] for name in engines}
            inner, stages = [], 0
            for round_ in range(args.repeats + 5):
                for name, engine in engines.items():
                    answer = engine.run(plan)
                    if round_ < 5:
                        continue
                    times[name].append(answer.seconds * 1000)
                    if name == "distributed":
                        inner.append(answer.summary["durationMs"])
                        stages = answer.stages
        finally:
            for engine in engines.values():
                engine.close()
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, values in times.items():
        values.sort()
        print(f"{name:12} median {medians[name]:6.2f} ms  best {values[0]:6.2f}  p95 {values[int(len(values) * 0.95)]:6.2f}")
    over = medians["distributed"] - medians["alone"]
    print(
        f"{stages} stages on {args.workers} workers cost {over:.1f} ms over Polars alone, HTTP client included"
        f" ({statistics.median(inner):.0f} ms as the coordinator sees it); the limit is {args.limit_ms:g} ms"
    )
    if stages < 3:
        print("the query did not run in three stages")
        return 1
    return 0 if over <= args.limit_ms else 1


if __name__ == "__main__":
    sys.exit(main())
