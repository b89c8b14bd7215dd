"""The Python package as its users have it: a local context that all tests share, and queries that need stages."""

from __future__ import annotations

import pathlib
import sys

import polars as pl
import pytest

REPO = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(REPO / "python" / "src"))

import floe  # noqa: E402
from tests.python.api_server import ApiServer, kubeconfig  # noqa: E402

PLUGGABLE = tuple(map(int, pl.__version__.split(".")[:2])) >= (1, 44)
pluggable = pytest.mark.skipif(not PLUGGABLE, reason="this version of Polars has no engines to plug in")


@pytest.fixture(scope="session")
def ctx():
    with floe.Local(workers=2) as context:
        yield context


@pytest.fixture(scope="module")
def three():
    with floe.Local(workers=3) as context:
        yield context


@pytest.fixture
def engine(ctx):
    return floe.Engine(ctx)


@pytest.fixture
def api():
    """An API server with nothing behind it."""
    server = ApiServer()
    yield server
    server.close()


@pytest.fixture
def to_api(api, tmp_path):
    """How a context gets to it."""
    pytest.importorskip("kubernetes")
    return {"kubeconfig": kubeconfig(tmp_path / "kubeconfig", api.address)}


@pytest.fixture
def config(tmp_path):
    """The kubeconfig of a cluster that is not there."""
    return kubeconfig(tmp_path / "config", "http://127.0.0.1:9")


@pytest.fixture
def staged():
    """A query that is cut into stages when told to be distributed."""
    rows = pl.DataFrame({"k": [i % 7 for i in range(500)], "v": range(500)})
    sums = rows.lazy().group_by("k").agg(pl.col("v").sum().alias("sum"), pl.len().alias("n"))
    most = rows.lazy().group_by("k").agg(pl.col("v").max().alias("most"))
    return sums.join(most, on="k").sort("k")


@pytest.fixture
def endless():
    """Runs for minutes."""
    side = pl.LazyFrame({"a": range(400_000)})
    pairs = side.join(side.rename({"a": "b"}), how="cross")
    return pairs.filter((pl.col("a") * pl.col("b") % 7919) == -1).select(pl.len())
