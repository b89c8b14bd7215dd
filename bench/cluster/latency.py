"""From apply to Succeeded for a tiny query, and where the time goes."""

from __future__ import annotations

import datetime
import statistics
import time

from tests.e2e import kube

SCRIPT = "result = pl.LazyFrame({'x': [1, 2, 3]}).select(pl.col('x').sum())"
NAMESPACE = "floe-bench"


def query(name: str) -> dict:
    return {
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "plan": {"python": {"script": SCRIPT}},
            "compute": {
                "workers": 1, "cpus": "100m", "memory": "256Mi", "coordinator": {"cpus": "100m", "memory": "512Mi"},
            },
        },
    }  # fmt: skip


def seconds(text: str | None, begin: float) -> float | None:
    if not text:
        return None
    return datetime.datetime.fromisoformat(text).timestamp() - begin


def once(name: str) -> dict:
    """One query, watched closely. Kubernetes writes whole seconds; what is seen here is exact to the poll."""
    url = kube.path("distributedqueries", NAMESPACE, name)
    begin = time.time()
    kube.request("POST", kube.path("distributedqueries", NAMESPACE), query(name))
    seen: dict[str, float] = {"created": time.time() - begin}

    def see(what: str) -> None:
        seen.setdefault(what, time.time() - begin)

    while "Succeeded" not in seen and time.time() - begin < 60:
        for pod in kube.items("pods", NAMESPACE, f"floe.dev/query={name}"):
            role = pod["metadata"]["labels"]["floe.dev/role"]
            see(f"{role} pod made")
            if pod["spec"].get("nodeName"):
                see(f"{role} scheduled")
            statuses = pod["status"].get("containerStatuses") or [{}]
            if "running" in statuses[0].get("state", {}):
                see(f"{role} running")
        status = (kube.request("GET", url) or {}).get("status", {})
        for condition in status.get("conditions", []):
            if condition["status"] == "True":
                see(condition["type"])
        time.sleep(0.02)
    assert "Succeeded" in seen, f"{name} did not succeed within a minute:\n{kube.story(NAMESPACE)}"
    kube.request("DELETE", url)
    kube.wait(f"{name} gone", 60, lambda: kube.request("GET", url) is None)
    return seen


def measure(repeats: int) -> dict:
    kube.kubectl("create", "namespace", NAMESPACE, check=False)
    try:
        once("warm")
        runs = [once(f"tiny-{index}") for index in range(repeats)]
    finally:
        kube.kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    totals = sorted(run["Succeeded"] for run in runs)
    steps = sorted({step for run in runs for step in run}, key=lambda step: statistics.median(r[step] for r in runs if step in r))
    return {
        "what": "seconds from creating a tiny query to each step as seen in the API, median of the runs",
        "runs": repeats,
        "medianSeconds": round(statistics.median(totals), 2),
        "minSeconds": round(totals[0], 2),
        "maxSeconds": round(totals[-1], 2),
        "steps": {step: round(statistics.median(run[step] for run in runs if step in run), 2) for step in steps},
    }
