"""Floe beside single-process Polars: the 22 PDS-H queries, in turn on warm processes, results compared.

    python -m bench.run --data DIR [--scale-factor 1] [--queries 1,9] [--repeats 3] [--save NAME]

Engines: Floe with two workers of one core each (`floe-runner serve`); the same Polars (Rust) in one worker with two threads
and the whole plan as one task; the Python wheel with two threads. Every engine gets the same serialized plan and is timed
from its bytes to the frame in the client's memory.
"""

from __future__ import annotations

import argparse
import io
import json
import pathlib
import sys
import tempfile
import time

import polars as pl

from bench import pdsh, plans, report
from bench.server import Floe, Process, Wheel, size_of
from tests import support

RESULTS = pathlib.Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="directory of the tables (tests/data)")
    parser.add_argument("--scale-factor", type=float, default=1.0)
    parser.add_argument("--queries", default=",".join(map(str, pdsh.QUERIES)))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each worker")
    parser.add_argument("--memory", help="of each worker, such as 1Gi")
    parser.add_argument("--mode", default="auto", choices=["auto", "distributed"])
    parser.add_argument("--execution", type=json.loads, default={}, help='spec.execution of Floe, as JSON: {"broadcastLimit": "8Mi"}')
    parser.add_argument("--without", default="", help="engines to leave out: rust, wheel")
    parser.add_argument("--before", help="a floe-runner of another version, to be run beside this one")
    parser.add_argument("--save", help="write bench/results/NAME.{json,md,svg}")
    parser.add_argument("--stages", action="store_true", help="print the stages of each query's best run")
    args = parser.parse_args()
    args.data = str(pathlib.Path(args.data).resolve())

    threads = args.workers * args.threads
    memory = size_of(args.memory) if args.memory else None
    floe = f"Floe {args.workers}×{args.threads}"
    engines: dict[str, Process] = {}
    scratch = tempfile.TemporaryDirectory(prefix="floe-bench.")
    failed: list[str] = []
    try:
        if "rust" not in args.without.split(","):
            engines["Polars (Rust)"] = Floe("Polars (Rust)", 1, threads, "single-node")
        if "wheel" not in args.without.split(","):
            wheel = Wheel(threads)
            engines[wheel.label] = wheel
        if args.before:
            engines["before"] = Floe("before", args.workers, args.threads, args.mode, memory, args.execution, args.before)
        engines[floe] = Floe(floe, args.workers, args.threads, args.mode, memory, args.execution)
        for name, engine in engines.items():
            print(f"{name}: up after {engine.start_seconds * 1000:.0f} ms")

        queries = [int(number) for number in args.queries.split(",")]
        paths = plans.write(args.data, pathlib.Path(scratch.name) / "plans", args.scale_factor, queries)
        entries: dict[str, dict] = {}
        for number in queries:
            try:
                entries[str(number)] = one(number, str(paths[number]), engines, floe, args, pathlib.Path(scratch.name))
            except (RuntimeError, AssertionError) as error:
                failed.append(f"q{number}")
                print(f"q{number}: FAILED: {error}")
    finally:
        for engine in engines.values():
            engine.close()
        scratch.cleanup()

    results = {
        "title": f"PDS-H at scale factor {args.scale_factor:g}: {floe} worker cores beside {threads} threads in one process",
        "machine": report.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": args.repeats,
        "engines": list(engines),
        "measured": floe,
        "start_ms": {name: round(engine.start_seconds * 1000) for name, engine in engines.items()},
        "queries": entries,
    }
    if entries:
        print()
        print(report.table(results))
        if args.save:
            report.save(results, RESULTS, args.save)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def one(number: int, plan: str, engines: dict, floe: str, args: argparse.Namespace, scratch: pathlib.Path) -> dict:
    """All engines run the query in turn; the first round warms files and is compared, and does not count."""
    frames: dict[str, pl.DataFrame] = {}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    fastest = None
    for round_ in range(args.repeats + 1):
        for name, engine in engines.items():
            out = scratch / f"{len(frames)}.ipc" if round_ == 0 else None
            answer = engine.run(plan, str(out) if out else None)
            if round_ == 0:
                frames[name] = pl.read_ipc(io.BytesIO(out.read_bytes()))
                out.unlink()
                continue
            seconds[name].append(answer.seconds)
            if name == floe and (fastest is None or answer.seconds < fastest.seconds):
                fastest = answer
    names = list(frames)
    for name in names[1:]:
        try:
            # Rows with equal sort keys come in any order (q11 has some at SF10).
            try:
                support.assert_same(frames[name], frames[names[0]])
            except AssertionError:
                support.assert_same(frames[name], frames[names[0]], ordered=False)
        except AssertionError as error:
            raise AssertionError(f"{name} and {names[0]} give different results: {error}") from None
    line = "  ".join(f"{name} {min(times) * 1000:6.0f} ms" for name, times in seconds.items())
    print(f"q{number:<3} {line}  {fastest.stages} stages, {fastest.bytes_shuffled / 1e6:.1f} MB shuffled", flush=True)
    if args.stages:
        for stage in fastest.summary["stages"]:
            print(
                f"       {stage['id']:>2} {stage['elapsedMs']:>5} ms  {stage['tasks']:>3} tasks  {stage['rows']:>9} rows"
                f"  {stage['bytes'] / 1e6:>7.1f} MB  {stage['label']}"
            )
    return {
        "seconds": {name: [round(value, 5) for value in times] for name, times in seconds.items()},
        "rows": frames[floe].height,
        "stages": fastest.stages,
        "bytes_shuffled": fastest.bytes_shuffled,
        "single_worker": list(fastest.single_worker),
    }


if __name__ == "__main__":
    sys.exit(main())
