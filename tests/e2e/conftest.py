"""Fixtures of the end-to-end tests. They run on the cluster that KUBECONFIG names, where tests/e2e/run has installed Floe;
without FLOE_E2E they are not collected, so that a plain `pytest tests` needs no cluster."""

from __future__ import annotations

import os
import re

import pytest

from tests.e2e import kube, store
from tests.e2e.contexts import Contexts
from tests.e2e.queries import GATED, GROUPS, Queries

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
    # Without kubectl: its starts are a good part of what a small test costs.
    there = lambda: kube.request("GET", f"/api/v1/namespaces/{namespace}")  # noqa: E731
    if (found := there()) and "deletionTimestamp" not in found["metadata"]:
        kube.request("DELETE", f"/api/v1/namespaces/{namespace}")
    kube.wait("no namespace of a run before", 120, lambda: there() is None)
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": RESTRICTED}}
    kube.request("POST", "/api/v1/namespaces", body)
    kube.request("POST", kube.path("secrets", namespace), store.secret("s3", namespace))
    kube.wait("the default service account", 20, lambda: kube.request("GET", f"/api/v1/namespaces/{namespace}/serviceaccounts/default"))
    made = Queries(namespace)
    made.close_gates()
    yield made
    made.nothing_left()
    kube.request("DELETE", f"/api/v1/namespaces/{namespace}")


@pytest.fixture
def contexts(queries):
    """The contexts of the namespace. At the end they are deleted and none of their pods may be left."""
    made = Contexts(queries)
    yield made
    queries.nothing_left()
    made.nothing_left()


@pytest.fixture
def scale() -> str:
    """The tables of PDS-H that tests/e2e/run has loaded."""
    return f"sf{os.environ.get('FLOE_E2E_SCALE', '1')}"


@pytest.fixture
def slow() -> str:
    """A script whose query outlasts every test that stops it."""
    return GATED


@pytest.fixture(scope="session")
def groups_result():
    """What GROUPS gives, behind a gate or not."""
    import polars as pl

    names = {"pl": pl, "scan": lambda table: pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/{table}/*.parquet", storage_options=store.options())}
    exec(GROUPS, names)
    return names["result"].collect(engine="streaming")
