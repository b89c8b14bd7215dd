"""Pods that go in mid-stage: workers are replaced and the query goes on; without its coordinator it starts again, and the
sink holds exactly one result."""

from __future__ import annotations

import pytest

from tests.e2e import kube, store
from tests.e2e.queries import GATED


def kill(namespace: str, pod: dict) -> None:
    kube.kubectl("delete", "pod", "-n", namespace, pod["metadata"]["name"], "--grace-period=0", "--force")


def evict(namespace: str, pod: dict) -> None:
    name = pod["metadata"]["name"]
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": namespace}}
    kube.request("POST", kube.path("pods", namespace, name) + "/eviction", body)


def cleaned_up(status: dict) -> bool:
    return any(one["type"] == "CleanedUp" and one["status"] == "True" for one in status.get("conditions", []))


@pytest.mark.parametrize("how", [kill, evict], ids=["killed", "evicted"])
def test_a_worker_is_replaced(queries, groups_result, how):
    queries.create("loss", queries.spec(GATED, workers=3))
    queries.at_gate("loss")
    victim = queries.pod("loss", "worker")
    how(queries.namespace, victim)
    index = victim["metadata"]["labels"]["floe.dev/worker"]

    def replaced():
        pods = queries.pods("loss", "worker")
        same = [p for p in pods if p["metadata"]["labels"]["floe.dev/worker"] == index]
        return [p["metadata"]["name"] for p in same if p["metadata"]["uid"] != victim["metadata"]["uid"]]

    (name,) = kube.wait("the worker is replaced", 60, replaced, lambda: kube.story(queries.namespace))
    queries.open()
    status = queries.succeeded("loss")
    assert status["attempt"] == 1, "a lost worker costs no attempt"
    queries.holds("loss", groups_result)
    # An operator that lost its lease just then saw no loss: it makes the pod that it misses again.
    if name != victim["metadata"]["name"]:
        assert any(victim["metadata"]["name"] in event["message"] for event in queries.events("loss"))


@pytest.mark.parametrize("how", [kill, evict], ids=["killed", "evicted"])
def test_without_its_coordinator_the_query_starts_again(queries, groups_result, how):
    queries.create("loss", queries.spec(GATED))
    queries.at_gate("loss")
    how(queries.namespace, queries.pod("loss", "coordinator"))
    queries.wait("loss", "another attempt", lambda status: status.get("attempt") == 2, 60)
    queries.open()
    status = queries.succeeded("loss")
    assert status["attempt"] == 2
    queries.holds("loss", groups_result)


def test_losses_are_counted(queries, slow):
    queries.create("loss", queries.spec(slow, backoffLimit=0))
    queries.at_gate("loss")
    kill(queries.namespace, queries.pod("loss", "coordinator"))
    status = queries.phase("loss", "Failed", limit_seconds=120)
    assert status["reason"] in ("BackoffLimit", "CoordinatorLost", "PodDeleted"), status
    assert "backoffLimit" in status["message"]
    assert not store.keys(f"{queries.prefix}/loss/")


def test_a_node_that_goes_away(queries):
    """A node that never was more than an object: pods that are bound to it go with it."""
    node = {
        "apiVersion": "v1", "kind": "Node",
        "metadata": {"name": "floe-ghost", "labels": {"example.com/ghost": "true"}},
        "spec": {"taints": [{"key": "example.com/ghost", "effect": "NoSchedule"}]},
    }  # fmt: skip
    kube.kubectl("delete", "node", "floe-ghost", "--ignore-not-found")
    kube.apply(node)
    try:
        status = {
            "capacity": {"cpu": "8", "memory": "16Gi", "pods": "20"},
            "allocatable": {"cpu": "8", "memory": "16Gi", "pods": "20"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "Ghost", "message": ""}],
        }
        ready = kube.request("PATCH", "/api/v1/nodes/floe-ghost/status", {"status": status}, "application/merge-patch+json")
        assert ready
        # A new node is taken to be not ready until its controller has looked.
        kube.wait("the node is open", 30, lambda: len(kube.request("GET", "/api/v1/nodes/floe-ghost")["spec"]["taints"]) == 1)
        compute = {
            "nodeSelector": {"example.com/ghost": "true"},
            "tolerations": [{"key": "example.com/ghost", "operator": "Exists"}],
        }
        queries.create("ghost", queries.spec(compute=compute, backoffLimit=1))

        def bound():
            return any(pod["spec"].get("nodeName") == "floe-ghost" for pod in queries.pods("ghost"))

        kube.wait("pods on the node", 30, bound, lambda: kube.story(queries.namespace))
        kube.kubectl("delete", "node", "floe-ghost")
        # The cluster's own garbage collection takes the pods away once it is sure (some 40 s); then there is no node.
        queries.told("ghost", "Unschedulable", limit_seconds=150)
        assert any(event["reason"] == "NodeLost" for event in queries.events("ghost"))
        # Another node takes the second attempt.
        kube.kubectl("label", "nodes", "--all", "--overwrite", "example.com/ghost=true")
        assert queries.succeeded("ghost", limit_seconds=120)["attempt"] == 2
        # What the lost attempt may have staged is removed by a pod that wants the same node.
        queries.wait("ghost", "cleaned up", cleaned_up)
    finally:
        kube.kubectl("delete", "node", "floe-ghost", "--ignore-not-found")
        kube.kubectl("label", "nodes", "--all", "example.com/ghost-")
        for pod in kube.items("pods", queries.namespace, "floe.dev/query"):
            if pod["spec"].get("nodeName") == "floe-ghost":
                kill(queries.namespace, pod)
