"""Queries as Workloads of Kueue, whose own controller runs here: admission by quota, priority, preemption and another
run, flavors, a part of the workers, a query that is held. These change the operator's options, so they run alone."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.e2e import kube, kueue
from tests.e2e.queries import GATED, GROUPS
from tests.e2e.test_operator import CHART, helm

pytestmark = pytest.mark.alone
UPGRADE = ["upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--wait", "--timeout=120s", "--set"]
# A coordinator and two workers ask for 384Mi and 2 x 640Mi.
QUERY = "1664Mi"


@pytest.fixture(scope="module")
def system():
    there = subprocess.run([kube.REPO / "tests" / "cluster" / "kueue"], capture_output=True, text=True, timeout=1500)
    if there.returncode == 3:
        pytest.skip(there.stderr.strip())
    try:
        kueue.install()
        helm(*UPGRADE, "kueue.enabled=true")
        yield
    finally:
        helm(*UPGRADE, "kueue.enabled=false")
        kueue.uninstall()


@pytest.fixture
def team(system, queries):
    yield queries
    queries.nothing_left()
    for kind, name in (("localqueues", "team"), ("clusterqueues", queries.namespace)):
        kube.run("delete", f"{kind}.kueue.x-k8s.io", name, "-n", queries.namespace, "--timeout=30s")


def create(queries, name: str, spec: dict, **labels: str) -> None:
    """A query in the queue `team`."""
    marks = {"kueue.x-k8s.io/queue-name": "team"} | {f"kueue.x-k8s.io/{key}": value for key, value in labels.items()}
    spec["sink"]["uri"] = spec["sink"]["uri"].replace("NAME", name)
    queries.made.append(name)
    body = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": name, "labels": marks}, "spec": spec}
    kube.create("distributedqueries", queries.namespace, body)


def waits(queries, name: str) -> dict:
    """Until the query tells what it waits for, in Kueue's words."""
    ask = lambda status: status.get("reason") == "WaitingForAdmission" and "quota" in status["message"]  # noqa: E731
    return queries.wait(name, "Kueue's words", ask, 30)


def finished(queries, name: str) -> None:
    kube.wait(
        f"Kueue knows that {name} has ended", 60, lambda: kueue.condition(queries.namespace, name, "Finished") == "True",
        lambda: f"{json.dumps(kueue.workload(queries.namespace, name), indent=1)}\n{kube.story(queries.namespace)}",
    )  # fmt: skip


def test_priority_takes_the_place_of_a_running_query_which_runs_again(team, groups_result):
    kueue.queues(team.namespace, memory=QUERY)
    create(team, "low", team.spec(GATED, backoffLimit=0))
    team.at_gate("low")
    kube.wait("Kueue knows that it runs", 20, lambda: kueue.condition(team.namespace, "low", "PodsReady") == "True")
    # Another of the same priority waits, and has nothing.
    create(team, "next", team.spec(GROUPS, compute={"memory": "640Mi"}))
    status = waits(team, "next")
    assert status["phase"] == "Pending" and "insufficient unused quota" in status["message"], status
    assert not team.pods("next") and not kube.items("secrets", team.namespace, "floe.dev/query=next")
    # One of a higher priority gets the place.
    create(team, "urgent", team.spec(GATED, params={"gate": team.gate("urgent")}), **{"priority-class": "urgent"})
    status = team.told("low", "Preempted", limit_seconds=60)
    assert status["phase"] == "Pending", status
    team.at_gate("urgent")
    assert not team.pods("low"), "its pods were gone before the other's came"
    assert not kube.items("secrets", team.namespace, "floe.dev/query=next")
    team.open()
    team.open("urgent")
    team.succeeded("urgent")
    for name in ("low", "next"):
        team.succeeded(name)
    status = team.status("low")
    assert status["failures"] == 0 and status["attempt"] >= 2, status
    team.holds("low", groups_result)
    reasons = {one["reason"] for one in team.events("low")}
    assert {"Preempted", "Admitted"} <= reasons, reasons
    for name in ("low", "next", "urgent"):
        finished(team, name)


def test_a_part_of_the_workers_and_nodes_of_a_flavor(team, groups_result):
    node = kube.request("GET", "/api/v1/nodes")["items"][0]["metadata"]["name"]
    kube.kubectl("label", "node", node, "floe.dev/pool=spot", "--overwrite")
    try:
        flavor = {"spot": {"nodeLabels": {"floe.dev/pool": "spot"}, "tolerations": [{"key": "spot", "operator": "Exists"}]}}
        kueue.queues(team.namespace, memory=QUERY, flavor="spot", flavors=flavor)
        create(team, "part", team.spec(GATED, compute={"workers": None, "minWorkers": 1, "maxWorkers": 6}))
        team.at_gate("part")
        assigned = kueue.workload(team.namespace, "part")["status"]["admission"]["podSetAssignments"]
        assert {one["name"]: one["count"] for one in assigned} == {"coordinator": 1, "workers": 2}, assigned
        assert len(team.pods("part", "worker")) <= 2
        worker = team.pod("part", "worker")
        assert worker["spec"]["nodeSelector"]["floe.dev/pool"] == "spot"
        assert any(one.get("key") == "spot" for one in worker["spec"]["tolerations"])
        team.open()
        team.succeeded("part")
        team.holds("part", groups_result)
        finished(team, "part")
    finally:
        kube.kubectl("label", "node", node, "floe.dev/pool-")


def test_held_changed_and_deleted_queries_leave_the_queue(team, groups_result):
    kueue.queues(team.namespace, memory=QUERY)
    create(team, "held", team.spec(GATED))
    team.at_gate("held")
    # What can never be admitted is told in Kueue's words, and changing it mends that.
    create(team, "large", team.spec(GROUPS, compute={"memory": "2Gi"}))
    waits(team, "large")
    team.change("held", suspend=True)
    team.phase("held", "Suspended")
    kube.wait("its Workload is gone", 30, lambda: kueue.workload(team.namespace, "held") is None, lambda: kube.story(team.namespace))
    team.change("large", compute={"memory": "640Mi"})
    team.succeeded("large")
    team.open()
    team.change("held", suspend=False)
    team.succeeded("held")
    team.holds("held", groups_result)
    team.delete("held")
    kube.wait("its Workload goes with it", 60, lambda: kueue.workload(team.namespace, "held") is None)


def test_an_operator_that_does_not_work_with_kueue_says_so(team):
    helm(*UPGRADE, "kueue.enabled=false")
    try:
        create(team, "off", team.spec(GROUPS))
        assert "kueue.enabled" in team.told("off", "NotQueued")["message"]
        assert not team.pods("off")
    finally:
        helm(*UPGRADE, "kueue.enabled=true")
    kueue.queues(team.namespace, memory=QUERY)
    team.succeeded("off")
