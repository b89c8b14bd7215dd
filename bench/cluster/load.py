"""Thousands of queries whose pods a fake kubelet plays."""

from __future__ import annotations

import concurrent.futures
import datetime
import json
import os
import pathlib
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.request

from tests.e2e import kube

HERE = pathlib.Path(__file__).parent
NAMESPACE = "floe-load"
NODE = "floe-fake"
# Between two looks at all objects, which are a burden themselves.
LOOK_SECONDS = 5


def query(name: str, workers: int) -> dict:
    return {
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "plan": {"python": {"script": "result = scan('t')"}},
            "tables": {"t": {"uri": "s3://nowhere/t.parquet"}},
            "sink": {"uri": f"s3://nowhere/{name}/", "format": "parquet"},
            "compute": {
                "workers": workers,
                "nodeSelector": {"example.com/fake": "true"},
                "tolerations": [{"key": "example.com/fake", "operator": "Exists"}],
            },
        },
    }


def resident_mb() -> float | None:
    """Resident memory of the operator, where its process is on this machine."""
    for process in pathlib.Path("/proc").iterdir():
        try:
            if process.name.isdigit() and (process / "cmdline").read_bytes().startswith(b"/usr/local/bin/floe-operator\0"):
                lines = (process / "status").read_text().splitlines()
                return int(next(line for line in lines if line.startswith("VmRSS")).split()[1]) / 1024
        except OSError:
            continue
    return None


class Watcher(threading.Thread):
    """Asks again and again how many queries are in which phase, and what the operator takes."""

    def __init__(self):
        super().__init__(daemon=True)
        self.peak_mb, self.stop = 0.0, threading.Event()

    def run(self):
        while not self.stop.wait(1):
            self.peak_mb = max(self.peak_mb, resident_mb() or 0.0)


def stamp(text: str) -> float:
    return datetime.datetime.fromisoformat(text).timestamp()


def listed(kind: str, metadata_only: bool = False) -> list[dict]:
    """Everything of a kind, in pages; only its metadata where that is enough, to burden the API server as little as can be."""
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1" if metadata_only else "application/json"
    found, token = [], ""
    while True:
        call = urllib.request.Request(
            f"{kube.proxy()}{kube.path(kind, NAMESPACE)}?limit=1000&continue={token}", headers={"Accept": accept}
        )
        with urllib.request.urlopen(call, timeout=60) as answer:
            page = json.load(answer)
        found += page["items"]
        token = page["metadata"].get("continue", "")
        if not token:
            return found


def pods_made(since: dict[str, float]) -> dict[str, float]:
    """Seconds from a query's creation to that of its last pod, for queries whose pods are there, in whole
    seconds, as Kubernetes keeps them."""
    last: dict[str, float] = {}
    for pod in listed("pods", metadata_only=True):
        name = pod["metadata"]["labels"].get("floe.dev/query")
        if name in since:
            last[name] = max(last.get(name, 0), stamp(pod["metadata"]["creationTimestamp"]))
    return {name: at - since[name] for name, at in last.items()}


def measure(count: int, workers: int) -> dict:
    # What an interrupted run left would be in the way: its pods wait for a kubelet that is gone.
    kube.kubectl("delete", "pods", "--all", "-n", NAMESPACE, "--force", "--grace-period=0", check=False, timeout=300)
    kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", timeout=300)
    kube.kubectl("create", "namespace", NAMESPACE)
    with tempfile.TemporaryDirectory() as directory:
        program = pathlib.Path(directory) / "fakekubelet"
        subprocess.run(["go", "build", "-o", program, "."], cwd=HERE / "fakekubelet", check=True, env=os.environ | {"CGO_ENABLED": "0"})
        fake = subprocess.Popen([program, "-api", kube.proxy(), "-node", NODE], stdout=subprocess.DEVNULL)
        watcher = Watcher()
        try:
            return run(count, workers, watcher)
        finally:
            watcher.stop.set()
            subprocess.run(["kubectl", "delete", kube.QUERIES, "--all", "-n", NAMESPACE, "--wait=false"], stdout=subprocess.DEVNULL, check=False)
            kube.wait("the queries are gone", 900, lambda: not kube.items("distributedqueries", NAMESPACE))
            kube.wait("the pods are gone", 300, lambda: not kube.items("pods", NAMESPACE))
            fake.terminate()
            fake.wait()
            kube.kubectl("delete", "node", NODE, "--ignore-not-found")
            kube.kubectl("delete", "namespace", NAMESPACE, timeout=300)


def run(count: int, workers: int, watcher: Watcher) -> dict:
    kube.wait("the fake node", 30, lambda: kube.request("GET", f"/api/v1/nodes/{NODE}"))
    idle = resident_mb()
    watcher.start()
    begin = time.time()
    names = [f"load-{index:05}" for index in range(count)]
    waits: dict[str, float] = {}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = pool.map(lambda name: kube.request("POST", kube.path("distributedqueries", NAMESPACE), query(name, workers)), names)
        since = {one["metadata"]["name"]: stamp(one["metadata"]["creationTimestamp"]) for one in made}
    applied = time.time() - begin
    limit = time.time() + max(300, count * 0.5)
    ended: set[str] = set()
    while len(ended) < count and time.time() < limit:
        time.sleep(LOOK_SECONDS)
        waits |= {name: wait for name, wait in pods_made(since).items() if name not in waits or wait > waits[name]}
        for one in listed("distributedqueries"):
            if (one.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                ended.add(one["metadata"]["name"])
    took = time.time() - begin
    # Queries whose pods came and went between two looks are known by their start.
    phases: dict[str, int] = {}
    for one in listed("distributedqueries"):
        status = one.get("status") or {}
        phases[status.get("phase", "none")] = phases.get(status.get("phase", "none"), 0) + 1
        name = one["metadata"]["name"]
        if name not in waits and status.get("attemptStartedAt"):
            waits[name] = stamp(status["attemptStartedAt"]) - since[name]
    ordered = sorted(waits.values())
    figures = {
        "queries": count,
        "workersEach": workers,
        "pods": count * (workers + 1),
        "applySeconds": round(applied, 1),
        "allEndedSeconds": round(took, 1),
        "phases": phases,
        "stuck": count - len(ended),
        "operatorIdleMB": round(idle, 1) if idle else None,
        "operatorPeakMB": round(watcher.peak_mb, 1),
        "toPodsSeconds": {
            "p50": round(statistics.median(ordered), 1),
            "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 1),
            "max": round(ordered[-1], 1),
        },
    }
    return figures
