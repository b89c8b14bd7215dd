"""Fixtures of the end-to-end tests. They run on the cluster that KUBECONFIG names, where tests/e2e/run has installed Floe;
without FLOE_E2E they are not collected, so that a plain `pytest tests` needs no cluster."""

from __future__ import annotations

import functools
import os
import re

import pytest

from tests.e2e import kube, store
from tests.e2e.queries import MEDIUM, MEDIUM_TIMES, SLOW, Queries

RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}

if not os.environ.get("FLOE_E2E"):
    collect_ignore_glob = ["test_*.py"]


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: changes the operator or needs the machine for itself: runs after the others")


@pytest.fixture
def queries(request):
    """A namespace under Pod Security "restricted" with the store's credentials. At the end all queries are deleted and
    nothing of them may be left."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")[-40:].strip("-")
    namespace = f"e2e-{name}"
    kube.kubectl("delete", "namespace", namespace, "--ignore-not-found", timeout=120)
    kube.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}},
        store.secret("s3", namespace),
    )
    kube.wait("the default service account", 20, lambda: kube.request("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default"))
    made = Queries(namespace)
    yield made
    made.nothing_left()
    kube.kubectl("delete", "namespace", namespace, "--wait=false")


@pytest.fixture
def scale() -> str:
    """The tables of PDS-H that tests/e2e/run has loaded."""
    return f"sf{os.environ.get('FLOE_E2E_SCALE', '1')}"


@pytest.fixture
def slow() -> str:
    """A script whose query outlasts every test that stops it."""
    return SLOW


@pytest.fixture
def medium() -> str:
    """A script whose query runs for some twenty seconds."""
    return MEDIUM


@pytest.fixture(scope="session")
def pairs_result():
    """What a query of pairs gives, without the pairs: their sums are products of sums."""
    import polars as pl

    def result(times: int):
        lines = pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet", storage_options=store.options())
        lines = lines.group_by("l_suppkey").agg(pl.len().alias("n"), pl.col("l_quantity").cast(pl.Float64).sum().alias("x"))
        squares = [(pl.col(name).pow(2) * times).alias(name) for name in ("n", "x")]
        return lines.with_columns(squares).with_columns(pl.col("n").cast(pl.UInt32)).collect(engine="streaming")

    return functools.cache(result)


@pytest.fixture(scope="session")
def medium_result(pairs_result):
    return pairs_result(MEDIUM_TIMES)
