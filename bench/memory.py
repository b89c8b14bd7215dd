"""The memory proof: heavy queries with a small memory limit per worker end, with the right result.

    python -m bench.memory --data DIR [--scale-factor 10] [--queries 9,18,21] [--memory 1Gi] [--workers 2]
    python -m bench.memory --data DIR --tables directory,file,csv,sort,join --memory 512Mi

`--queries` are PDS-H queries, `--tables` moves the whole lineitem table (all rows, all columns): to a Parquet directory,
to one Parquet file, to one CSV file, sorted by a column that is in no order, and joined with itself on a key that it is not
written in order of.

Every worker process is put into a memory cgroup of its own with that limit, as a pod would be, where this machine lets us
(v1 or v2, root); else the peaks are only watched. Results are compared with single-process Polars (no limit).
"""

from __future__ import annotations

import argparse
import dataclasses
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

from bench import pdsh
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
    if case == "join":
        want = want.with_columns(other="l_comment")
    sink = query["spec"]["sink"]
    if sink["format"] == "csv":
        got = pl.scan_csv(sink["uri"], schema=want.collect_schema())
    else:
        got = pl.scan_parquet(sink["uri"] + ("*.parquet" if sink["uri"].endswith("/") else ""))
    assert fingerprint(got) == fingerprint(want), "other rows"
    if case == "sort":
        falls = (pl.col("l_extendedprice").diff() < 0).sum()
        assert got.select(falls).collect().item() == 0, "not in order"
    return "equal"


class Limits:
    """A memory cgroup per process, below one of our own."""

    def __init__(self, limit: int, enforce: bool = True):
        self.limit = limit
        self.root = None
        if not enforce:
            return
        for base, file in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")):
            root = pathlib.Path(base) / f"floe-bench-{os.getpid()}"
            if not (pathlib.Path(base) / "cgroup.procs").exists():
                continue
            try:
                root.mkdir()
            except OSError:
                continue
            self.root, self.file = root, file
            return

    def hold(self, pid: int) -> None:
        if self.root is None:
            return
        group = self.root / str(pid)
        try:
            group.mkdir()
            (group / self.file).write_text(str(self.limit))
            (group / "cgroup.procs").write_text(str(pid))
        except OSError as error:
            print(f"memory: no limit for process {pid}: {error}", file=sys.stderr)

    def kills(self) -> int:
        count = 0
        for group in self.root.iterdir() if self.root else []:
            if group.is_dir():
                for name in ("memory.oom_control", "memory.events"):
                    file = group / name
                    for line in file.read_text().splitlines() if file.exists() else []:
                        key, _, value = line.partition(" ")
                        count += int(value) if key == "oom_kill" else 0
        return count

    def close(self) -> None:
        if self.root is not None:
            for group in [*self.root.iterdir(), self.root]:
                if group.is_dir():
                    try:
                        group.rmdir()
                    except OSError:
                        pass


@dataclasses.dataclass
class Peak:
    own: int = 0  # anonymous memory
    shared: int = 0  # memory-backed files that it maps


def descendants(root: int) -> dict[int, list[str]]:
    """Processes below `root` with their command lines."""
    parents, commands = {}, {}
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                commands[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
    found, grown = {root}, True
    while grown:
        new = {pid for pid, parent in parents.items() if parent in found} - found
        found, grown = found | new, bool(new)
    return {pid: commands[pid] for pid in found if pid in commands}


def watch(root: int, stop: threading.Event, limits: Limits, peaks: dict[int, Peak]) -> None:
    while not stop.wait(0.02):
        for pid, command in descendants(root).items():
            if "worker" not in command[1:]:
                continue
            if pid not in peaks:
                peaks[pid] = Peak()
                limits.hold(pid)
            try:
                fields = dict(
                    line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line
                )
                peak = peaks[pid]
                peak.own = max(peak.own, int(fields["RssAnon"].split()[0]) * 1024)
                peak.shared = max(peak.shared, int(fields["RssShmem"].split()[0]) * 1024)
            except (OSError, KeyError):
                continue


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
    limits = Limits(limit, not args.watch_only)
    print(f"memory: {args.workers} workers of {args.memory}; "
          + ("each in a cgroup with that limit" if limits.root else "not held to it: peaks are only watched"))
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
            peaks: dict[int, Peak] = {}
            stop = threading.Event()
            before = limits.kills()
            begin = time.perf_counter()
            child = subprocess.Popen(
                [support.binary("floe"), "run", str(path)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            watcher = threading.Thread(target=watch, args=(child.pid, stop, limits, peaks))
            watcher.start()
            try:
                stdout, stderr = child.communicate(timeout=args.timeout)
            except subprocess.TimeoutExpired:
                child.terminate()
                stdout, stderr = child.communicate(timeout=60)
                stderr += f"\nstopped after {args.timeout} s"
            stop.set()
            watcher.join()
            seconds = time.perf_counter() - begin
            own, shared = max((p.own for p in peaks.values()), default=0), max((p.shared for p in peaks.values()), default=0)
            line = {
                "query": case,
                "ok": child.returncode == 0,
                "seconds": round(seconds, 2),
                "workers_seen": len(peaks),
                "peak_own_mib": own >> 20,
                "peak_shared_mib": shared >> 20,
                "oom_kills": limits.kills() - before,
            }
            if child.returncode == 0 and not args.no_compare:
                try:
                    if case in TABLES:
                        line["result"] = check_moved(case, data, query)
                    else:
                        want = pdsh.query(int(case[1:]), data, args.scale_factor).collect(engine="streaming")
                        support.assert_same(support.read_sink(query["spec"]["sink"]), want)
                        line["result"] = "equal"
                except AssertionError as error:
                    line["ok"], line["result"] = False, f"DIFFERS: {error}"
            elif child.returncode != 0:
                line["result"] = (stderr + stdout)[-2000:]
            bad += not line["ok"]
            lines.append(line)
            print(
                f"{case:<10} {'ok' if line['ok'] else 'FAILED':7} {seconds:7.1f} s  most of a worker's own memory"
                f" {own >> 20} MiB, mapped memory-backed files {shared >> 20} MiB, {line['oom_kills']} killed;"
                f" {line.get('result', 'not compared')}"
            )
            shutil.rmtree(out, ignore_errors=True)
    finally:
        limits.close()
        shutil.rmtree(scratch, ignore_errors=True)
    if args.save:
        RESULTS.mkdir(exist_ok=True)
        about = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "memory": args.memory, "workers": args.workers}
        about["scale_factor"] = args.scale_factor
        name = "memory-tables.json" if args.tables else "memory.json"
        (RESULTS / name).write_text(json.dumps(about | {"queries": lines}, indent=1) + "\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
