"""Queries that stand in line at a context, in which order they start, and what the context tells of itself meanwhile: in its status
and by `floe contexts`."""

from __future__ import annotations

import json
import re

import pytest

from tests.e2e.command import FLOE, floe, good
from tests.e2e.contexts import LARGER
from tests.e2e.queries import GATED_ONCE


def mebibytes(text: str) -> float:
    number, unit = re.fullmatch(r"([0-9.]+)(Mi|Gi)", text).groups()
    return float(number) * (1024 if unit == "Gi" else 1)


def gated(contexts, gate: str, **more) -> dict:
    return contexts.query(GATED_ONCE, params={"gate": contexts.queries.gate(gate)}, **more)


def test_those_over_the_limit_wait_by_priority_and_the_rest_outside(contexts, queries, groups_result):
    contexts.create(maxQueriesAtOnce=1, maxWorkers=1, queue={"maxQueries": 2}, compute=LARGER)
    contexts.ready()
    queries.create("holds", gated(contexts, "first"))
    queries.at_gate("holds")
    queries.create("low", contexts.sql())
    waits = lambda ahead: lambda status: (status.get("reason"), status.get("ahead")) == ("ContextFull", ahead)  # noqa: E731
    assert queries.wait("low", "it waits", waits(0))["phase"] == "Pending"
    queries.create("high", gated(contexts, "second", priority=5))
    queries.wait("high", "it is the next", waits(0))
    status = queries.wait("low", "it lets the other one go first", waits(1))
    assert "One query of context warm that waits comes first" in status["message"], status
    # The line is full: the context does not know of these, and they try again.
    queries.create("outside", contexts.sql())
    queries.create("brief", contexts.sql(startingDeadlineSeconds=3))
    status = queries.told("outside", "ContextFull")
    assert status["phase"] == "Pending" and "1 query runs and 2 wait" in status["message"], status
    assert "spec.queue of the context" in status["message"] and "--max" not in status["message"] and "ahead" not in status, status
    queries.failed("brief", "StartingDeadline")
    told = contexts.status()
    assert (told["queriesRunning"], told["queriesWaiting"], told["phase"]) == (1, 2, "Ready"), told

    queries.open("first")
    queries.succeeded("holds")
    # The higher priority came later and is the first.
    queries.at_gate("high")
    assert queries.status("low")["phase"] == "Pending"
    queries.open("second")
    for name in ("high", "low", "outside"):
        status = queries.succeeded(name)
        assert status["attempt"] == 1 and status.get("failures", 0) == 0, status
    queries.holds("high", groups_result)


def test_its_status_tells_memory_and_the_command_prints_it(contexts, queries):
    contexts.create(maxWorkers=1, maxQueriesAtOnce=3, compute=LARGER)
    contexts.ready()
    queries.create("holds", contexts.query(GATED_ONCE))
    queries.at_gate("holds")
    status = contexts.wait("it tells of the query", lambda status: status.get("queriesRunning") == 1)
    used, limit = map(mebibytes, status["memory"].split("/"))
    # The engine's part of what the pod may use.
    assert 0 <= used <= limit and 256 <= limit <= 640, status["memory"]
    queries.open()
    queries.succeeded("holds")
    told_by_command(contexts)


def told_by_command(contexts) -> None:
    if FLOE is None:
        pytest.skip("floe is not built on this machine")
    at = ["-n", contexts.namespace]
    status = contexts.wait("it is at rest", lambda status: "idleSince" in status and status["queriesRunning"] == 0)
    head, row = good("contexts", *at).splitlines()
    assert head.split() == ["NAME", "PHASE", "WORKERS", "RUNNING", "WAITING", "AGE"]
    assert row.split()[:5] == ["warm", "Ready", "1/1", "0", "0"]
    wide = good("contexts", *at, "-o", "wide").splitlines()[1].split()
    assert wide[0] == "warm" and status["coordinator"] in wide and any(re.fullmatch(r"[0-9.]+[MG]i/[0-9.]+[MG]i", word) for word in wide), wide
    shown = good("contexts", "warm", *at)
    for words in ("Phase:       Ready", "1 connected, 1 wanted (from 1 to 1)", "0 running, 0 waiting (at most 3 at once)", "cpus 50m, memory 640Mi", "Memory:"):
        assert words in shown, shown
    assert json.loads(good("contexts", "warm", *at, "-o", "json"))["status"]["serving"] == 1
    assert good("contexts", "-A", "-o", "name").split().count("warm") >= 1
    missing = floe("contexts", "cold", *at)
    assert missing.returncode == 2 and "there is no context cold" in missing.stderr, missing.stderr
    # A context is nothing that the doctor minds.
    checked = floe("doctor", *at, "-o", "json")
    assert checked.returncode == 0 and json.loads(checked.stdout)["ok"], checked.stdout
