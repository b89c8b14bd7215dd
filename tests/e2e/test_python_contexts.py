"""`floe.ComputeContext` by the further names of Polars Cloud, on a cluster: found again, chosen, and its sizes told."""

from __future__ import annotations

import io
import pathlib
import sys

import polars as pl
import pytest

from tests.e2e import kube

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "python" / "src"))

import floe  # noqa: E402
from floe.exceptions import ContextError  # noqa: E402


def test_a_context_is_found_chosen_and_tells_its_sizes(queries, monkeypatch, capsys):
    named = {"namespace": queries.namespace}
    coordinator = {"coordinator": {"cpus": "50m", "memory": "640Mi"}}
    made = floe.ComputeContext(
        name="found", cpus="50m", memory="384Mi", cluster_size=1, labels=["nightly"], env_vars={"A": "1"},
        compute=coordinator, **named,
    )  # fmt: skip
    with pytest.raises(ContextError, match="context found is not there"):
        floe.ComputeContext.connect("found", queries.namespace)
    with pytest.raises(ContextError, match="no context takes queries"):
        floe.ComputeContext.select(queries.namespace)
    made.start(wait=True)
    try:
        again = floe.ComputeContext.connect("found", queries.namespace)
        assert again.get_status().is_started() and not again.get_status().is_terminal()
        assert (again.cpus, again.memory, again.cluster_size) == ("50m", "384Mi", 1)
        assert again.env_vars == {"A": "1"} and again.labels == ["nightly"] and again.storage is None
        assert pl.LazyFrame({"a": [1, 2]}).sum().remote(again).show().item() == 3

        monkeypatch.setattr(sys, "stdin", io.StringIO("7\n1\n"))
        chosen = floe.ComputeContext.select(queries.namespace)
        assert chosen is not None and chosen.name == "found"
        assert "found" in capsys.readouterr().out
        monkeypatch.setattr(sys, "stdin", io.StringIO("q\n"))
        assert floe.ComputeContext.select(queries.namespace) is None
        # The context of a block that was there already is not stopped.
        with again:
            assert pl.LazyFrame({"a": [3]}).remote().show().item() == 3
        assert again.get_status().is_available()
    finally:
        made.stop(wait=True)
    assert not kube.items("computecontexts", queries.namespace)
    assert made.get_status().is_stopped() and again.get_status().is_terminal()
    # What it was made with is what it would be made with again.
    assert (made.cpus, made.memory, made.cluster_size) == ("50m", "384Mi", 1)
