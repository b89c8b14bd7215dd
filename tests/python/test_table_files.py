"""`floe catalog files`: the data files of tables by URI."""

from __future__ import annotations

import json
import subprocess

import polars as pl
import pytest

from tests import support

deltalake = pytest.importorskip("deltalake")


def files(directory, table: str, *options: str) -> subprocess.CompletedProcess[str]:
    command = [support.binary("floe"), "catalog", "files", table, "-f", str(directory / "q.yaml"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def lake(tmp_path):
    rows = pl.DataFrame({"id": range(10), "kind": ["a", "b", None, "a", "b"] * 2})
    root = str(tmp_path / "d")
    rows.write_delta(root, delta_write_options={"partition_by": ["kind"]})
    rows.head(2).write_delta(root, mode="append")
    rows.write_parquet(tmp_path / "p.parquet")
    tables = {"d": {"uri": root, "format": "delta"}, "first": {"uri": root, "format": "delta", "options": {"version": 0}}}
    tables["p"] = {"uri": str(tmp_path / "p.parquet")}
    spec = {"plan": {"sql": "select 1"}, "tables": tables}
    query = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q"}, "spec": spec}
    (tmp_path / "q.yaml").write_text(json.dumps(query))
    return tmp_path


def test_files_of_a_table_by_uri(lake):
    listed = json.loads(files(lake, "d", "-o", "json").stdout)
    actions = deltalake.DeltaTable(str(lake / "d")).get_add_actions(flatten=True)
    adds = pl.DataFrame(actions).sort("path").to_dicts()
    got = [(one["path"].split("/d/")[1], one["rows"], one["bytes"]) for one in listed]
    assert got == [(add["path"], add["num_records"], add["size_bytes"]) for add in adds] and len(got) == 5
    assert sorted(str(one["partition"]["kind"]) for one in listed) == ["None", "a", "a", "b", "b"]
    assert len(json.loads(files(lake, "first", "-o", "json").stdout)) == 3
    shown = files(lake, "d").stdout.splitlines()
    assert shown[0].split() == ["PATH", "PARTITION", "ROWS", "BYTES", "DELETED", "EQUALITYDELETES"]
    assert any("kind=null" in line for line in shown[1:])


def test_what_has_no_metadata_of_files_is_refused(lake):
    done = files(lake, "p")
    assert done.returncode == 2 and "no delta or iceberg table" in done.stderr
    done = files(lake, "other")
    assert done.returncode == 2 and "no catalog" in done.stderr
