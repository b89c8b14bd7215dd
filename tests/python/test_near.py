"""The way to a coordinator from within its cluster: straight to its pod where that is reached, else through the API server. The
coordinator is a real one, which stands for that of a query on the cluster."""

from __future__ import annotations

import base64
import socket

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import FloeError

ROWS = pl.DataFrame({"n": range(1000)})
PORT_FORWARD = "/api/v1/namespaces/analytics/pods/q-1-c/portforward"


@pytest.fixture
def kept(api, ctx, to_api, monkeypatch):
    """A query of the cluster whose rows are at a coordinator of this machine, in a pod that the API server knows."""
    query = floe.spawn(ROWS.lazy(), dst=floe.ClientDst(), context=ctx, distributed=True)
    query.await_result(silent=True)
    near = ctx._running().coordinator
    token = near._headers["Authorization"].split()[1]
    api.put("distributedqueries", "q", metadata={"name": "q", "uid": query.id}, status={"phase": "Succeeded", "rows": 1000})
    named = {"name": "q-floe-1-token", "uid": "s"}
    api.put("secrets", "q-floe-1-token", metadata=named, data={"token": base64.b64encode(token.encode()).decode()})
    api.put("pods", "q-1-c", status={"podIP": "127.0.0.1"})
    monkeypatch.setattr("floe._forward.PORT", near._port)
    with floe.Kubernetes(**to_api) as cluster:
        yield cluster.query("q")
    query.delete_result()


def asked(api) -> set[str]:
    return {path for _, path in api.requests if "/pods/" in path}


def test_rows_come_straight_from_the_pod_within_the_cluster(kept, api, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    assert_frame_equal(kept.await_result().lazy().collect(engine="in-memory"), ROWS)
    assert asked(api) == {"/api/v1/namespaces/analytics/pods/q-1-c"}


@pytest.mark.parametrize("why", ["elsewhere", "not reached", "not told"])
def test_else_they_come_through_the_api_server(kept, api, monkeypatch, why, capfd):
    if why != "elsewhere":
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    if why == "not reached":
        with socket.create_server(("127.0.0.1", 0)) as closed:
            monkeypatch.setattr("floe._forward.PORT", closed.getsockname()[1])
    if why == "not told":
        del api.objects["pods", "q-1-c"]
    # This API server forwards nothing: what it says is what a user hears, and nothing of the other way.
    with pytest.raises(FloeError, match="gone|cannot reach port"):
        kept.await_result().lazy().collect(engine="in-memory")
    assert PORT_FORWARD in asked(api)
    assert (PORT_FORWARD.removesuffix("/portforward") in asked(api)) == (why != "elsewhere")
    assert capfd.readouterr().err == ""
