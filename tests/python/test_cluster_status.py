"""What a query on a cluster tells, from the status of its object; a hand-written one, as the operator writes it."""

from __future__ import annotations

import threading

import polars as pl
import pytest

import floe


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
    told = ""
    while "ImagePull" not in told:
        told += capsys.readouterr().err
        assert waiting.is_alive()
    assert "queued" in told and "(ImagePull: floe:9 is not there)" in told
    tell(phase="Succeeded", rows=0)
    waiting.join(timeout=30)
    assert not waiting.is_alive()
