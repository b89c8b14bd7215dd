"""The 22 PDS-H texts as SQL: Floe beside DuckDB, DataFusion and Polars, in turn on warm processes, results compared.

    python -m bench.sql --data DIR [--scale-factor 10] [--queries 1,9] [--repeats 2] [--save NAME]

Every engine has two cores: Floe two workers of one core each, and one worker of two; the others two threads. All get the same
text and files, and are timed from the text to the rows in the client's memory; planning alone is told apart (`EXPLAIN`).
"""

from __future__ import annotations

import argparse
import io
import json
import math
import pathlib
import sys
import tempfile
import time

import polars as pl

from bench import pdsh, report
from bench.pdsh.check import ABSOLUTE, RELATIVE, plain
from bench.server import Answer, Floe, Process
from tests import support

RESULTS = pathlib.Path(__file__).parent / "results"


class Peer(Process):
    def __init__(self, engine: str, threads: int, tables: dict[str, str]):
        command = [sys.executable, "-m", "bench.peer", engine, str(threads), json.dumps(tables)]
        super().__init__(engine, command, {"POLARS_MAX_THREADS": str(threads)})
        self.label = f"{self.hello['version']}"

    def ask(self, sql: str, out: str | None = None, explain: bool = False) -> Answer:
        self.child.stdin.write(json.dumps({"sql": sql, "out": out, "explain": explain}) + "\n")
        answer = self.read()
        if "error" in answer:
            raise RuntimeError(f"{self.label}: {answer['error']}")
        return Answer(answer["seconds"], answer["rows"])


class Queries(Floe):
    """Floe, asked in SQL."""

    def __init__(self, label: str, workers: int, threads: int, mode: str, tables: dict[str, str]):
        super().__init__(label, workers, threads, mode)
        self.tables = {name: {"uri": uri} for name, uri in tables.items()}

    def ask(self, sql: str, out: str | None = None, explain: bool = False) -> Answer:
        begin = time.perf_counter()
        spec = {
            "plan": {"sql": f"explain {sql}" if explain else sql},
            "tables": self.tables,
            "compute": {"workers": self.workers, "cpus": self.threads},
            "execution": self.execution,
        }
        frame, summary, path = self.query("sql", spec)
        seconds = time.perf_counter() - begin
        self.request("DELETE", path).read()
        if out:
            frame.write_ipc(out)
        return Answer(seconds, frame.height, len(summary["stages"]), summary["bytesShuffled"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="directory of the tables (tests/data)")
    parser.add_argument("--scale-factor", type=float, default=10.0)
    parser.add_argument("--queries", default=",".join(map(str, pdsh.QUERIES)))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--without", default="", help="engines to leave out: one, duckdb, datafusion, polars")
    parser.add_argument("--save", help="write bench/results/NAME.{json,md,svg}")
    args = parser.parse_args()

    without = args.without.split(",")
    data = str(pathlib.Path(args.data).resolve())
    tables = {name: pdsh.uri(data, name) for name in pdsh.TABLES}
    engines: dict[str, Peer | Queries] = {}
    entries: dict[str, dict] = {}
    failed: list[str] = []
    try:
        for name in ("duckdb", "datafusion", "polars"):
            if name not in without:
                peer = Peer(name, 2, tables)
                engines[peer.label] = peer
        if "one" not in without:
            engines["Floe 1×2"] = Queries("Floe 1×2", 1, 2, "single-node", tables)
        floe = "Floe 2×1"
        engines[floe] = Queries(floe, 2, 1, "auto", tables)
        with tempfile.TemporaryDirectory(prefix="floe-bench.") as scratch:
            for number in map(int, args.queries.split(",")):
                text = pdsh.sql(number, args.scale_factor)
                try:
                    entries[str(number)] = one(number, text, engines, floe, args.repeats, pathlib.Path(scratch))
                except (RuntimeError, AssertionError) as error:
                    failed.append(f"q{number}")
                    print(f"q{number}: FAILED: {error}", flush=True)
    finally:
        for engine in engines.values():
            engine.close()

    results = {
        "title": f"PDS-H as SQL at scale factor {args.scale_factor:g}: Floe, two workers of one core, beside engines of two threads",
        "machine": report.machine(),
        "date": time.strftime("%Y-%m-%d"),
        "repeats": args.repeats,
        "engines": list(engines),
        "measured": floe,
        "queries": entries,
    }
    if entries:
        print()
        print(report.table(results))
        print()
        print(report.planning(results))
        if args.save:
            report.save(results, RESULTS, args.save)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def one(number: int, text: str, engines: dict, floe: str, repeats: int, scratch: pathlib.Path) -> dict:
    """All engines run the text in turn; the first round warms files and is compared, and does not count."""
    frames: dict[str, pl.DataFrame] = {}
    seconds: dict[str, list[float]] = {name: [] for name in engines}
    planning: dict[str, float] = dict.fromkeys(engines, math.inf)
    fastest = None
    for round_ in range(repeats + 1):
        for name, engine in engines.items():
            out = scratch / "rows.ipc" if round_ == 0 else None
            answer = engine.ask(text, str(out) if out else None)
            if round_ == 0:
                frames[name] = plain(pl.read_ipc(io.BytesIO(out.read_bytes())))
                continue
            seconds[name].append(answer.seconds)
            planning[name] = min(planning[name], engine.ask(text, explain=True).seconds)
            if name == floe and (fastest is None or answer.seconds < fastest.seconds):
                fastest = answer
    first = next(iter(frames))
    for name, frame in frames.items():
        assert same(frame, frames[first]), f"{name} and {first} give different results:\n{frame}\n{frames[first]}"
    line = "  ".join(f"{name} {min(times) * 1000:6.0f} ms" for name, times in seconds.items())
    print(f"q{number:<3} {line}", flush=True)
    return {
        "seconds": {name: [round(value, 5) for value in times] for name, times in seconds.items()},
        "planning": {name: round(value, 5) for name, value in planning.items()},
        "rows": frames[floe].height,
        "stages": fastest.stages,
        "bytes_shuffled": fastest.bytes_shuffled,
    }


def same(frame: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Rows with equal sort keys come in any order; names of columns without one are each engine's own."""
    from polars.testing import assert_frame_equal

    frame = frame.rename(dict(zip(frame.columns, other.columns, strict=True)))
    for in_order in (True, False):
        try:
            assert_frame_equal(
                frame, other, check_dtypes=False, check_row_order=in_order, rel_tol=RELATIVE, abs_tol=ABSOLUTE
            )
            return True
        except AssertionError:
            continue
    return False


if __name__ == "__main__":
    sys.exit(main())
