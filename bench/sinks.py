"""What it takes to write lineitem, all its columns, by workers with little memory: to one file, to a directory, sorted.

    python -m bench.sinks --data DIR [--memory 512Mi] [--workers 2] [--cases one-parquet,one-csv,...] [--save]

Every worker process is put into a memory cgroup of its own with that limit where this machine lets us, as bench.memory does.
The rows are compared with the source by their count, their sums and, for those that are sorted, their order.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

import polars as pl
import yaml

from bench.memory import Limits, Peak, watch
from bench.report import machine
from bench.server import size_of
from tests import support

RESULTS = pathlib.Path(__file__).parent / "results"
# Script, sink, column by which the rows are to be in order.
CASES = {
    "one-parquet": ('scan("lineitem")', {"uri": "one.parquet"}, None),
    "one-csv": ('scan("lineitem")', {"uri": "one.csv"}, None),
    "directory": ('scan("lineitem")', {"uri": "directory/", "format": "parquet"}, None),
    "filtered-to-one": ('scan("lineitem").filter(pl.col("l_quantity") > 5)', {"uri": "some.parquet"}, None),
    "partitioned": (
        'scan("lineitem")', {"uri": "partitioned/", "format": "parquet", "partitionBy": ["l_returnflag"]}, None,
    ),  # fmt: skip
    "sorted": ('scan("lineitem").sort("l_extendedprice")', {"uri": "sorted/", "format": "parquet"}, "l_extendedprice"),
}


def told(frame: pl.LazyFrame) -> dict:
    """Of many rows what takes little memory to know."""
    return (
        frame.select(
            pl.len().alias("rows"),
            pl.col("l_orderkey", "l_partkey", "l_suppkey", "l_linenumber").cast(pl.Int64).sum(),
            pl.col("l_shipdate", "l_receiptdate").cast(pl.Date).to_physical().cast(pl.Int64).sum(),
            pl.col("l_comment").str.len_bytes().cast(pl.Int64).sum(),
        )
        .collect(engine="streaming")
        .to_dicts()[0]
    )


def files_of(uri: pathlib.Path) -> list[pathlib.Path]:
    return [uri] if uri.is_file() else sorted(path for path in uri.rglob("*") if path.is_file())


def read(uri: pathlib.Path) -> pl.LazyFrame:
    files = files_of(uri)
    return pl.scan_csv(files, try_parse_dates=True) if files[0].suffix == ".csv" else pl.scan_parquet(files)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--memory", default="512Mi")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--cases", default=",".join(CASES))
    parser.add_argument("--timeout", type=float, default=1200)
    parser.add_argument("--execution", type=json.loads, default={}, help="spec.execution, as JSON")
    parser.add_argument("--watch-only", action="store_true", help="no cgroups: see what the workers take when nobody stops them")
    parser.add_argument("--save", action="store_true", help="write bench/results/sinks.json")
    args = parser.parse_args()

    limits = Limits(size_of(args.memory), not args.watch_only)
    print(f"sinks: {args.workers} workers of {args.memory}; "
          + ("each in a cgroup with that limit" if limits.root else "not held to it: peaks are only watched"))
    data = pathlib.Path(args.data).absolute()
    source = pl.scan_parquet(data / "lineitem" / "*.parquet")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="floe-sinks."))
    bad, lines = 0, []
    try:
        for case in args.cases.split(","):
            script, sink, order = CASES[case]
            uri = scratch / sink["uri"]
            query = {
                "apiVersion": "floe.dev/v1alpha1",
                "kind": "DistributedQuery",
                "metadata": {"name": case},
                "spec": {
                    "plan": {"python": {"script": f"result = {script}"}},
                    "tables": {"lineitem": {"uri": f"{data}/lineitem/*.parquet"}},
                    "compute": {"workers": args.workers, "cpus": "1", "memory": args.memory},
                    "execution": {"mode": "distributed"} | args.execution,
                    "sink": sink | {"uri": f"{uri}/" if sink["uri"].endswith("/") else str(uri)},
                },
            }
            path = scratch / f"{case}.yaml"
            path.write_text(yaml.safe_dump(query, sort_keys=False))
            peaks: dict[int, Peak] = {}
            stop, before, begin = threading.Event(), limits.kills(), time.perf_counter()
            child = subprocess.Popen(
                [support.binary("floe"), "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            watcher = threading.Thread(target=watch, args=(child.pid, stop, limits, peaks))
            watcher.start()
            try:
                stdout, stderr = child.communicate(timeout=args.timeout)
            except subprocess.TimeoutExpired:
                child.terminate()
                stdout, stderr = child.communicate(timeout=60)
                stderr += f"\nstopped after {args.timeout} s"
            seconds = time.perf_counter() - begin
            stop.set()
            watcher.join()
            own = max((peak.own for peak in peaks.values()), default=0)
            line = {
                "case": case,
                "ok": child.returncode == 0,
                "seconds": round(seconds, 2),
                "peak_own_mib": own >> 20,
                "oom_kills": limits.kills() - before,
            }
            if child.returncode == 0:
                files = files_of(uri)
                sizes = sorted(file.stat().st_size for file in files)
                line |= {"files": len(files), "mean_file_mb": round(sum(sizes) / len(files) / 1e6, 1),
                         "largest_file_mb": round(sizes[-1] / 1e6, 1)}  # fmt: skip
                names = {"pl": pl, "scan": lambda _: source}
                exec(f"result = {script}", names)
                want = told(names["result"] if order is None else source)
                got = told(read(uri))
                line["result"] = "equal" if got == want else f"DIFFERS: {got} for {want}"
                if order is not None and not read(uri).select(order).collect().to_series().is_sorted():
                    line["result"] = f"DIFFERS: not in the order of {order}"
                line["ok"] = line["result"] == "equal"
            else:
                line["result"] = (stderr + stdout)[-2000:]
            bad += not line["ok"]
            lines.append(line)
            print(
                f"{case:16} {'ok' if line['ok'] else 'FAILED':7} {seconds:7.1f} s  most of a worker's own memory {own >> 20} MiB,"
                f" {line['oom_kills']} killed; {line.get('files', 0)} files of {line.get('mean_file_mb', 0)} MB;"
                f" {line['result']}"
            )
            shutil.rmtree(uri, ignore_errors=True) if uri.is_dir() else uri.unlink(missing_ok=True)
    finally:
        limits.close()
        shutil.rmtree(scratch, ignore_errors=True)
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        about = {
            "machine": machine(), "date": time.strftime("%Y-%m-%d"), "memory": args.memory, "workers": args.workers,
            "data": data.name,
        }  # fmt: skip
        (RESULTS / "sinks.json").write_text(json.dumps(about | {"cases": lines}, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
