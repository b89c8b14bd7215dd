"""The operator's own limits: how many queries may be at work at once, and that a namespace with many keeps nobody waiting.
These change the operator's options, so they run alone."""

from __future__ import annotations

import json
import time

import pytest

from tests.e2e import kube, store
from tests.e2e.queries import GATED, GROUPS, Queries
from tests.e2e.test_operator import CHART, helm, kill_operators

pytestmark = pytest.mark.alone
UPGRADE = ["upgrade", "floe", CHART, "-n", "floe-system", "--reuse-values", "--wait", "--timeout=120s", "--set-json"]


@pytest.fixture
def other(queries):
    """A second namespace."""
    name = f"{queries.namespace}-other"
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    kube.request("POST", "/api/v1/namespaces", body)
    kube.request("POST", kube.path("secrets", name), store.secret("s3", name))
    kube.wait("the default service account", 20, lambda: kube.request("GET", f"/api/v1/namespaces/{name}/serviceaccounts/default"))
    made = Queries(name)
    yield made
    made.nothing_left()
    kube.request("DELETE", f"/api/v1/namespaces/{name}")


@pytest.fixture
def limited():
    """Two queries at once, of any namespaces."""
    helm(*UPGRADE, f"limits={json.dumps({'maxQueries': 2})}")
    yield
    helm(*UPGRADE, f"limits={json.dumps({'maxQueries': None})}")


def test_queries_wait_for_their_share_and_namespaces_take_turns(limited, queries, other):
    for number in range(2):
        queries.create(f"held-{number}", queries.spec(GATED, params={"gate": queries.gate(f"held-{number}")}))
    for number in range(2):
        queries.at_gate(f"held-{number}")
    for number in range(3):
        queries.create(f"more-{number}", queries.spec(GATED))
        time.sleep(1.1)  # creation times are whole seconds
    other.create("late", other.spec(GATED))
    last = queries.wait("more-2", "its place", lambda status: status.get("ahead") == 2, 30)
    assert last["reason"] == "WaitingForShare" and last["phase"] == "Pending" and "2 of 2 queries" in last["message"], last
    assert not queries.pods("more-0") and not other.pods("late")
    # An operator that comes up anew counts those at work before it admits anybody.
    kill_operators()
    queries.change("more-2", labels={"touched": "yes"})
    time.sleep(5)
    assert not any(queries.pods(f"more-{number}") for number in range(3)) and not other.pods("late")
    # The other namespace has nothing at work: the one query that it sends is next.
    queries.open("held-0")
    queries.succeeded("held-0")
    other.at_gate("late")
    assert not queries.pods("more-0")
    queries.open("held-1")
    queries.succeeded("held-1")
    queries.at_gate("more-0")
    assert not queries.pods("more-1")
    # One that is held has no share.
    queries.change("more-0", suspend=True)
    queries.phase("more-0", "Suspended")
    queries.at_gate("more-1")
    queries.change("more-0", suspend=False)
    queries.open()
    other.open()
    for number in range(3):
        queries.succeeded(f"more-{number}")
    other.succeeded("late")


def test_limits_that_are_no_limits_stop_the_operator_with_a_message(queries):
    with pytest.raises(AssertionError, match="maxPods"):
        helm(*UPGRADE, f"limits={json.dumps({'maxPods': 1})}")
    queries.create("on", queries.spec(GROUPS))
    queries.succeeded("on")
