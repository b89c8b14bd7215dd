"""An API server that takes connections and stays silent, or is away for a moment: an error within the time of a call, or none."""

from __future__ import annotations

import time

import polars as pl
import pytest

import floe
from floe import _api, _retry
from floe._compute_direct import secrets
from floe.exceptions import ConnectionLostError
from tests.python.api_server import kubeconfig, silent

pytest.importorskip("kubernetes")
ROWS = pl.LazyFrame({"a": [1]})


@pytest.fixture
def to_nobody(tmp_path, monkeypatch):
    """How a context gets to a server that never answers."""
    monkeypatch.setattr(_api, "CALL_SECONDS", (0.4, 0.4))
    monkeypatch.setattr(_retry, "SECONDS", 0.5)
    with silent() as address:
        yield {"kubeconfig": kubeconfig(tmp_path / "config", address)}


def warm(access, **settings):
    return floe.ComputeContext(name="warm", **access, **settings)


@pytest.mark.parametrize(
    "call",
    [
        lambda access: floe.Kubernetes(**access).show_versions(),
        lambda access: ROWS.remote(floe.Kubernetes(**access)).execute(blocking=False),
        lambda access: floe.Kubernetes(**access, credentials={"a": "b"})._give_credentials("q", "uid", {"a": "b"}),
        lambda access: floe.Kubernetes(**access).query("q"),
        lambda access: warm(access).start(),
        lambda access: warm(access)._create(),
        lambda access: warm(access).stop(),
        lambda access: warm(access).get_status(),
        lambda access: warm(access)._repr_html_(),
        lambda access: warm(access).cpus,
        lambda access: warm(access).show_versions(),
        lambda access: secrets(warm(access), {"storage": {"secretRef": {"name": "s"}}}, None),
        lambda access: warm(access, connection_mode="direct").query("q"),
        lambda access: floe.ComputeContext.list(**access),
        lambda access: floe.ComputeContext.connect("warm", **access),
        lambda access: floe.ComputeContext.select(**access),
        lambda access: ROWS.remote(warm(access)).collect(),
    ],
)
def test_no_call_waits_for_ever(call, to_nobody):
    begin = time.monotonic()
    with pytest.raises(ConnectionLostError, match=r"^(cannot|the cluster) .*: the API server does not answer: .*timed out"):
        call(to_nobody)
    assert time.monotonic() - begin < 5


def test_a_wait_that_began_survives_an_api_server_that_is_away_for_a_moment(api, to_api, monkeypatch):
    """As those of queries do: `test_reconnect.py`."""
    context = warm(to_api, cpus=1)
    context.start()
    api.put("computecontexts", "warm", status={"phase": "Ready"})
    api.unavailable = 3
    context.start(wait=True)
    assert api.unavailable == 0 and context.get_status() == floe.ComputeContextStatus.IDLE
