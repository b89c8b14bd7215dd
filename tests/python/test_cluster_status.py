"""What a query on a cluster tells, from the status of its object; a hand-written one, as the operator writes it."""

from __future__ import annotations

import threading
import time

import polars as pl
import pytest

import floe
from floe.exceptions import ContextError, QueryWarning, ResultGoneError


@pytest.fixture
def cluster(to_api):
    with floe.Kubernetes(**to_api) as context:
        yield context


def queries(api) -> list[str]:
    return [name for kind, name in api.objects if kind == "distributedqueries"]


@pytest.fixture
def query(api, cluster):
    """A query, and how to give it a status."""
    started = pl.LazyFrame({"a": [1]}).remote(cluster).execute(blocking=False)

    def tell(**status: object) -> None:
        api.put("distributedqueries", started.id, status=status)

    return started, tell


def test_a_query_says_what_holds_it_up(query):
    query, tell = query
    assert query.get_status() == floe.QueryStatus.QUEUED and query.held_up is None
    tell(phase="Pending", reason="QuotaExceeded", message="quota pods is full", ahead=3)
    assert query.held_up == "QuotaExceeded: quota pods is full"
    assert "3 queries before it" in query._repr_html_() and "quota pods is full" in query._repr_html_()
    tell(phase="Starting", reason="Unschedulable")
    assert query.held_up == "Unschedulable" and "queries before it" not in query._repr_html_()
    assert repr(query) == f"DirectQuery(id={query.id}, status=QUEUED, held_up='Unschedulable')"
    tell(phase="Running")
    assert query.held_up is None and "held_up" not in repr(query)
    tell(phase="Succeeded", reason="Completed", message="10 rows", rows=10)
    assert query.held_up is None and "Completed" not in query._repr_html_()


def test_what_holds_a_query_up_is_shown_while_it_is_waited_for(query, capsys):
    query, tell = query
    tell(phase="Starting", reason="ImagePull", message="floe:9 is not there")
    waiting = threading.Thread(target=lambda: query.await_result(silent=False))
    waiting.start()
    told, limit = "", time.monotonic() + 30
    while "ImagePull" not in told:
        assert waiting.is_alive() and time.monotonic() < limit
        # Not all the time: what is written while it is read is lost.
        time.sleep(0.2)
        told += capsys.readouterr().err
    assert "queued" in told and "(ImagePull: floe:9 is not there)" in told
    tell(phase="Succeeded", rows=0)
    waiting.join(timeout=30)
    assert not waiting.is_alive()


STAGES = [
    {"id": 0, "label": 'scan "t"', "state": "done", "tasksDone": 2, "tasksTotal": 2, "rows": 1500, "bytes": 2048},
    {"id": 1, "label": "sort", "state": "done", "tasksDone": 1, "tasksTotal": 1, "rows": 10, "bytes": 512},
]
#: What newer operators say of them besides.
MORE = [{"attempts": 3, "elapsedMs": 1250}, {"dependsOn": [0], "attempts": 1, "elapsedMs": 40}]
SINGLE = [{"stage": 1, "node": "SORT", "reason": "keeps order"}]


def test_stages_have_edges_attempts_and_times(query):
    query, tell = query
    stages = [one | more for one, more in zip(STAGES, MORE, strict=True)]
    tell(phase="Succeeded", rows=10, durationMs=2340, stages=stages)
    result = query.await_result()
    assert query.graph(show=False).count("<path") == 1 + 1, "an arrow's head, and one arrow"
    first, second = result.stage_statistics()
    assert (first.attempts, first.elapsed_ms, first.tasks) == (3, 1250, 2)
    assert (second.attempts, second.elapsed_ms) == (1, 40)
    assert "10 rows, 2.3 s" in query._repr_html_() and ">1.2 s<" in query._repr_html_()
    assert result._facts()["time"] == "2.34 s"


def test_what_an_older_operator_does_not_say_is_left_out(query):
    query, tell = query
    tell(phase="Succeeded", rows=10, stages=STAGES)
    result = query.await_result()
    assert query.graph(show=False).count("<rect") == 2 and " s</text>" not in query.graph(show=False)
    assert [(one.attempts, one.elapsed_ms) for one in result.stage_statistics()] == [(0, 0)] * 2
    assert "10 rows</div>" in query._repr_html_() and " s<" not in query._repr_html_()
    assert "time" not in result._facts()


def test_the_plan_of_a_query_whose_coordinator_is_gone_is_what_its_status_has(query):
    """As `floe explain` shows it."""
    query, tell = query
    tell(phase="Pending", reason="QuotaExceeded", message="quota pods is full")
    with pytest.raises(ContextError, match="has not started yet: QuotaExceeded: quota pods is full"):
        query.plan()
    tell(phase="Running")
    with pytest.raises(ResultGoneError, match="its coordinator has ended"):
        query.plan()
    tell(phase="Succeeded", rows=10, stages=STAGES, singleWorker=SINGLE)
    with pytest.warns(QueryWarning, match="the coordinator is gone"):
        plan = query.plan()
    told = ['stage 0: scan "t"', "  -> 2 tasks, 1,500 rows, 2.0 KiB", "stage 1: sort", "  -> 1 task, 10 rows, 512 B"]
    assert plan.splitlines() == [*told, "on one worker:", "  SORT: keeps order"]
    tell(phase="Succeeded", rows=10, stages=[one | more for one, more in zip(STAGES, MORE, strict=True)])
    with pytest.warns(QueryWarning, match="the coordinator is gone"):
        assert query.plan().splitlines()[2:4] == ["stage 1: sort", "  <- stage 0"]
    with pytest.warns(QueryWarning, match="the coordinator is gone"):
        dot = query.graph(raw_output=True)
    assert dot.startswith("digraph") and 's0 [label="stage 0: scan \\"t\\"\\l2 tasks' in dot and "  s0 -> s1;" in dot
    # What was read once is known though the object is deleted.
    query._execution.forget()
    with pytest.warns(QueryWarning, match="the coordinator is gone"):
        assert query.plan().startswith("stage 0")
