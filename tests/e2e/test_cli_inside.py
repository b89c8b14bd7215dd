"""`floe result`, `logs`, `explain` and `doctor`: what looks into a query, and what is said to those who may not."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import time

import polars as pl
import pytest

from tests.e2e import kube, store
from tests.e2e.command import FLOE, floe, good, kubeconfig, start, write
from tests.e2e.queries import GATED, GROUPS

pytestmark = pytest.mark.skipif(FLOE is None, reason="floe is not built on this machine")

# Dtypes that text formats lose, and a line of the script's own.
TYPED = """
print("hello from the script")
lines = scan("lineitem").filter(pl.col("l_suppkey") <= 3)
result = lines.group_by("l_suppkey").agg(pl.len().alias("n"), pl.col("l_shipdate").max().alias("last"),
    pl.col("l_quantity").cast(pl.Decimal(20, 2)).sum().alias("q"), pl.col("l_returnflag").unique().sort().alias("flags")).sort("l_suppkey")
"""


def wanted() -> pl.DataFrame:
    lines = pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet", storage_options=store.options())
    scope = {"pl": pl, "scan": lambda _: lines, "print": lambda _: None}
    exec(TYPED, scope)
    return scope["result"].collect()


def test_a_result_without_a_sink_is_a_table_or_a_file(queries, tmp_path):
    at = ["-n", queries.namespace]
    good("submit", "--wait", write(tmp_path, queries, "typed", queries.spec(TYPED, sink=None)))
    want = wanted()
    table = good("result", "typed", *at)
    # Sums of decimals have all digits that there are.
    assert want.schema["q"] == pl.Decimal(38, 2)
    assert "shape: (3, 5)" in table and "decimal[38,2]" in table and "list[" in table, table
    assert good("result", "typed", *at, "--rows", "1").count("┆") < table.count("┆")
    readers = {
        "parquet": pl.read_parquet, "arrow": pl.read_ipc, "arrows": pl.read_ipc_stream,
        "ndjson": lambda path: pl.read_ndjson(path, schema_overrides={"l_suppkey": want.schema["l_suppkey"]}),
    }  # fmt: skip
    for extension, read in readers.items():
        path = tmp_path / f"out.{extension}"
        done = floe("result", "typed", *at, "--out", path)
        assert done.returncode == 0 and f"3 rows written to {path}" in done.stderr, done.stderr
        got = read(path)
        if extension == "ndjson":
            assert got["l_suppkey"].to_list() == [1, 2, 3] and got["n"].to_list() == want["n"].to_list()
        else:
            assert got.equals(want) and got.schema == want.schema, f"{extension}: {got}\n{want}"
    there = floe("result", "typed", *at, "--out", tmp_path / "out.parquet")
    assert there.returncode == 2 and "--overwrite replaces it" in there.stderr, there.stderr
    # csv has no lists, which Polars says in its own words, and no half of a file is left.
    listed = floe("result", "typed", *at, "--out", tmp_path / "out.csv")
    assert listed.returncode == 2 and "nested" in listed.stderr, listed.stderr
    assert not (tmp_path / "out.csv").exists() and not list(tmp_path.glob(".floe-*"))
    # Its plan and its logs are there as long as its coordinator.
    explained = good("explain", "typed", *at)
    assert "stage 0: " in explained and "result: stage" in explained, explained
    assert json.loads(good("explain", "typed", *at, "-f", "json"))["stages"]
    drawn = good("explain", "typed", *at, "-f", "svg")
    assert drawn.startswith("<svg ") and "stage 0: " in drawn
    logs = good("logs", "typed", *at)
    assert "coordinator | " in logs and "hello from the script" in logs and "query succeeded" in logs, logs
    told = [json.loads(line) for line in good("logs", "typed", *at, "--role", "coordinator", "-o", "json").splitlines()]
    assert {one["pod"] for one in told} == {"typed-1-c"}
    # When the coordinator goes, so does the result, and what is said then says so.
    kube.kubectl("delete", "pod", "typed-1-c", "-n", queries.namespace, timeout=90)
    queries.no_pods("typed")
    gone = floe("result", "typed", *at)
    assert gone.returncode == 2 and "its coordinator is gone" in gone.stderr, gone.stderr
    assert "stage 0: " in good("explain", "typed", *at)
    gone = floe("logs", "typed", *at)
    assert gone.returncode == 2 and "its pods are gone" in gone.stderr, gone.stderr


def test_a_result_with_a_sink_is_where_the_sink_says(queries, tmp_path):
    at = ["-n", queries.namespace]
    early = floe("result", "written", *at)
    assert early.returncode == 2 and "there is no query written" in early.stderr
    good("submit", "--wait", write(tmp_path, queries, "written", queries.spec()))
    assert good("result", "written", *at).strip() == f"s3://{store.BUCKET}/{queries.prefix}/written/"
    out = floe("result", "written", *at, "--out", tmp_path / "x.parquet")
    assert out.returncode == 2 and "read it there" in out.stderr


def test_logs_follow_a_query_and_tell_stages(queries, tmp_path):
    at = ["-n", queries.namespace]
    script = "print('hello')\n" + GATED
    good("submit", write(tmp_path, queries, "spoken", queries.spec(script, compute={"env": [{"name": "RUST_LOG", "value": "floe_runner=debug"}]})))
    early = floe("result", "spoken", *at)
    assert early.returncode == 2 and "has not ended" in early.stderr and "writes its result to s3://" in early.stderr, early.stderr
    followed = start("logs", "spoken", "-f", *at)
    queries.at_gate("spoken")
    queries.open()
    queries.succeeded("spoken")
    out, err = followed.communicate(timeout=60)
    assert followed.returncode == 0, err
    assert "coordinator | " in out and "worker 0 " in out and "worker 1 " in out and "task done" in out, out
    assert "query succeeded" in out, out

    # One that goes on when the user has seen enough.
    queries.close_gates()
    loud = {"env": [{"name": "RUST_LOG", "value": "floe_runner=debug"}]}
    good("submit", write(tmp_path, queries, "staged", queries.spec(GATED, compute=loud)))
    staged = start("logs", "staged", "-f", "--stage", 0, *at)
    queries.at_gate("staged")
    time.sleep(2)
    begin = time.monotonic()
    staged.send_signal(signal.SIGINT)
    out, err = staged.communicate(timeout=30)
    assert staged.returncode == 130 and time.monotonic() - begin < 5, err
    lines = out.splitlines()
    assert lines and all("stage 0: " in line for line in lines), out
    assert queries.status("staged")["phase"] == "Running"
    good("cancel", "staged", *at)


def test_doctor_finds_all_well(queries, tmp_path):
    at = ["-n", queries.namespace]
    file = write(tmp_path, queries, "checked", queries.spec(GROUPS))
    done = floe("doctor", file, *at, "--run")
    assert done.returncode == 0, done.stdout + done.stderr
    for line in (
        "ok    cluster ", "ok    clock ", "ok    crd         floe.dev/v1alpha1 is there, with the fields of this release",
        "ok    rights      for submit; ", "ok    operator    floe-system/floe, ", "ok    storage     Secret s3 of query checked is there",
        "ok    run ", "ok    result ",
    ):  # fmt: skip
        assert line in done.stdout, f"{line!r} is not in\n{done.stdout}"
    assert not kube.items("distributedqueries", queries.namespace)
    kube.kubectl("delete", "secret", "s3", *at)
    done = floe("doctor", file, *at, "-o", "json")
    assert done.returncode == 1, done.stdout
    told = json.loads(done.stdout)
    (missing,) = [one for one in told["checks"] if one["state"] == "fail"]
    assert not told["ok"] and missing["name"] == "storage" and "create secret generic s3" in missing["toDo"], missing


def test_rights_on_queries_alone_are_enough_to_submit(queries, tmp_path):
    at = ["-n", queries.namespace]
    kube.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "analyst"}},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "analyst"}, "rules": [
            {"apiGroups": ["floe.dev"], "resources": ["distributedqueries"], "verbs": ["create", "get", "list", "watch", "patch", "delete"]},
        ]},
        {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "analyst"},
         "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "analyst"},
         "subjects": [{"kind": "ServiceAccount", "name": "analyst", "namespace": queries.namespace}]},
        namespace=queries.namespace,
    )  # fmt: skip
    token = kube.kubectl("create", "token", "analyst", *at).strip()
    at += ["--kubeconfig", kubeconfig(tmp_path, token=token)]
    done = floe("submit", "--wait", write(tmp_path, queries, "mine", queries.spec(TYPED, sink=None)), *at)
    assert done.returncode == 0, done.stderr
    assert good("get", "-o", "name", *at).strip() == "mine"
    for command, told in {"result": "cannot get resource", "logs": "cannot list resource"}.items():
        refused = floe(command, "mine", *at)
        assert refused.returncode == 3 and told in refused.stderr and "`floe doctor` shows which you have" in refused.stderr, refused.stderr
    checked = floe("doctor", *at)
    assert checked.returncode == 0, checked.stdout
    assert "`result, explain NAME` cannot be used" in checked.stdout and "you may not read its fields" in checked.stdout, checked.stdout
    assert "it has taken up query mine" in checked.stdout, checked.stdout
    good("delete", "mine", *at)
    # A token that is none any more.
    bad = ["-n", queries.namespace, "--kubeconfig", kubeconfig(tmp_path, token="not-a-token")]
    refused = floe("get", *bad)
    assert refused.returncode == 3 and "does not accept your credentials" in refused.stderr, refused.stderr
    assert floe("doctor", *bad).returncode == 1


def test_a_cluster_that_is_not_there_is_told(queries, tmp_path):
    away = ["-n", queries.namespace, "--kubeconfig", kubeconfig(tmp_path, server="https://127.0.0.1:9")]
    for command in (["get"], ["watch", "q"], ["submit", write(tmp_path, queries, "q", queries.spec())]):
        done = floe(*command, *away, timeout=30)
        assert done.returncode == 3 and "the cluster at https://127.0.0.1:9/ does not answer" in done.stderr, done.stderr
    done = floe("doctor", *away, timeout=30)
    assert done.returncode == 1 and "FAIL  cluster" in done.stdout, done.stdout
    unknown = floe("get", "--context", "no-such-context")
    assert unknown.returncode == 2 and "no-such-context" in unknown.stderr, unknown.stderr
    pathlib.Path(tmp_path / "empty").mkdir()
    none = floe("get", env={"KUBECONFIG": str(tmp_path / "missing"), "HOME": str(tmp_path / "empty")})
    assert none.returncode == 2 and "no cluster is configured" in none.stderr, none.stderr
    assert os.environ.get("KUBECONFIG")
