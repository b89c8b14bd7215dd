"""Cancel, suspend and resume, times to live, deletion in every phase."""

from __future__ import annotations

import time

import pytest

from tests.e2e import kube, store
from tests.e2e.queries import BUSY, GROUPS, ROOMY

PHASES = ["Pending", "Starting", "Planning", "Running", "Committing", "Succeeded", "Failed", "Suspended", "Cancelled"]


def until(queries, name: str, phase: str) -> None:
    """Until the query is in the phase or was quicker: some phases last milliseconds."""
    later = PHASES[PHASES.index(phase) :]
    queries.wait(name, f"phase {phase}", lambda status: (status.get("phase") or "Pending") in later, 120)


def test_cancel(queries):
    # Workers at work are stopped in the middle of it.
    queries.create("slow", queries.spec(BUSY))
    queries.phase("slow", "Running", limit_seconds=90)
    begin = time.monotonic()
    queries.change("slow", cancel=True)
    status = queries.phase("slow", "Cancelled", limit_seconds=60)
    print(f"cancelled after {time.monotonic() - begin:.1f} s")
    assert status["reason"] == "Cancelled" and status["finishedAt"]
    queries.no_pods("slow")
    kube.wait("nothing left", 30, lambda: not queries.left("slow"), lambda: str(queries.left("slow")))
    assert not store.keys(f"{queries.prefix}/slow/")


def test_suspend_and_resume(queries, slow):
    queries.create("slow", queries.spec(slow, backoffLimit=0))
    queries.phase("slow", "Running", limit_seconds=90)
    queries.change("slow", suspend=True)
    queries.phase("slow", "Suspended", limit_seconds=60)
    queries.no_pods("slow")
    # A suspended query takes nothing; what it runs next is another attempt, which counts against no limit.
    queries.change("slow", suspend=False)
    status = queries.phase("slow", "Running", limit_seconds=90)
    assert status["attempt"] == 2
    queries.delete("slow")


def test_made_suspended(queries):
    queries.create("held", queries.spec(suspend=True))
    queries.phase("held", "Suspended", limit_seconds=30)
    time.sleep(2)
    assert not queries.pods("held")
    queries.change("held", suspend=False)
    queries.succeeded("held")


@pytest.mark.parametrize("outcome", ["succeeded", "failed"])
def test_time_to_live(queries, outcome):
    script = GROUPS if outcome == "succeeded" else "raise ValueError()"
    queries.create("brief", queries.spec(script, ttlSecondsAfterFinished={outcome: 3}))
    kube.wait("the query is gone", 120, lambda: queries.get("brief") is None, lambda: kube.story(queries.namespace))
    # Its pods may still be on their way out.
    kube.wait("nothing left", 60, lambda: not queries.left("brief"), lambda: f"{queries.left('brief')}\n{kube.story(queries.namespace)}")
    kept = [key for key in store.keys(f"{queries.prefix}/brief/") if key.endswith(".parquet")]
    assert bool(kept) == (outcome == "succeeded"), "what the query wrote is not the operator's to delete"


@pytest.mark.parametrize("phase", ["Pending", "Starting", "Planning", "Running", "Committing", "Succeeded", "Failed", "Suspended"])
def test_deletion(queries, slow, phase):
    if phase in ("Planning", "Running"):
        spec = queries.spec(slow)
    elif phase == "Failed":
        spec = queries.spec("raise ValueError()")
    else:
        spec = queries.spec(GROUPS, suspend=phase == "Suspended")
    queries.create("gone", spec)
    until(queries, "gone", phase)
    begin = time.monotonic()
    queries.delete("gone")
    print(f"deleted in {phase} after {time.monotonic() - begin:.1f} s")
    kube.wait("nothing left", 60, lambda: not queries.left("gone"), lambda: f"{queries.left('gone')}\n{kube.story(queries.namespace)}")
    files = store.keys(f"{queries.prefix}/gone/")
    if phase in ("Pending", "Starting", "Planning", "Running", "Failed", "Suspended"):
        assert not files, files


def test_a_manager_is_given_at_the_start_or_never(queries, slow):
    queries.create("mine", queries.spec(slow))
    queries.phase("mine", "Running", limit_seconds=90)
    path = kube.path("distributedqueries", queries.namespace, "mine")
    with pytest.raises(AssertionError, match="managedBy can be neither added"):
        kube.request("PATCH", path, {"spec": {"managedBy": "example.com/other"}}, "application/merge-patch+json")
    queries.delete("mine")


def test_the_deletion_of_a_managed_query_is_served_when_it_has_floes_finalizer(queries):
    """As one that a backup brought back, or that got its manager before the rule was there."""
    query = {
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
        "metadata": {"name": "theirs", "finalizers": ["floe.dev/cleanup"]},
        "spec": queries.spec(GROUPS, managedBy="example.com/other"),
    }  # fmt: skip
    query["spec"]["sink"]["uri"] = query["spec"]["sink"]["uri"].replace("NAME", "theirs")
    kube.apply(query, namespace=queries.namespace)
    time.sleep(2)
    assert not queries.pods("theirs") and not queries.status("theirs"), "it is not Floe's to run"
    queries.delete("theirs")


def test_workers_come_and_go_while_a_query_runs_and_nothing_else_changes(queries, slow):
    queries.create("steer", queries.spec(slow, workers=2))
    status = queries.phase("steer", "Running", limit_seconds=90)
    assert status["pinned"]["memory"] == ROOMY and status["pinned"]["image"]
    running = lambda count: lambda: len([p for p in queries.pods("steer", "worker") if p["status"]["phase"] == "Running"]) == count  # noqa: E731
    queries.change("steer", compute={"workers": 4})
    kube.wait("four workers", 60, running(4), lambda: kube.story(queries.namespace))
    queries.wait("steer", "4/4", lambda status: status["workers"].get("summary") == "4/4", 60)
    queries.change("steer", compute={"workers": 1})
    kube.wait("one worker", 90, running(1), lambda: kube.story(queries.namespace))
    assert queries.status("steer")["attempt"] == 1
    # Sizes are those of the attempt for as long as it runs.
    queries.change("steer", compute={"memory": "704Mi"})
    time.sleep(3)
    status = queries.status("steer")
    assert status["pinned"]["memory"] == ROOMY and status["attempt"] == 1
    # Held and resumed, it goes on with the change.
    queries.change("steer", suspend=True)
    queries.phase("steer", "Suspended", limit_seconds=60)
    queries.change("steer", suspend=False)
    status = queries.phase("steer", "Running", limit_seconds=90)
    assert status["pinned"]["memory"] == "704Mi" and status["attempt"] == 2
    queries.delete("steer")


def test_what_keeps_a_start_from_going_on_can_be_changed(queries):
    queries.create("where", queries.spec(compute={"nodeSelector": {"no.such/label": "x"}}))
    queries.told("where", "Unschedulable")
    queries.change("where", compute={"nodeSelector": None})
    status = queries.succeeded("where")
    assert status["failures"] == 0


def test_a_query_can_be_made_again_under_its_name(queries):
    for _ in range(2):
        queries.create("again", queries.spec(GROUPS))
        queries.succeeded("again")
        queries.delete("again")
