"""Warm contexts: queries that borrow one run without pods of their own, workers follow the work, and changes, losses and
deletions harm nobody."""

from __future__ import annotations

import json
import subprocess
import time

import polars as pl
import pytest

from tests import support
from tests.e2e import kube, store
from tests.e2e.contexts import COUNT, LARGER
from tests.e2e.queries import BUSY, GATED_ONCE


@pytest.fixture(scope="session")
def counts(groups_result) -> pl.DataFrame:
    return groups_result.select("l_suppkey", "n")


def test_a_query_on_a_context_has_no_pods_and_its_result_is_read_as_any_other(contexts, queries, counts):
    contexts.create()
    contexts.ready()
    queries.create("sink", contexts.query())
    status = queries.succeeded("sink")
    assert status["attempt"] == 1 and status["context"]["name"] == "warm" and status["rows"] == counts.height
    assert not queries.pods("sink") and status["stages"] and status["progress"] == "100%"
    queries.holds("sink", counts)
    # Without a sink; its credentials are its own.
    queries.create("rows", contexts.sql(sink=None))
    queries.succeeded("rows")
    frame = queries.read("rows").select("l_suppkey", pl.col("n").cast(pl.UInt32))
    support.assert_same(frame, counts, ordered=False)
    # A tiny one, once all is warm.
    begin = time.monotonic()
    queries.create("tiny", {"plan": {"sql": "SELECT 1 AS one"}, "compute": {"contextRef": {"name": "warm"}}})
    queries.succeeded("tiny")
    assert time.monotonic() - begin < 10
    assert queries.read("tiny").to_dict(as_series=False) == {"one": [1]}
    # What fails is told as always.
    queries.create("wrong", contexts.query('result = scan("lineitem").select("nothing")'))
    assert "ColumnNotFoundError" in queries.failed("wrong", "BadPlan")["message"]


def test_the_shell_runs_its_statements_on_it(contexts, queries, counts):
    contexts.create()
    contexts.ready()
    table = f"lineitem=s3://{store.BUCKET}/sf0.1/lineitem/*.parquet"
    text = f"""
    create view sums as {COUNT};
    select count(*) as suppliers, max(n) as most from sums;
    explain {COUNT};
    select nothing from lineitem;
    select * from sums order by l_suppkey limit 3;
    """
    done = shell(queries.namespace, "--keep-going", "-o", "json", "--table", table, text=text)
    assert done.returncode == 2, done.stderr
    lines = done.stdout.splitlines()
    assert json.loads(lines[0]) == {"suppliers": counts.height, "most": counts["n"].max()}
    assert "lineitem" in done.stdout and "stage" in done.stdout.lower()
    first = counts.sort("l_suppkey").head(3).select("l_suppkey", "n").to_dicts()
    assert [json.loads(line) for line in lines[-3:]] == first
    assert "nothing" in done.stderr and "BadPlan" in done.stderr
    done = shell(queries.namespace, "--table", table, text="select l_suppkey from lineitem limit 2;")
    assert done.returncode == 0 and "shape: (2, 1)" in done.stdout and "2 rows in" in done.stderr, done.stderr
    # Its queries go with their rows.
    kube.wait("no queries", 30, lambda: not kube.items("distributedqueries", queries.namespace))
    done = shell(queries.namespace, "data/", text="select 1")
    assert done.returncode == 2 and "reads no files of this machine" in done.stderr
    done = shell(queries.namespace, text="select 1", context="cold")
    assert done.returncode == 2 and "there is no context cold" in done.stderr


def shell(namespace: str, *arguments: str, text: str, context: str = "warm") -> subprocess.CompletedProcess:
    command = [support.binary("floe"), "shell", "--on", context, "-n", namespace, *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)


def test_a_query_waits_for_a_context_that_is_not_there(contexts, queries):
    queries.create("early", contexts.sql())
    status = queries.told("early", "MissingContext")
    assert status["phase"] == "Pending" and "no ComputeContext warm" in status["message"]
    contexts.create()
    queries.succeeded("early")


def test_twenty_queries_at_once_share_it(contexts, queries, counts):
    contexts.create(maxWorkers=3, maxQueriesAtOnce=6, compute=LARGER)
    contexts.ready()
    # These hold workers while others are planned.
    held = [f"held-{number}" for number in range(3)]
    for name in held:
        queries.create(name, contexts.query(GATED_ONCE))
    names = [f"many-{number}" for number in range(20)]
    for name in names:
        queries.create(name, contexts.sql())
    contexts.wait("all workers", lambda status: status["workers"]["ready"] == 3, 90)
    queries.open()
    names = held + names
    for name in names:
        status = queries.succeeded(name)
        assert status.get("failures", 0) == 0 and status["attempt"] == 1
    for name in ("many-0", "many-19"):
        queries.holds(name, counts)
    assert len(contexts.pods("coordinator")) == 1


