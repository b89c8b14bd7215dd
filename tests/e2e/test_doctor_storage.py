"""`floe doctor FILE --run` on tables that cannot be read: what is wrong with the store is told, and what to do about it."""

from __future__ import annotations

import json

import pytest

from tests.e2e import kube, store
from tests.e2e.command import FLOE, floe, write

pytestmark = pytest.mark.skipif(FLOE is None, reason="floe is not built on this machine")


def failed(queries, file) -> dict:
    """The one check that fails."""
    done = floe("doctor", file, "-n", queries.namespace, "--run", "-o", "json", timeout=400)
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)
    (check,) = [one for one in told["checks"] if one["state"] == "fail"]
    assert not told["ok"] and not kube.items("distributedqueries", queries.namespace)
    return check


def test_tables_that_can_be_read(queries, tmp_path):
    file = write(tmp_path, queries, "well", queries.spec("result = scan('nation').join(scan('region'), how='cross')"))
    done = floe("doctor", file, "-n", queries.namespace, "--run", timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok    tables " in done.stdout and "its pods could read nation, region within" in done.stdout, done.stdout
    assert not kube.items("distributedqueries", queries.namespace)


def test_wrong_keys_are_told(queries, tmp_path):
    kube.apply(store.secret("wrong", queries.namespace, secret="wrong"))
    spec = queries.spec("result = scan('nation')", storage={"secretRef": {"name": "wrong"}})
    check = failed(queries, write(tmp_path, queries, "denied", spec))
    assert check["name"] == "tables" and "(AccessDenied)" in check["message"], check
    assert f"s3://{store.BUCKET}" in check["message"] and "check the keys in the Secret" in check["toDo"], check


def test_a_bucket_that_is_not_there_is_told(queries, tmp_path):
    spec = queries.spec("result = scan('nation')")
    spec["tables"]["nation"]["uri"] = "s3://no-such-bucket/nation/*.parquet"
    check = failed(queries, write(tmp_path, queries, "bucket", spec))
    assert check["name"] == "tables" and "(MissingData)" in check["message"] and "no-such-bucket" in check["message"], check
    assert "check the URI" in check["toDo"], check


def test_without_its_secret_nothing_is_tried(queries, tmp_path):
    spec = queries.spec("result = scan('nation')", storage={"secretRef": {"name": "nowhere"}})
    done = floe("doctor", write(tmp_path, queries, "keyless", spec), "-n", queries.namespace, "--run", timeout=400)
    assert done.returncode == 1 and "create secret generic nowhere" in done.stdout, done.stdout
    assert "?     tables      not tried: `storage` failed" in done.stdout, done.stdout
