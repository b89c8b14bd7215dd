"""What changes under the queries of a context: its image, its most workers, workers and coordinators that are lost, a neighbour
that takes too much memory. No query fails by it but the one that did it."""

from __future__ import annotations

import os

import pytest

from tests.e2e import kube
from tests.e2e.contexts import LARGER
from tests.e2e.queries import GATED_ONCE

OTHER_IMAGE = os.environ.get("FLOE_OTHER_RUNNER_IMAGE")
# 64 million pairs that must all be held at once.
HUGE = """
def side(name):
    return pl.LazyFrame({name: range(8_000)})

result = side("a").join(side("b"), how="cross").select((pl.col("a") * pl.col("b")).sort())
"""


def kill(contexts, pod: dict) -> None:
    kube.request("DELETE", kube.path("pods", contexts.namespace, pod["metadata"]["name"]), {"gracePeriodSeconds": 0})


def unharmed(queries, name: str, want) -> dict:
    status = queries.succeeded(name)
    assert status["attempt"] == 1 and status.get("failures", 0) == 0, status
    queries.holds(name, want)
    return status


def images(pods: list[dict]) -> set[str]:
    return {container["image"] for pod in pods for container in pod["spec"]["containers"]}


@pytest.mark.skipif(not OTHER_IMAGE, reason="FLOE_OTHER_RUNNER_IMAGE names no second image of the runner")
def test_another_image_takes_over_and_one_that_cannot_be_pulled_does_not(contexts, queries, groups_result):
    contexts.create(compute=LARGER)
    contexts.ready()
    queries.create("long", contexts.query(GATED_ONCE))
    queries.at_gate("long")
    contexts.change(compute={"image": OTHER_IMAGE})
    contexts.wait("the other image takes queries", lambda status: status.get("serving") == 2, 150)
    queries.create("new", contexts.sql())
    status = unharmed(queries, "new", groups_result.select("l_suppkey", "n"))
    assert status["context"]["coordinator"] == "warm-g2-c"
    # The one that runs keeps its pods.
    assert queries.status("long")["phase"] == "Running"
    assert queries.status("long")["context"]["coordinator"] == "warm-g1-c"
    by_revision = {number: images(contexts.revision(number)) for number in (1, 2)}
    assert by_revision == {1: {os.environ["FLOE_RUNNER_IMAGE"]}, 2: {OTHER_IMAGE}}
    queries.open()
    unharmed(queries, "long", groups_result)
    gone = lambda: not contexts.revision(1)  # noqa: E731
    kube.wait("the former pods are gone", 60, gone, lambda: kube.story(contexts.namespace))

    # One that is not there: what runs goes on, and so does what comes.
    contexts.change(compute={"image": "localhost/no-such-image:1"})
    status = contexts.wait("it tells of the image", lambda status: status.get("reason") == "ImagePull", 60)
    assert "no-such-image" in status["message"], status
    assert status["phase"] == "Changing" and status["serving"] == 2, status
    queries.create("meanwhile", contexts.sql())
    unharmed(queries, "meanwhile", groups_result.select("l_suppkey", "n"))
    contexts.change(compute={"image": OTHER_IMAGE})
    ready = lambda status: status["phase"] == "Ready" and status["serving"] == 4 and len(status["revisions"]) == 1  # noqa: E731
    status = contexts.wait("it is as it was", ready, 150)
    assert "reason" not in status and status["revisions"][0]["image"] == OTHER_IMAGE, status
    assert images(contexts.pods()) == {OTHER_IMAGE}
    queries.create("after", contexts.sql())
    unharmed(queries, "after", groups_result.select("l_suppkey", "n"))


def test_a_lost_worker_costs_no_query_and_a_lost_coordinator_makes_them_run_again(contexts, queries, groups_result):
    contexts.create(minWorkers=2, compute=LARGER)
    contexts.ready(2)
    names = ["one", "two"]
    for name in names:
        queries.create(name, contexts.query(GATED_ONCE))
    for name in names:
        queries.at_gate(name)
    # Each of them has a task on one of the two.
    victim = contexts.pods("worker")[0]
    kill(contexts, victim)
    others = lambda: [pod for pod in contexts.pods("worker") if pod["metadata"]["uid"] != victim["metadata"]["uid"]]  # noqa: E731
    kube.wait("another worker", 60, lambda: len(others()) == 2, lambda: kube.story(contexts.namespace))
    contexts.ready(2)
    queries.open()
    for name in names:
        unharmed(queries, name, groups_result)

    queries.close_gates()
    queries.create("again", contexts.query(GATED_ONCE))
    queries.at_gate("again")
    (coordinator,) = contexts.pods("coordinator")
    kill(contexts, coordinator)
    another = lambda status: status.get("attempt") == 2 and status.get("phase") == "Running"  # noqa: E731
    queries.wait("again", "another attempt runs", another, 120)
    queries.open()
    status = queries.succeeded("again")
    assert status["attempt"] == 2 and status["context"]["coordinator"] != coordinator["metadata"]["name"]
    queries.holds("again", groups_result)


def test_a_query_that_runs_out_of_memory_fails_alone(contexts, queries, groups_result):
    contexts.create(minWorkers=2, compute=LARGER)
    contexts.ready(2)
    queries.create("beside", contexts.query(GATED_ONCE))
    queries.at_gate("beside")
    queries.create("huge", contexts.query(HUGE))
    status = queries.failed("huge", "OutOfMemory", limit_seconds=150)
    assert "spec.compute.memory" in status["message"] and status["attempt"] == 1, status
    assert queries.status("beside")["phase"] == "Running"
    queries.open()
    unharmed(queries, "beside", groups_result)
    # What is left of it takes others.
    queries.create("after", contexts.query())
    unharmed(queries, "after", groups_result)


def test_fewer_workers_drain_while_queries_run(contexts, queries, groups_result):
    contexts.create(maxWorkers=3, cooldownSeconds=1, compute=LARGER)
    contexts.ready()
    names = ["one", "two", "three"]
    for name in names:
        queries.create(name, contexts.query(GATED_ONCE))
    contexts.ready(3)
    for name in names:
        queries.at_gate(name)
    contexts.change(maxWorkers=1)
    status = contexts.wait("two take no more tasks", lambda status: status["workers"] == {"ready": 1, "wanted": 1, "summary": "1/1"})
    # They stay for what they have begun.
    assert len(contexts.pods("worker")) == 3 and status["queriesRunning"] == 3, status
    queries.open()
    for name in names:
        unharmed(queries, name, groups_result)
    kube.wait("one worker", 60, lambda: len(contexts.pods("worker")) == 1, lambda: kube.story(contexts.namespace))
    assert "workersLost" not in contexts.status()
    warnings = [event["message"] for event in contexts.events() if event["type"] == "Warning"]
    assert not warnings
