"""Namespaces with quotas: queries wait in line, hold nothing in vain, take up free room at once, and keep to limits."""

from __future__ import annotations

import time

from tests.e2e import kube
from tests.e2e.queries import GATED, GROUPS, ROOMY

LIGHT = {"cpus": "20m", "memory": "200Mi", "coordinator": {"cpus": "20m", "memory": "256Mi"}}


def quota(queries, **hard: str) -> None:
    kube.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": queries.namespace}, "spec": {"hard": hard}})
    kube.wait("the quota counts", 20, lambda: (kube.request("GET", quota_path(queries)) or {}).get("status", {}).get("hard"))


def quota_path(queries) -> str:
    return f"/api/v1/namespaces/{queries.namespace}/resourcequotas/q"


def refusals(queries) -> int:
    """Lines of the operator's log about quotas that refused something in this namespace."""
    log = "".join(
        kube.kubectl("logs", "-n", "floe-system", pod["metadata"]["name"], "--since=10m", timeout=30)
        for pod in kube.items("pods", "floe-system", "app.kubernetes.io/component=operator")
    )
    return sum("it waits for a quota" in line and queries.namespace in line for line in log.splitlines())


def test_queries_that_need_more_than_there_is_take_turns(queries):
    """Room for four pods, three for each query: held by coordinators alone, none would ever run."""
    quota(queries, pods="4")
    names = [f"turn-{number}" for number in range(5)]
    for name in names:
        # The first stays until the others stand in line, however fast they are.
        first = name == names[0]
        compute = {**LIGHT, "memory": ROOMY} if first else LIGHT
        queries.create(name, queries.spec(GATED if first else GROUPS, workers=2, compute=compute))
        time.sleep(1.1)  # creation times are whole seconds
    places, seen_starts = set(), []
    begin, deadline = time.monotonic(), time.monotonic() + 240
    while time.monotonic() < deadline:
        found = {name: queries.status(name) for name in names}
        places |= {status["ahead"] for status in found.values() if "ahead" in status}
        if {1, 2} <= places or time.monotonic() > begin + 60:
            queries.open()
        for name, status in found.items():
            if status.get("phase") in ("Running", "Committing", "Succeeded") and name not in seen_starts:
                seen_starts.append(name)
        if all(status.get("phase") == "Succeeded" for status in found.values()):
            break
        time.sleep(0.2)
    for name in names:
        queries.succeeded(name, limit_seconds=10)
        assert queries.status(name).get("failures", 0) == 0
    assert seen_starts == names, "the oldest first"
    assert {1, 2} <= places, f"those that wait tell how many come first: {places}"
    assert refusals(queries) <= 4 * len(names), f"{refusals(queries)} refusals"


def test_a_waiting_query_tells_its_place_and_takes_up_room_within_two_seconds(queries):
    quota(queries, pods="3")
    queries.create("first", queries.spec(GATED, workers=2, compute={**LIGHT, "memory": ROOMY}))
    queries.phase("first", "Running", "Committing", limit_seconds=90)
    queries.create("second", queries.spec(GROUPS, workers=2, compute=LIGHT))
    time.sleep(1.1)
    queries.create("third", queries.spec(GROUPS, workers=2, compute=LIGHT))
    second = queries.wait("second", "its place", lambda status: status.get("ahead") == 0, 20)
    third = queries.wait("third", "its place", lambda status: status.get("ahead") == 1, 20)
    assert second["reason"] == third["reason"] == "Quota"
    assert "exceeded quota" in second["message"] and "next of its namespace" in second["message"]
    assert "comes first" in third["message"] and not queries.pods("third")
    before = refusals(queries)
    time.sleep(5)
    assert refusals(queries) <= before + 1, "what does not fit is not asked for again and again"
    queries.change("first", cancel=True)
    used = lambda: int(kube.request("GET", quota_path(queries))["status"]["used"]["pods"])  # noqa: E731
    kube.wait("room", 60, lambda: used() == 0, lambda: kube.story(queries.namespace))
    begin = time.monotonic()
    kube.wait("a pod of the second", 20, lambda: queries.pods("second", "coordinator"), lambda: kube.story(queries.namespace))
    took = time.monotonic() - begin
    assert took <= 2, f"free quota was taken up after {took:.1f} s"
    queries.succeeded("second")
    queries.succeeded("third")


def test_what_can_never_fit_is_told_and_stands_in_nobodys_way(queries):
    quota(queries, pods="3")
    queries.create("large", queries.spec(GROUPS, workers=4, compute=LIGHT))
    status = queries.wait("large", "that it cannot fit", lambda s: "needs pods=5" in (s.get("message") or ""), 30)
    assert status["reason"] == "Quota" and "allows 3" in status["message"]
    queries.create("small", queries.spec(GROUPS, workers=2, compute=LIGHT))
    queries.succeeded("small")
    queries.no_pods("large")
    quota(queries, pods="5")
    queries.succeeded("large")


def test_a_namespace_that_counts_limits_runs_queries_that_have_them(queries):
    quota(queries, **{"limits.cpu": "4", "requests.ephemeral-storage": "20Gi", "limits.ephemeral-storage": "20Gi"})
    limited = {**LIGHT, "cpuLimit": "1", "scratch": {"size": "256Mi"}, "coordinator": {**LIGHT["coordinator"], "scratch": "512Mi"}}
    queries.create("limited", queries.spec(GROUPS, workers=2, compute=limited))
    pod = queries.pod("limited", "worker")
    resources = next(one for one in pod["spec"]["containers"] if one["name"] == "floe")["resources"]
    assert resources["limits"]["cpu"] == "1" and resources["limits"]["ephemeral-storage"] == resources["requests"]["ephemeral-storage"]
    queries.succeeded("limited")
    # Without them the refusal says what to write.
    queries.create("unlimited", queries.spec(GROUPS, workers=2, compute=LIGHT))
    status = queries.told("unlimited", "Quota")
    assert "limits.cpu" in status["message"] and "cpuLimit" in status["message"], status["message"]
