"""Many queries of mixed fates, while the operator, coordinators, workers, the API server and etcd are killed.

    python -m tests.soak [--queries 2000] [--minutes 120] [--seed N] [--at-once 8] [--fault-every 45]

On the cluster that KUBECONFIG names, where tests/e2e/install has put Floe. Every query has to end as its fate says, nothing
may be left of any, and the operator's memory has to be flat. No query is begun after `--minutes`. Ends with 1 and the faults
otherwise; the same seed draws the same queries and the same moments.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import subprocess
import sys
import time

from tests.e2e import kube, store
from tests.e2e.queries import TERMINAL, Queries, merge
from tests.soak import cluster
from tests.soak.fates import Fate, draw, faults

NAMESPACE = "soak"
LIMIT_SECONDS = 900
SAMPLE_SECONDS = 20


class Soak:
    def __init__(self, seed: int):
        self.luck = random.Random(seed + 2)
        self.queries = Queries(NAMESPACE)
        self.open: dict[str, tuple[Fate, float]] = {}
        self.wrong: list[str] = []
        self.ends: collections.Counter = collections.Counter()
        self.killed: collections.Counter = collections.Counter()
        self.memory: list[int] = []

    def prepare(self) -> None:
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        cluster.steady("POST", "/api/v1/namespaces", body)
        cluster.steady("POST", kube.path("secrets", NAMESPACE), store.secret("s3", NAMESPACE))
        account = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default"
        kube.wait("the default service account", 30, lambda: kube.request("GET", account))

    def create(self, name: str, spec: dict) -> None:
        spec = merge(spec, {"sink": {"uri": spec["sink"]["uri"].replace("NAME", name)}})
        body = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": name}, "spec": spec}
        cluster.steady("POST", kube.path("distributedqueries", NAMESPACE), body)

    def begin(self, fate: Fate) -> None:
        base = self.queries.spec(workers=fate.workers)
        self.create(fate.name, fate.spec(base))
        self.open[fate.name] = (fate, time.monotonic())

    def act(self, fate: Fate, what: str) -> None:
        path = kube.path("distributedqueries", NAMESPACE, fate.name)
        change = {"suspend": {"suspend": True}, "resume": {"suspend": False}, "cancel": {"cancel": True}}.get(what)
        if change:
            cluster.steady("PATCH", path, {"spec": change}, "application/merge-patch+json")
        elif what == "delete":
            cluster.steady("DELETE", path)
        elif what == "make-before":
            before = Fate(f"{fate.name}-before", "script")
            self.begin(before)

    def step(self) -> None:
        """Does what it is time for, and takes away what has ended."""
        now = time.monotonic()
        seen = {one["metadata"]["name"]: one for one in cluster.items("distributedqueries", NAMESPACE)}
        for name, (fate, since) in list(self.open.items()):
            while fate.acts and fate.acts[0][0] <= now - since:
                self.act(fate, fate.acts.pop(0)[1])
            query = seen.get(name)
            status = None if query is None else query.get("status", {})
            is_over = query is None or status.get("phase") in TERMINAL
            if fate.kind == "deleted":
                is_over = query is None
            if now - since > LIMIT_SECONDS:
                self.end(fate, f"has not ended after {LIMIT_SECONDS} s: {status}")
            elif is_over and (not fate.acts or fate.kind != "deleted") and now - since > 2:
                self.end(fate, fate.fault(status), status)

    def end(self, fate: Fate, fault: str | None, status: dict | None = None) -> None:
        if fault:
            self.wrong.append(f"{fate.name} ({fate.kind}) {fault}")
            print(f"soak: {self.wrong[-1]}\n{kube.story(NAMESPACE)[-6000:]}", flush=True)
        self.ends[f"{fate.kind}: {(status or {}).get('phase', 'gone')}"] += 1
        # One that others wait for has to be there when they look.
        if not fate.name.endswith("-before") or fate.name.removesuffix("-before") not in self.open:
            cluster.steady("DELETE", kube.path("distributedqueries", NAMESPACE, fate.name))
        if fate.kind == "waits":
            cluster.steady("DELETE", kube.path("distributedqueries", NAMESPACE, f"{fate.name}-before"))
        del self.open[fate.name]

    def run(self, fates: list[Fate], moments: list[tuple[float, str]], seconds: float, at_once: int) -> int:
        began, sampled, done = time.monotonic(), 0.0, 0
        while self.open or (fates and time.monotonic() - began < seconds):
            passed = time.monotonic() - began
            while fates and len(self.open) < at_once and passed < seconds:
                self.begin(fates.pop(0))
                done += 1
            if moments and moments[0][0] <= passed:
                what = moments.pop(0)[1]
                told = cluster.kill(what, NAMESPACE, self.luck)
                self.killed[what] += not told.startswith("no ")
            self.step()
            if passed - sampled > SAMPLE_SECONDS:
                sampled = passed
                self.memory += [held for held in [cluster.operator_memory()] if held]
                print(f"soak: {passed:.0f} s, {done} begun, {len(self.open)} open, {len(self.wrong)} wrong", flush=True)
            time.sleep(0.5)
        return done

    def check_the_end(self) -> None:
        try:
            self.queries.nothing_left(limit_seconds=180)
        except AssertionError as error:
            self.wrong.append(f"something is left: {str(error)[:3000]}")
        quarter = len(self.memory) // 4
        if quarter >= 4:
            first, last = max(self.memory[:quarter]), max(self.memory[-quarter:])
            if last > first * 1.3 + (16 << 20):
                self.wrong.append(f"the operator's memory grew from {first >> 20} to {last >> 20} MiB")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--fault-every", type=float, default=45, help="seconds between two kills, on average")
    args = parser.parse_args()
    print(f"soak: seed {args.seed}", flush=True)
    subprocess.run([sys.executable, "-m", "tests.e2e.load"], check=True, cwd=kube.REPO, timeout=900)
    soak, began = Soak(args.seed), time.monotonic()
    soak.prepare()
    seconds = args.minutes * 60
    moments = faults(seconds, args.fault_every, args.seed, cluster.has_control_plane())
    done = soak.run(draw(args.queries, args.seed), moments, seconds, args.at_once)
    soak.check_the_end()
    summary = {
        "seed": args.seed, "queries": done, "seconds": round(time.monotonic() - began), "ends": dict(sorted(soak.ends.items())),
        "killed": dict(soak.killed), "operatorMiB": [held >> 20 for held in soak.memory], "wrong": soak.wrong,
    }  # fmt: skip
    print(json.dumps(summary, indent=1))
    kube.request("DELETE", f"/api/v1/namespaces/{NAMESPACE}")
    return 1 if soak.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
