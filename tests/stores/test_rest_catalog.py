"""Floe's client of REST catalogs, and `floe catalog`, against Apache's own catalog."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import pytest

from tests import support
from tests.stores import iceberg_rest

pa = pytest.importorskip("pyarrow")


@pytest.fixture(scope="module")
def uri(tmp_path_factory):
    if program := iceberg_rest.missing():
        pytest.skip(f"{program} is not on this machine")
    with iceberg_rest.serve(tmp_path_factory.mktemp("catalog")) as uri:
        yield uri


@pytest.fixture(scope="module")
def lake(uri):
    """The same catalog through PyIceberg, with a table of two snapshots, a tag and a branch."""
    from pyiceberg.catalog import load_catalog

    catalog = load_catalog("lake", type="rest", uri=uri)
    catalog.create_namespace("sales")
    rows = pa.table({"id": pa.array([1, 2, 3], pa.int64()), "day": pa.array(["a", "a", "b"])})
    table = catalog.create_table("sales.orders", rows.schema)
    table.append(rows)
    first = table.current_snapshot().snapshot_id
    table.append(rows.slice(0, 2))
    table.manage_snapshots().create_tag(first, "eoy").create_branch(first, "audit").commit()
    return table.refresh()


def built() -> pathlib.Path:
    """The test program of the crate, which `cargo test --no-run` made."""
    made = pathlib.Path(support.binary("floe")).resolve().parent / "deps"
    found = [path for path in made.glob("rest_catalog-*") if path.suffix == "" and os.access(path, os.X_OK)]
    if not found:
        pytest.skip(f"cargo test --no-run has not made rest_catalog in {made}")
    return max(found, key=lambda path: path.stat().st_mtime)


def test_the_client(uri):
    done = subprocess.run([built(), "--nocapture"], env=os.environ | {"FLOE_ICEBERG_REST": uri}, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout and "skipped" not in done.stderr


def floe(*arguments: str, uri: str | None = None, code: int = 0, **environment: str) -> str:
    env = {key: value for key, value in os.environ.items() if not key.startswith("FLOE_CATALOG_")} | environment
    if uri:
        env["FLOE_CATALOG_URI"] = uri
    done = subprocess.run([support.binary("floe"), "catalog", *arguments], env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout if code == 0 else done.stderr


def test_names_are_listed(uri, lake):
    assert {"name": "sales", "kind": "namespace"} in json.loads(floe("ls", "-o", "json", uri=uri))
    assert floe("ls", "sales", uri=uri).splitlines()[1].split() == ["sales.orders", "table"]
    assert "did you mean sales?" in floe("ls", "sale", uri=uri, code=2)
    assert "did you mean sales.orders?" in floe("show", "sales.order", uri=uri, code=2)
    assert "names no table" in floe("show", "orders", uri=uri, code=2)


def test_a_table_is_shown(uri, lake):
    shown = json.loads(floe("show", "sales.orders", "-o", "json", uri=uri))
    assert shown["metadataLocation"] == lake.metadata_location
    assert shown["currentSnapshot"]["snapshot"] == lake.current_snapshot().snapshot_id
    assert (shown["currentSnapshot"]["rows"], set(shown["refs"])) == (5, {"main", "eoy", "audit"})
    assert [(column["column"], column["type"]) for column in shown["columns"]] == [("id", "long"), ("day", "string")]
    text = floe("show", "sales.orders", uri=uri)
    assert "Branches:    audit (" in text and "2 files, 5 rows" in text


def test_snapshots_and_history(uri, lake):
    snapshots = json.loads(floe("snapshots", "sales.orders", "-o", "json", uri=uri))
    want = sorted(lake.snapshots(), key=lambda one: one.sequence_number, reverse=True)
    assert [one["snapshot"] for one in snapshots] == [one.snapshot_id for one in want]
    assert ([one["rows"] for one in snapshots], [one["added"] for one in snapshots]) == ([5, 3], [2, 3])
    assert sorted(snapshots[1]["refs"]) == ["audit", "eoy"]
    history = json.loads(floe("history", "sales.orders", "-o", "json", uri=uri))
    assert [one["snapshot"] for one in reversed(history)] == [one.snapshot_id for one in lake.history()]
    assert all(one["ancestor"] for one in history)


def test_files_are_listed(uri, lake):
    files = json.loads(floe("files", "sales.orders", "-o", "json", uri=uri))
    want = sorted((task.file.file_path.removeprefix("file://"), task.file.record_count) for task in lake.scan().plan_files())
    assert [(one["path"].removeprefix("file://"), one["rows"]) for one in files] == want
    assert all(one["bytes"] > 0 and one["deleted"] == one["equalityDeletes"] == 0 for one in files)
    assert floe("files", "sales.orders", uri=uri).splitlines()[0].split()[:3] == ["PATH", "PARTITION", "ROWS"]
    assert "did you mean sales.orders?" in floe("files", "sales.order", uri=uri, code=2)
    assert "names no table" in floe("files", "orders", uri=uri, code=2)


def test_a_querys_catalogs(uri, lake, tmp_path):
    (tmp_path / "keys").write_text("credential=me:hunter2\n")
    query = {
        "apiVersion": "floe.dev/v1alpha1",
        "kind": "DistributedQuery",
        "metadata": {"name": "q"},
        "spec": {"plan": {"sql": "select 1"}, "catalogs": {"lake": {"uri": uri, "secretRef": {"name": "keys"}}}},
    }
    (tmp_path / "q.yaml").write_text(json.dumps(query))
    of = ["-f", str(tmp_path / "q.yaml"), "--secret", f"keys={tmp_path / 'keys'}"]
    assert floe("ls", *of).split()[-3:] == ["lake", "catalog", uri]
    assert "lake.sales.orders" in floe("ls", "lake.sales", *of)
    assert floe("show", "lake.sales.orders", *of).startswith("Table:       lake.sales.orders\n")
    assert "spec.catalogs.lake.secretRef" in floe("ls", "lake", "-f", of[1], code=2)


def test_no_catalog_there():
    told = floe("ls", uri="http://127.0.0.1:1", code=3, FLOE_CATALOG_CREDENTIAL="me:hunter2")
    assert "http://127.0.0.1:1" in told and "does not answer" in told and "hunter2" not in told
