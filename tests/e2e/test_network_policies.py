"""Which connections to Floe's pods there are where the network enforces NetworkPolicies: its own, and those that `runner.from` of the
chart admits. They change the operator and the network, so they run after the others.

The test cluster enforces them while `tests/cluster/policies` is up. On another cluster that does not, these are skipped.
"""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from tests.e2e import kube
from tests.e2e.contexts import LARGER
from tests.e2e.queries import GATED, GATED_SINGLE
from tests.e2e.test_operator import CHART, helm

pytestmark = pytest.mark.alone
SWITCH = kube.REPO / "tests" / "cluster" / "policies"
ADMITTED = {"floe-client": "yes"}
HTTP, CONTROL, WORKER = 7071, 7070, 7072
# What can be connected to, of the addresses that it is given.
PROBE = """
import socket, sys
for address in sys.argv[1:]:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=3).close()
        print(address)
    except OSError:
        pass
"""
READ = """
import sys, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"Authorization": f"Bearer {sys.argv[2]}"})
print(len(urllib.request.urlopen(request, timeout=10).read()))
"""


def on_test_cluster() -> bool:
    cache = pathlib.Path(os.environ.get("FLOE_CACHE", pathlib.Path.home() / ".cache" / "floe"))
    return os.environ.get("KUBECONFIG") == str(cache / "cluster" / "kubeconfig")


@pytest.fixture(scope="module")
def admits():
    """`runner.from`, and a network that enforces it."""
    upgrade = ["upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--wait", "--timeout=120s", "--set-json"]
    helm(*upgrade, f"runner.from={json.dumps([{'podSelector': {'matchLabels': ADMITTED}}])}")
    if on_test_cluster():
        subprocess.run([SWITCH, "up"], check=True, timeout=1500)
    yield
    if on_test_cluster():
        subprocess.run([SWITCH, "down"], check=True, timeout=60)
    helm(*upgrade, "runner.from=[]")


class Clients:
    """Pods that try to connect: one that `runner.from` admits, one that it does not, and one of another namespace."""

    def __init__(self, namespace: str):
        self.pods = {"admitted": (namespace, ADMITTED), "stranger": (namespace, {}), "elsewhere": ("default", ADMITTED)}
        for name, (place, labels) in self.pods.items():
            kube.apply(client(name, labels), namespace=place)
        for name, (place, _) in self.pods.items():
            kube.kubectl("wait", "-n", place, f"pod/{name}", "--for=condition=Ready", "--timeout=60s", timeout=90)

    def python(self, name: str, script: str, *arguments: str) -> str:
        return kube.kubectl("exec", "-n", self.pods[name][0], name, "--", "python3", "-c", script, *arguments)

    def reach(self, *addresses: str) -> dict[str, list[str]]:
        """What each of them can connect to."""
        return {name: self.python(name, PROBE, *addresses).split() for name in self.pods}

    def remove(self) -> None:
        for name, (place, _) in self.pods.items():
            kube.request("DELETE", kube.path("pods", place, name) + "?gracePeriodSeconds=0")


def client(name: str, labels: dict) -> dict:
    security = {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
    container = {
        "name": "client", "image": os.environ["FLOE_RUNNER_IMAGE"], "command": ["sleep", "900"],
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }  # fmt: skip
    spec = {"securityContext": security, "containers": [container], "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def clients(queries):
    made = Clients(queries.namespace)
    yield made
    made.remove()


def address(pod: dict, port: int) -> str:
    return f"{pod['status']['podIP']}:{port}"


def enforced(clients: Clients, open_to_clients: str, *others: str) -> None:
    """Until the network has taken in the policies, that of a query or context; then it must hold what they say."""
    want = {"admitted": [open_to_clients], "stranger": [], "elsewhere": []}
    last: dict = {}

    def as_told():
        last.update(clients.reach(open_to_clients, *others))
        return last == want

    try:
        kube.wait("the policies", 60, as_told)
    except AssertionError:
        if not on_test_cluster() and all(len(reached) == 1 + len(others) for reached in last.values()):
            pytest.skip("the network of this cluster enforces no NetworkPolicies")
        raise AssertionError(f"reached: {last}, want: {want}") from None


def test_a_query_works_and_its_coordinator_is_open_to_those_that_are_admitted(admits, queries, clients, groups_result):
    queries.create("net", queries.spec(GATED, sink=None))
    queries.at_gate("net")
    coordinator, worker = queries.pod("net", "coordinator"), queries.pod("net", "worker")
    enforced(clients, address(coordinator, HTTP), address(coordinator, CONTROL), address(worker, WORKER))
    # Operator, coordinator and workers reach each other: rows go from worker to worker, and the end is told.
    queries.open()
    queries.succeeded("net")
    result = f"http://{address(coordinator, HTTP)}/api/v1/queries/{queries.get('net')['metadata']['uid']}/result"
    assert int(clients.python("admitted", READ, result, queries.token("net"))) > groups_result.height


def test_so_is_that_of_a_context(admits, queries, contexts, clients):
    contexts.create(compute=LARGER)
    contexts.ready()
    queries.create("held", contexts.query(GATED_SINGLE, sink=None))
    queries.phase("held", "Running", limit_seconds=60)
    (coordinator,), (worker, *_) = contexts.pods("coordinator"), contexts.pods("worker")
    enforced(clients, address(coordinator, HTTP), address(coordinator, CONTROL), address(worker, WORKER))
    queries.open()
    queries.succeeded("held")
