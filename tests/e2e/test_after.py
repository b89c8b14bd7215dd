"""Queries that wait for others (`spec.after`)."""

from __future__ import annotations

import pytest

from tests.e2e import kube
from tests.e2e.queries import GROUPS

WRONG = 'import polars as pl\nresult = pl.LazyFrame({"a": [1]}).select("b")'


def after(*names: str, **more) -> list[dict]:
    return [{"query": name, **more} for name in names]


def test_a_chain_runs_in_its_order(queries):
    queries.create("last", queries.spec(GROUPS, after=after("first", "second")))
    status = queries.told("last", "WaitingForQuery")
    assert status["phase"] == "Pending" and "there is no query first yet" in status["message"], status
    queries.create("second", queries.spec(GROUPS, after=after("first")))
    queries.create("first", queries.spec(GROUPS))
    ended = [queries.succeeded(name) for name in ("first", "second", "last")]
    for before, then in zip(ended, ended[1:]):
        assert before["finishedAt"] <= then["startedAt"], (before, then)
    assert not [event for event in queries.events("last") if event.get("type") == "Warning"]


def test_one_that_waits_has_no_pods_and_goes_at_once(queries):
    queries.create("held", queries.spec(GROUPS, suspend=True))
    queries.create("waits", queries.spec(GROUPS, after=after("held")))
    status = queries.told("waits", "WaitingForQuery")
    assert "the query held has not ended" in status["message"]
    assert not queries.pods("waits")
    (condition,) = [one for one in status["conditions"] if one["type"] == "CoordinatorReady"]
    assert (condition["status"], condition["reason"]) == ("False", "WaitingForQuery")
    queries.delete("waits", limit_seconds=10)


def test_those_behind_one_that_fails_fail_or_go_on_as_they_say(queries):
    queries.create("wrong", queries.spec(WRONG))
    queries.create("then", queries.spec(GROUPS, after=after("wrong")))
    queries.create("later", queries.spec(GROUPS, after=after("then")))
    queries.create("anyway", queries.spec(GROUPS, after=after("wrong", condition="Ended")))
    reason = queries.phase("wrong", "Failed", limit_seconds=120)["reason"]
    assert f"the query wrong failed ({reason})" in queries.failed("then", "QueryBeforeFailed", limit_seconds=20)["message"]
    assert "the query then failed (QueryBeforeFailed)" in queries.failed("later", "QueryBeforeFailed", limit_seconds=20)["message"]
    queries.succeeded("anyway")


def test_circles_are_refused(queries):
    with pytest.raises(AssertionError, match="names the query itself"):
        queries.create("own", queries.spec(GROUPS, after=after("own")))
    queries.create("a", queries.spec(GROUPS, after=after("b")))
    queries.create("b", queries.spec(GROUPS, after=after("a")))
    # Who is looked at first is told of the circle; the other one may hear that it failed.
    messages = [queries.failed(name, "QueryBeforeFailed")["message"] for name in ("a", "b")]
    assert any("wait for each other: " in message for message in messages), messages
    assert not kube.items("pods", queries.namespace)