def test_users_take_turns_however_many_queries_they_send(contexts, queries):
    contexts.create(maxQueriesAtOnce=1, fairShare={"label": "user"}, compute=LARGER)
    contexts.ready()
    # Nothing starts until all are there.
    queries.create("hold", contexts.query(GATED_ONCE, labels={"user": "carol"}))
    queries.phase("hold", "Running", limit_seconds=60)
    many = [f"alice-{number}" for number in range(8)]
    for name in many:
        queries.create(name, contexts.query(sink=None, labels={"user": "alice"}))
    queries.create("bob", contexts.query(sink=None, labels={"user": "bob"}))
    contexts.wait("all of them", lambda status: status.get("queriesWaiting", 0) == 9)
    queries.change("hold", cancel=True)
    served = queries.succeeded("bob", limit_seconds=120)["finishedAt"]
    ends = [queries.succeeded(name)["finishedAt"] for name in many]
    # Each takes its time to start a script, so ends lie apart: at most one went before it.
    assert sum(end > served for end in ends) >= 4, (served, ends)


@pytest.mark.alone
def test_without_queries_it_is_one_pod_and_the_next_query_brings_workers_back(contexts, queries):
    contexts.create(idleTimeoutSeconds=5, cooldownSeconds=2)
    contexts.ready()
    status = contexts.wait("idle", lambda status: status["phase"] == "Idle" and status["workers"]["ready"] == 0, 90)
    assert status["workers"]["wanted"] == 0
    kube.wait("one pod", 60, lambda: len(contexts.pods()) == 1, lambda: kube.story(contexts.namespace))
    queries.create("again", contexts.sql())
    status = queries.succeeded("again")
    assert status["attempt"] == 1 and status.get("failures", 0) == 0


def test_a_change_of_size_fails_no_query(contexts, queries, counts):
    contexts.create(compute=LARGER)
    contexts.ready()
    queries.create("long", contexts.query(GATED_ONCE))
    queries.at_gate("long")
    queries.create("kept", contexts.sql(sink=None))
    queries.succeeded("kept")
    before = contexts.status()["serving"]
    contexts.change(compute={"memory": "704Mi"})
    contexts.wait("the change", lambda status: status["phase"] == "Changing" or status["serving"] != before)
    queries.create("meanwhile", contexts.sql())
    status = contexts.wait("another coordinator", lambda status: status["serving"] != before, 150)
    queries.create("after", contexts.sql())
    assert queries.status("long")["phase"] == "Running"
    queries.open()
    for name in ("meanwhile", "after", "long"):
        ended = queries.succeeded(name)
        assert ended["attempt"] == 1 and ended.get("failures", 0) == 0
    assert queries.status("after")["context"]["coordinator"] != queries.status("long")["context"]["coordinator"]
    queries.holds("after", counts)
    # Its coordinator stays for the result, and goes with it.
    assert queries.read("kept").height == counts.height
    queries.delete("kept")
    new = str(status["serving"])
    kube.wait(
        "the former pods are gone", 120,
        lambda: all(pod["metadata"]["labels"]["floe.dev/attempt"] == new for pod in contexts.pods()),
        lambda: f"{contexts.status()}\n{kube.story(contexts.namespace)}",
    )  # fmt: skip
    limits = contexts.pods("worker")[0]["spec"]["containers"][0]["resources"]["limits"]
    assert limits["memory"] == "704Mi"


def test_a_cancelled_query_disturbs_no_other(contexts, queries, counts):
    contexts.create(compute=LARGER)
    contexts.ready()
    # One that is at work, so that it is cancelled in the middle of it.
    queries.create("slow", contexts.query(BUSY))
    queries.phase("slow", "Running", limit_seconds=60)
    queries.create("beside", contexts.sql())
    queries.change("slow", cancel=True)
    queries.phase("slow", "Cancelled", limit_seconds=60)
    assert queries.succeeded("beside")["attempt"] == 1
    queries.holds("beside", counts)
    assert not store.keys(f"{queries.prefix}/slow/")
    # Suspended and resumed it begins again.
    queries.create("held", contexts.query(GATED_ONCE))
    queries.phase("held", "Running", limit_seconds=60)
    queries.change("held", suspend=True)
    queries.phase("held", "Suspended", limit_seconds=60)
    queries.change("held", suspend=False)
    assert queries.phase("held", "Running", limit_seconds=60)["attempt"] == 2
    queries.delete("held")
    contexts.wait("it was told", lambda status: status["queriesRunning"] == 0)


@pytest.mark.alone
def test_a_deleted_context_leaves_nothing_and_its_queries_wait(contexts, queries):
    contexts.create(compute=LARGER)
    contexts.ready()
    queries.create("orphan", contexts.query(GATED_ONCE))
    queries.phase("orphan", "Running", limit_seconds=60)
    contexts.delete()
    kube.wait("no pods", 60, lambda: not contexts.pods(), lambda: kube.story(contexts.namespace))
    left = [kind for kind in ("secrets", "networkpolicies") if kube.items(kind, contexts.namespace, "floe.dev/context")]
    assert not left
    queries.told("orphan", "MissingContext", limit_seconds=60)
    queries.change("orphan", cancel=True)
    queries.phase("orphan", "Cancelled", limit_seconds=90)
