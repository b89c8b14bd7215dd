"""What a query costs on a warm context: a tiny one alone, and many of many users at once."""

from __future__ import annotations

import base64
import concurrent.futures
import datetime
import json
import pathlib
import statistics
import sys
import threading
import time
import urllib.request

import polars as pl

from tests.e2e import kube

NAMESPACE = "floe-bench-contexts"
CONTEXT = {
    "minWorkers": 1, "maxWorkers": 2, "maxQueriesAtOnce": 16,
    "compute": {"cpus": "100m", "memory": "512Mi", "coordinator": {"cpus": "100m", "memory": "1Gi"}},
}  # fmt: skip
REST_SECONDS = 3
ENDED = ("Succeeded", "Failed", "Cancelled")
# What a tiny query may take on a warm context, by the median: as an object, and from Python over a direct connection.
OBJECT_SECONDS, DIRECT_SECONDS = 0.3, 0.1


def plans() -> dict[str, dict]:
    """The same tiny query, in each form that a plan can have."""
    frame = pl.LazyFrame({"x": [1, 2, 3]}).select(pl.col("x").sum())
    return {
        "dsl": {"dsl": {"inline": base64.b64encode(frame.serialize()).decode()}},
        "sql": {"sql": "SELECT 1 + 2 + 3 AS x"},
        "python": {"python": {"script": "result = pl.LazyFrame({'x': [1, 2, 3]}).select(pl.col('x').sum())"}},
    }


def query(name: str, plan: dict) -> dict:
    return {
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"plan": plan, "compute": {"contextRef": {"name": "warm"}}},
    }


class Ends(threading.Thread):
    """When each query was first seen in a terminal phase, by a watch."""

    def __init__(self):
        super().__init__(daemon=True)
        self.at: dict[str, tuple[float, str]] = {}
        self.changed = threading.Condition()
        self.path = kube.path("distributedqueries", NAMESPACE)
        self.answer = self.watch()

    def watch(self):
        version = kube.request("GET", self.path)["metadata"]["resourceVersion"]
        return urllib.request.urlopen(f"{kube.proxy()}{self.path}?watch=1&resourceVersion={version}", timeout=900)

    def run(self):
        for line in self.answer:
            now = time.monotonic()
            event = json.loads(line)
            assert event["type"] != "ERROR", event
            seen = event["object"]
            phase = (seen.get("status") or {}).get("phase")
            if phase in ENDED:
                with self.changed:
                    self.at.setdefault(seen["metadata"]["name"], (now, phase))
                    self.changed.notify_all()

    def wait(self, name: str, limit_seconds: float) -> tuple[float, str]:
        with self.changed:
            assert self.changed.wait_for(lambda: name in self.at, limit_seconds), f"{name} has not ended:\n{kube.story(NAMESPACE)}"
            return self.at[name]


def percentile(values: list[float], percent: float) -> float:
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def figures(times: list[float]) -> dict:
    return {
        "runs": len(times), "minSeconds": round(min(times), 3), "medianSeconds": round(statistics.median(times), 3),
        "p99Seconds": round(percentile(times, 99), 3), "maxSeconds": round(max(times), 3),
    }  # fmt: skip


def create(name: str, plan: dict) -> float:
    begin = time.monotonic()
    kube.request("POST", kube.path("distributedqueries", NAMESPACE), query(name, plan), timeout=60)
    return begin


def alone(ends: Ends, kind: str, plan: dict, repeats: int) -> dict:
    times = []
    for number in range(repeats + 2):
        name = f"{kind}-{number}"
        begin = create(name, plan)
        at, phase = ends.wait(name, 60)
        assert phase == "Succeeded", kube.story(NAMESPACE)
        times.append(at - begin)
        time.sleep(0.2)
    # The first ones warm what only they use.
    return figures(times[2:])


def from_python(mode: str, repeats: int) -> dict:
    """Until the rows are there, as a notebook sees it."""
    sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "src"))
    import floe

    lf = pl.LazyFrame({"x": [1, 2, 3]}).select(pl.col("x").sum())
    times = []
    context = floe.ComputeContext(name="warm", namespace=NAMESPACE, connection_mode=mode)
    for _ in range(repeats + 2):
        begin = time.monotonic()
        assert lf.remote(context).show().item() == 6
        times.append(time.monotonic() - begin)
    context.close()
    return figures(times[2:])


