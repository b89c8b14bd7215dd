"""The memory proof: heavy queries with a small memory limit per worker end, with the right result.

    python -m bench.memory --data DIR [--scale-factor 10] [--queries 9,18,21] [--memory 1Gi] [--workers 2]
    python -m bench.memory --data DIR --tables directory,file,csv,sort,join --memory 512Mi

`--queries` are PDS-H queries, `--tables` moves the whole lineitem table (all rows, all columns): to a Parquet directory,
to one Parquet file, to one CSV file, filtered to one Parquet file, to a directory for each value of a column, sorted by a column
that is in no order, and joined with itself on a key that it is not written in order of.

Every worker process is put into a memory cgroup of its own with that limit, as a pod would be; where this machine does not let
us (it takes v1 or v2, and root), the benchmark ends with 2 before it measures anything, unless `--watch-only` asks for no limit.
Results are compared with single-process Polars (no limit). What is told of a worker is said in bench/limited.py.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shutil
import sys
import tempfile
import time

import polars as pl
import yaml

from bench import limited, pdsh
from bench.limited import Limits, NotHeld
from bench.report import machine
from bench.server import size_of
from tests import support

RESULTS = pathlib.Path(__file__).parent / "results"

# A key of its own for every row, in no order: odd numbers mix 32 bits without a collision.
MIXED = "(pl.col('l_orderkey') * 8 + pl.col('l_linenumber')) * 2654435761 % 2**32"
# What is made of the whole table, and the sink it goes to.
TABLES = {
    "directory": ("scan('lineitem')", {"uri": "{out}/", "format": "parquet"}),
    "file": ("scan('lineitem')", {"uri": "{out}/all.parquet", "format": "parquet"}),
    "csv": ("scan('lineitem')", {"uri": "{out}/all.csv", "format": "csv"}),
    "filter": ("scan('lineitem').filter(pl.col('l_quantity') > 5)", {"uri": "{out}/all.parquet", "format": "parquet"}),
    "partitions": ("scan('lineitem')", {"uri": "{out}/", "format": "parquet", "partitionBy": ["l_returnflag"]}),
    "sort": ("scan('lineitem').sort('l_extendedprice')", {"uri": "{out}/", "format": "parquet"}),
    "join": (
        f"scan('lineitem').with_columns(k={MIXED}).join("
        f"scan('lineitem').select(k={MIXED}, other='l_comment'), on='k').drop('k')",
        {"uri": "{out}/", "format": "parquet"},
    ),
}


def moved(case: str, data: str, out: str, workers: int, memory: str, execution: dict) -> dict:
    """A query that makes something of the whole lineitem table."""
    script, sink = TABLES[case]
    spec = {
        "plan": {"python": {"script": f"result = {script}\n"}},
        "tables": {"lineitem": {"format": "parquet", "uri": pdsh.uri(data, "lineitem")}},
        "compute": {"workers": workers, "cpus": 1, "memory": memory},
        "sink": sink | {"uri": sink["uri"].format(out=out), "mode": "overwrite"},
    }
    if execution:
        spec["execution"] = execution
    return {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": case}, "spec": spec}


def fingerprint(rows: pl.LazyFrame) -> dict:
    """What a table holds, whatever the order of its rows, in little memory."""
    names = sorted(rows.collect_schema().names())
    text = [pl.col(name).cast(pl.String) for name in names]
    row = pl.concat_str(text, separator="|", ignore_nulls=True).hash(seed=1) % 2**32
    return rows.select(rows=pl.len(), sum=row.cast(pl.UInt64).sum()).collect(engine="streaming").to_dicts()[0]


def check_moved(case: str, data: str, query: dict) -> str:
    want = pl.scan_parquet(pdsh.uri(data, "lineitem"))
    if case == "filter":
        want = want.filter(pl.col("l_quantity") > 5)
    if case == "join":
        want = want.with_columns(other="l_comment")
    sink = query["spec"]["sink"]
    if sink["format"] == "csv":
        got = pl.scan_csv(sink["uri"], schema=want.collect_schema())
    else:
        got = pl.scan_parquet(sink["uri"] + ("**/*.parquet" if sink["uri"].endswith("/") else ""), hive_partitioning=False)
    assert fingerprint(got) == fingerprint(want), "other rows"
    if case == "sort":
        falls = (pl.col("l_extendedprice").diff() < 0).sum()
        assert got.select(falls).collect().item() == 0, "not in order"
    return "equal"


def figures(case: str, ran: limited.Run, memory: int) -> dict:
    """What is kept of a run; `memory` is that of all workers together."""
    exchanged = ran.outcome.get("bytesShuffled")
    line = {"query": case, "ok": ran.returncode == 0, "seconds": round(ran.seconds, 2), "held": ran.held}
    if exchanged is not None:
        line |= {"exchanged_bytes": exchanged, "exchanged_per_memory": round(exchanged / memory, 2)}
    return line | {"oom_kills": ran.kills, "of_workers": [mebibytes(worker) for worker in ran.workers]}


def mebibytes(worker: limited.Worker) -> dict:
    taken = {"process_anonymous_mib": worker.own >> 20, "process_mapped_shmem_mib": worker.mapped >> 20}
    if worker.group is not None:
        taken |= {
            "cgroup_peak_mib": None if worker.peak is None else worker.peak >> 20,
            "cgroup_anonymous_mib": worker.anonymous >> 20,
            "cgroup_shmem_mib": worker.shmem >> 20,
            "cgroup_anonymous_and_shmem_mib": worker.kept >> 20,
            "cgroup_page_cache_mib": worker.cache >> 20,
            "limit_reached_times": worker.times_full,
            "charged_before_mib": round(worker.before / 2**20, 1),
        }
    return taken


def told(line: dict) -> str:
    """A line for people: of each figure, that of the worker which took most."""
    workers = line["of_workers"]

    def most(name: str) -> str:
        known = [worker[name] for worker in workers if worker.get(name) is not None]
        return str(max(known)) if known else "?"

    text = f"{line['query']:<12} {'ok' if line['ok'] else 'FAILED':7} {line['seconds']:7.1f} s "
    if workers and "cgroup_peak_mib" in workers[0]:
        text += (
            f" a worker's peak {most('cgroup_peak_mib')} MiB with page cache; anonymous memory {most('cgroup_anonymous_mib')},"
            f" shmem {most('cgroup_shmem_mib')}, both {most('cgroup_anonymous_and_shmem_mib')} MiB; charged before"
            f" {most('charged_before_mib')} MiB; limit reached {most('limit_reached_times')} times, {line['oom_kills']} killed"
        )
    else:
        text += (
            f" a worker's anonymous memory {most('process_anonymous_mib')} MiB, memory-backed files that it maps"
            f" {most('process_mapped_shmem_mib')} MiB"
        )
    if "exchanged_bytes" in line:
        text += f"; exchanged {line['exchanged_bytes'] / 1e6:.0f} MB, {line['exchanged_per_memory']} times all workers' memory"
    if "files" in line:
        text += f"; {line['files']} files of {line['mean_file_mb']} MB"
    return f"{text}; {line.get('result', 'not compared')}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--scale-factor", type=float, default=10)
    parser.add_argument("--queries", default=None, help="numbers of PDS-H queries (9,18,21 unless --tables is given)")
    parser.add_argument("--tables", default="", help=", ".join(TABLES))
    parser.add_argument("--memory", default="1Gi")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=1200)
    parser.add_argument("--execution", type=json.loads, default={}, help="spec.execution, as JSON")
    parser.add_argument("--no-compare", action="store_true")
    parser.add_argument("--watch-only", action="store_true", help="no cgroups: see what the workers take when nobody stops them")
    parser.add_argument("--save", action="store_true", help="write bench/results/memory.json")
    args = parser.parse_args()

    limit = size_of(args.memory)
    try:
        limits = None if args.watch_only else Limits(limit)
    except NotHeld as error:
        print(f"memory: workers cannot be held to {args.memory} here ({error}); --watch-only measures without", file=sys.stderr)
        return 2
    about = {
        "machine": machine(),
        "date": time.strftime("%Y-%m-%d"),
        "memory": args.memory,
        "workers": args.workers,
        "scale_factor": args.scale_factor,
        "limit": f"enforced by cgroup v{limits.version.number}" if limits else "not enforced",
    }
    print(f"memory: {args.workers} workers of {args.memory}; limit {about['limit']}; revision {about['machine']['revision']}")
    scratch = pathlib.Path(tempfile.mkdtemp(prefix="floe-memory."))
    bad, lines = 0, []
    try:
        numbers = args.queries if args.queries is not None else "" if args.tables else "9,18,21"
        cases = [f"q{number}" for number in numbers.split(",") if number] + [case for case in args.tables.split(",") if case]
        data = os.path.abspath(args.data)
        for case in cases:
            out = scratch / case
            if case in TABLES:
                out.mkdir()
                query = moved(case, data, str(out), args.workers, args.memory, args.execution)
            else:
                query = pdsh.spec(
                    int(case[1:]),
                    data,
                    scale_factor=args.scale_factor,
                    workers=args.workers,
                    memory=args.memory,
                    execution=args.execution,
                    sink={"uri": f"{out}/", "format": "parquet", "mode": "overwrite"},
                )
            path = scratch / f"{case}.yaml"
            path.write_text(yaml.safe_dump(query, sort_keys=False))
            ran = limited.run(path, limits, args.timeout)
            line = figures(case, ran, args.workers * limit)
            if ran.returncode == 0 and case in TABLES:
                sizes = [file.stat().st_size for file in out.rglob("*") if file.is_file()]
                line |= {"files": len(sizes), "mean_file_mb": round(sum(sizes) / max(1, len(sizes)) / 1e6, 1)}
            if ran.returncode == 0 and not args.no_compare:
                try:
                    if case in TABLES:
                        line["result"] = check_moved(case, data, query)
                    else:
                        want = pdsh.query(int(case[1:]), data, args.scale_factor).collect(engine="streaming")
                        support.assert_same(support.read_sink(query["spec"]["sink"]), want)
                        line["result"] = "equal"
                except AssertionError as error:
                    line["ok"], line["result"] = False, f"DIFFERS: {error}"
            elif ran.returncode != 0:
                line["result"] = ran.output[-2000:]
            if limits is not None and not ran.held:
                faults = [worker.fault for worker in ran.workers if worker.fault] or ["no worker was seen"]
                line["ok"], line["result"] = False, f"NOT HELD TO THE LIMIT: {faults[0]}"
            bad += not line["ok"]
            lines.append(line)
            print(told(line), flush=True)
            shutil.rmtree(out, ignore_errors=True)
    finally:
        if limits is not None:
            limits.close()
        shutil.rmtree(scratch, ignore_errors=True)
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        name = "memory-tables.json" if args.tables else "memory.json"
        (RESULTS / name).write_text(json.dumps(about | {"queries": lines}, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
