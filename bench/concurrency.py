"""What sharing costs: a tiny query alone, and many of them at once, on the workers of one warm server.

    python -m bench.concurrency [--queries 50] [--workers 4] [--rounds 5] [--limit 5] [--save]

Each is timed by its client, from sending the job to the event that tells of its end, and by the server, from its arrival
to its end (waiting included). Prints both with their ratio, and what all processes of the server took of the CPUs for
a query, which is what bounds the throughput. Ends non-zero when the p99 of the clients is above the limit, in medians
of one alone.
"""

from __future__ import annotations

import argparse
import base64
import dataclasses
import datetime
import http.client
import json
import os
import pathlib
import statistics
import sys
import tempfile
import threading
import time
import uuid

from bench.limited import descendants
from bench.overhead import tiny
from bench.report import machine
from bench.server import Floe


@dataclasses.dataclass
class Times:
    """Milliseconds."""

    client: list[float] = dataclasses.field(default_factory=list)
    server: list[float] = dataclasses.field(default_factory=list)


def percentile(values: list[float], percent: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def cpu_seconds(root: int) -> float:
    """CPU time so far of a process and all that it started."""
    ticks = 0
    for pid in descendants(root):
        try:
            fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


class Client:
    """One client with a connection of its own for each of its two requests."""

    def __init__(self, server: Floe, spec: dict):
        self.server, self.spec = server, spec
        self.headers = {"Authorization": f"Bearer {server.token}"}
        self.jobs, self.events = (http.client.HTTPConnection(server.address, timeout=600) for _ in range(2))
        self.jobs.connect()
        self.events.connect()

    def prepare(self) -> None:
        job = {"id": str(uuid.uuid4()), "name": "tiny", "attempt": 1, "spec": self.spec}
        self.path, self.body = f"/api/v1/queries/{job['id']}", json.dumps(job).encode()

    def run(self, times: Times) -> None:
        begin = time.perf_counter()
        self.jobs.request("POST", "/api/v1/queries", self.body, self.headers)
        answer = self.jobs.getresponse()
        text = answer.read()
        if answer.status != 202:
            raise RuntimeError(f"{answer.status} {text.decode(errors='replace')}")
        self.events.request("GET", f"{self.path}/events", headers=self.headers)
        answer = self.events.getresponse()
        for line in answer:
            if line.startswith(b'data:{"type":"done"') or line.startswith(b'data: {"type":"done"'):
                times.client.append((time.perf_counter() - begin) * 1000)
                times.server.append(json.loads(line[5:])["outcome"]["durationMs"])
            elif b'"type":"error"' in line:
                raise RuntimeError(line.decode())
        answer.close()

    def forget(self) -> None:
        self.jobs.request("DELETE", self.path, headers=self.headers)
        self.jobs.getresponse().read()


def at_once(clients: list[Client], times: Times) -> float:
    """The seconds that all took together."""
    start = threading.Barrier(len(clients) + 1)
    failures: list[Exception] = []

    def one(client: Client) -> None:
        start.wait()
        try:
            client.run(times)
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=one, args=[client]) for client in clients]
    for client, thread in zip(clients, threads, strict=True):
        client.prepare()
        thread.start()
    start.wait()
    begin = time.perf_counter()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    if failures:
        raise failures[0]
    for client in clients:
        client.forget()
    return seconds


def save(args: argparse.Namespace, alone: Times, shared: Times, cpu: list[float], ratio: float) -> None:
    def of(values: list[float]) -> dict[str, float]:
        return {"median": round(statistics.median(values), 1), "p99": round(percentile(values, 99), 1)}

    results = {
        "machine": machine(),
        "date": datetime.date.today().isoformat(),
        "queries_at_once": args.queries,
        "workers": args.workers,
        "mode": args.mode,
        "client_ms": {"alone": of(alone.client), "at_once": of(shared.client)},
        "server_ms": {"alone": of(alone.server), "at_once": of(shared.server)},
        "cpu_ms_a_query": {"alone": round(cpu[0] * 1000, 1), "at_once": round(cpu[1] * 1000, 1)},
        "p99_in_medians_of_one_alone": round(ratio, 1),
    }
    path = pathlib.Path(__file__).parent / "results" / "concurrency.json"
    path.write_text(json.dumps(results, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=50)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", choices=["auto", "distributed", "singleNode"], default="auto")
    parser.add_argument("--limit", type=float, default=5.0)
    parser.add_argument("--save", action="store_true", help="write bench/results/concurrency.json")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="floe-bench.") as scratch:
        plan = pathlib.Path(scratch) / "tiny.bin"
        tiny().serialize(plan)
        spec = {
            "plan": {"dsl": {"inline": base64.b64encode(plan.read_bytes()).decode()}},
            "compute": {"workers": args.workers, "cpus": 1},
            "execution": {"mode": args.mode},
        }
    server = Floe("shared", args.workers, 1, args.mode)
    try:
        clients = [Client(server, spec) for _ in range(args.queries)]
        at_once(clients, Times())
        alone, shared, seconds = Times(), Times(), 0.0
        cpu = [cpu_seconds(server.child.pid)]
        for client in clients:
            at_once([client], alone)
        cpu.append(cpu_seconds(server.child.pid))
        for _ in range(args.rounds):
            seconds += at_once(clients, shared)
        cpu.append(cpu_seconds(server.child.pid))
    finally:
        server.close()

    for name, times in [("alone", alone), ("at once", shared)]:
        for whose, values in [("client", times.client), ("server", times.server)]:
            print(
                f"{name:8} {whose} median {statistics.median(values):7.1f} ms"
                f"  p95 {percentile(values, 95):7.1f}  p99 {percentile(values, 99):7.1f}  max {max(values):7.1f}"
            )
    took = [(cpu[1] - cpu[0]) / len(alone.client), (cpu[2] - cpu[1]) / len(shared.client)]
    print(f"CPU of the server for one query: {took[0] * 1000:.1f} ms alone, {took[1] * 1000:.1f} ms at once; {os.cpu_count()} CPUs")
    print(f"{args.queries * args.rounds / seconds:.0f} queries a second, {args.queries} at once")
    ratio = percentile(shared.client, 99) / statistics.median(alone.client)
    inner = percentile(shared.server, 99) / max(statistics.median(alone.server), 1)
    if args.save:
        save(args, alone, shared, took, ratio)
    print(
        f"p99 of {args.queries} at once is {ratio:.1f} medians of one alone ({inner:.1f} as the server sees it);"
        f" the limit is {args.limit:g}"
    )
    return 0 if ratio <= args.limit else 1


if __name__ == "__main__":
    sys.exit(main())