def crowd(ends: Ends, plan: dict, users: int, each: int) -> dict:
    """All users send all their queries at once."""
    begin = time.monotonic()

    def send(user: int) -> list[tuple[str, float]]:
        names = [f"user{user}-{number}" for number in range(each)]
        return [(name, create(name, plan)) for name in names]

    with concurrent.futures.ThreadPoolExecutor(users) as pool:
        sent = list(pool.map(send, range(users)))
    created = time.monotonic() - begin
    waits, phases = [], {}
    for user in sent:
        waits.append([])
        for name, at in user:
            end, phase = ends.wait(name, 600)
            phases[phase] = phases.get(phase, 0) + 1
            waits[-1].append(end - at)
    means = [statistics.mean(one) for one in waits]
    return figures([wait for user in waits for wait in user]) | {
        "users": users, "phases": phases, "allCreatedSeconds": round(created, 2),
        "allEndedSeconds": round(max(at for at, _ in ends.at.values()) - begin, 2),
        "meanOfLuckiestUserSeconds": round(min(means), 2), "meanOfUnluckiestUserSeconds": round(max(means), 2),
    }  # fmt: skip


def memory() -> dict[str, float]:
    """What each pod of the context uses at rest, as the kubelet counts it: without files that could be read again."""
    pods = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in kube.items("pods", NAMESPACE, "floe.dev/context=warm")}
    since = datetime.datetime.now(datetime.timezone.utc)

    def counted() -> dict[str, float] | None:
        used = {}
        for node in set(pods.values()):
            for pod in kube.request("GET", f"/api/v1/nodes/{node}/proxy/stats/summary")["pods"]:
                for one in pod.get("containers", []):
                    known = pod["podRef"]["namespace"] == NAMESPACE and pod["podRef"]["name"] in pods
                    # The kubelet counts every ten seconds or so: what it says may be older than the context's rest.
                    if known and datetime.datetime.fromisoformat(one["memory"]["time"]) > since:
                        used[pod["podRef"]["name"]] = round(one["memory"]["workingSetBytes"] / 2**20, 1)
        return used if used.keys() == pods.keys() else None

    return kube.wait("the kubelet counts memory", 60, counted)


def too_slow(found: dict) -> list[str]:
    """What takes longer than it may."""
    medians = [(f"{kind} as an object", one["medianSeconds"], OBJECT_SECONDS) for kind, one in found["alone"].items()]
    medians.append(("from Python, direct", found["fromPython"]["direct"]["medianSeconds"], DIRECT_SECONDS))
    return [f"{what}: {median} s, at most {most} s" for what, median, most in medians if median > most]


def measure(repeats: int, users: int = 20, each: int = 10) -> dict:
    kube.kubectl("create", "namespace", NAMESPACE, check=False)
    try:
        body = {"apiVersion": "floe.dev/v1alpha1", "kind": "ComputeContext", "metadata": {"name": "warm"}, "spec": CONTEXT}
        kube.apply(body, namespace=NAMESPACE)

        def ready():
            status = (kube.get("computecontexts", NAMESPACE, "warm") or {}).get("status") or {}
            return status.get("workers", {}).get("ready", 0) > 0

        kube.wait("the context is ready", 120, ready, lambda: kube.story(NAMESPACE))
        time.sleep(REST_SECONDS)
        found = {
            "what": "seconds from sending the object to its terminal phase, as a watch sees it; MiB of the pods at rest",
            "memoryAtRest": memory(), "alone": {},
        }  # fmt: skip
        ends = Ends()
        ends.start()
        for kind, plan in plans().items():
            found["alone"][kind] = alone(ends, kind, plan, repeats)
        found["fromPython"] = {mode: from_python(mode, repeats) for mode in ("proxy", "direct")}
        found["crowd"] = crowd(ends, plans()["dsl"], users, each)
        return found
    finally:
        kube.kubectl("delete", "distributedqueries", "--all", "-n", NAMESPACE, "--wait=false", check=False)
        kube.wait("the queries are gone", 300, lambda: not kube.items("distributedqueries", NAMESPACE))
        kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
