"""Queries as a user runs them: from the store to the store, equal to single-node Polars."""

from __future__ import annotations

import base64
import json
import time

import polars as pl
import pytest

from bench import pdsh
from tests import support
from tests.e2e import kube, store
from tests.e2e.queries import GROUPS, python

PDSH = [1, 3, 9, 18, 21]


def result(queries, name: str) -> pl.DataFrame:
    return pl.read_parquet(f"s3://{store.BUCKET}/{queries.prefix}/{name}/**/*.parquet", storage_options=store.options())


def scan(table: str, prefix: str = "sf0.1") -> pl.LazyFrame:
    return pl.scan_parquet(f"s3://{store.BUCKET}/{prefix}/{table}/*.parquet", storage_options=store.options())


def single_node(script: str, prefix: str = "sf0.1") -> pl.DataFrame:
    names = {"pl": pl, "scan": lambda table: scan(table, prefix), "params": {"scale_factor": 1}}
    exec(compile(script, "script", "exec"), names)
    return names["result"].lazy().collect()


def test_python_script(queries):
    queries.create("groups", queries.spec(GROUPS, workers=3))
    status = queries.succeeded("groups")
    want = single_node(GROUPS)
    support.assert_same(result(queries, "groups"), want, ordered=False)
    assert status["rows"] == want.height
    assert status["resultUri"].rstrip("/") == f"s3://{store.BUCKET}/{queries.prefix}/groups"
    assert status["progress"] == "100%"
    assert status["attempt"] == 1
    assert status["stagesTotal"] == len(status["stages"]) > 1
    assert all(stage["state"] == "done" and stage["label"] for stage in status["stages"])
    assert status["bytesWritten"] > 0 and status["bytesShuffled"] > 0
    assert status["startedAt"] <= status["finishedAt"] and status["duration"]
    conditions = {one["type"]: one for one in status["conditions"]}
    assert {"Accepted", "Planned", "Succeeded"} <= set(conditions)
    # Nothing of a query that succeeded reads like a failure.
    assert {one["status"] for one in conditions.values()} == {"True"}, conditions
    assert status["workers"]["summary"] == "3"
    assert status["observedGeneration"] == queries.get("groups")["metadata"]["generation"]


# Fails the first time that a worker calls it, and never again.
FAILS_ONCE = """
def once(values):
    import os
    with open("/proc/1/cmdline", "rb") as line:
        in_pod = b"worker" in line.read().split(b"\\0")
    if in_pod:
        # All processes of a pod see it; those for temporary files are a process's own.
        try:
            os.mkdir("/dev/shm/failed")
        except FileExistsError:
            return values
        raise ValueError("not the first time")
    return values

rows = pl.LazyFrame({"k": [i % 7 for i in range(1000)], "v": range(1000)})
called = rows.with_columns(pl.col("v").map_batches(once, return_dtype=pl.Int64, is_elementwise=True))
result = called.group_by("k").agg(pl.col("v").sum())
"""


def test_fall_back_is_the_first_warning(queries):
    queries.create("fallback", queries.spec(FAILS_ONCE, workers=1, execution={"mode": "distributed", "partitionsPerWorker": 4}))
    status = queries.succeeded("fallback")
    support.assert_same(result(queries, "fallback"), single_node(FAILS_ONCE), ordered=False)
    assert status["warnings"][0].startswith("the stages failed, and the query ran again on one worker: "), status["warnings"]
    assert "not the first time" in status["warnings"][0], status["warnings"]


@pytest.mark.parametrize("where", ["inline", "uri", "configmap", "secret", "large"])
def test_serialized_plan(queries, where):
    # The plan names the store as the pods see it.
    source = f"s3://{store.BUCKET}/sf0.1"
    lines = pl.scan_parquet(f"{source}/lineitem/*.parquet")
    plan = lines.group_by("l_returnflag").agg(pl.len(), pl.col("l_quantity").cast(pl.Float64).sum())
    oracle = scan("lineitem").group_by("l_returnflag").agg(pl.len(), pl.col("l_quantity").cast(pl.Float64).sum())
    if where == "large":
        # A frame in the plan, so large that no Secret holds it in one piece.
        rows = 18_000
        noise = pl.Series("noise", [f"{(i * 2654435761) % 10**15:015}" for i in range(rows)])
        frame = pl.DataFrame({"l_returnflag": ["A", "N", "R"] * (rows // 3), "noise": noise})
        counts = frame.lazy().group_by("l_returnflag").agg(pl.col("noise").n_unique())
        plan, oracle = (one.join(counts, on="l_returnflag") for one in (plan, oracle))
    data = plan.serialize()
    text = base64.b64encode(data).decode()
    dsl = {"inline": text}
    if where == "uri":
        key = f"{queries.prefix}/plan.bin"
        store.client().put_object(Bucket=store.BUCKET, Key=key, Body=data)
        dsl = {"uri": f"s3://{store.BUCKET}/{key}"}
    elif where == "configmap":
        meta = {"name": "plan", "namespace": queries.namespace}
        kube.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "binaryData": {"plan": text}})
        dsl = {"configMapKeyRef": {"name": "plan", "key": "plan"}}
    elif where == "secret":
        meta = {"name": "plan", "namespace": queries.namespace}
        kube.apply({"apiVersion": "v1", "kind": "Secret", "metadata": meta, "data": {"plan": text}})
        dsl = {"secretKeyRef": {"name": "plan", "key": "plan"}}
    spec = queries.spec("") | {"plan": {"dsl": dsl}}
    if where == "large":
        assert 700 * 1024 < len(data) and len(text) < 1400 * 1024, len(data)
        # kubectl apply would keep a second copy in an annotation, past what an object may hold.
        spec["sink"]["uri"] = spec["sink"]["uri"].replace("NAME", "dsl")
        query = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "dsl"}, "spec": spec}
        kube.kubectl("create", "-n", queries.namespace, "-f", "-", input=json.dumps(query))
        queries.made.append("dsl")
    else:
        queries.create("dsl", spec)
    queries.succeeded("dsl")
    support.assert_same(result(queries, "dsl"), oracle.collect(), ordered=False)


@pytest.mark.parametrize("number", PDSH)
def test_pdsh(queries, number, scale):
    script = pdsh.script(number)
    spec = queries.spec("", workers=3) | {"plan": python(script)}
    spec["tables"] = {
        table: {"format": "parquet", "uri": f"s3://{store.BUCKET}/{scale}/{table}/*.parquet"}
        for table in pdsh.tables_of(number)
    }
    spec["params"] = {"scale_factor": float(scale.removeprefix("sf"))}
    spec["compute"] |= {"cpus": "200m", "memory": "1536Mi"}
    del spec["execution"]
    queries.create(f"q{number}", spec)
    status = queries.succeeded(f"q{number}")
    assert status["workers"]["desired"] == 3
    support.assert_same(result(queries, f"q{number}"), single_node(script, scale))


def test_a_result_without_a_sink_is_read_from_the_coordinator(queries):
    spec = queries.spec("result = pl.LazyFrame({'x': [1, 2, 3]}).with_columns(y=pl.col('x') * 2)", sink=None)
    queries.create("show", spec)
    status = queries.succeeded("show")
    assert status["resultWith"] == "Coordinator" and status["workers"]["summary"] == "2"
    assert {one["status"] for one in status["conditions"]} == {"True"}, status["conditions"]
    # The workers go at once; the coordinator stays with the result for as long as the query does, and deleting it takes all
    # away (the fixture looks).
    kube.wait("no workers", 15, lambda: not queries.pods("show", "worker"), lambda: kube.story(queries.namespace))
    (pod,) = queries.pods("show")
    assert pod["status"]["phase"] == "Running" and pod["metadata"]["labels"]["floe.dev/role"] == "coordinator"
    assert queries.read("show").equals(pl.DataFrame({"x": [1, 2, 3], "y": [2, 4, 6]}))


def test_a_result_larger_than_the_coordinators_memory_moves_to_its_disk(queries):
    """More than the quarter of the coordinator's memory in which it would keep it."""
    # Products that overflow: numbers that nothing can pack.
    script = """
line = pl.col("l_orderkey") * 8 + pl.col("l_linenumber")
result = scan("lineitem").select((line * (0x1E3779B97F4A7C15 + 2 * n)).alias(f"x{n}") for n in range(26))
"""
    queries.create("wide", queries.spec(script, sink=None, tables="sf0.1"))
    status = queries.succeeded("wide")
    assert status["resultWith"] == "Coordinator" and status["bytesWritten"] > 100 << 20
    kube.wait("no workers", 15, lambda: not queries.pods("wide", "worker"), lambda: kube.story(queries.namespace))
    frame = queries.read("wide")
    assert frame.height == status["rows"] == scan("lineitem").select(pl.len()).collect().item()
    (pod,) = queries.pods("wide")
    assert pod["status"]["containerStatuses"][0]["restartCount"] == 0


def test_thirty_at_once(queries):
    source = f"s3://{store.BUCKET}/sf0.1/nation/*.parquet"
    plan = pl.scan_parquet(source).group_by("n_regionkey").agg(pl.len())
    small = {"cpus": "10m", "memory": "160Mi", "coordinator": {"cpus": "10m", "memory": "200Mi"}}
    spec = queries.spec("", workers=1, compute=small)
    spec["plan"] = {"dsl": {"inline": base64.b64encode(plan.serialize()).decode()}}
    names = [f"many-{index:02}" for index in range(30)]
    begin = time.monotonic()
    for name in names:
        queries.create(name, spec)
    for name in names:
        queries.succeeded(name)
    print(f"30 queries in {time.monotonic() - begin:.1f} s")
    want = scan("nation").group_by("n_regionkey").agg(pl.len()).collect()
    for name in names:
        support.assert_same(result(queries, name), want, ordered=False)
    kube.wait("all pods gone", 60, lambda: not kube.items("pods", queries.namespace, "floe.dev/query"))


def test_a_namespace_quota_holds_queries_back_and_they_heal(queries):
    quota = {
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": queries.namespace},
        "spec": {"hard": {"pods": "1"}},
    }  # fmt: skip
    kube.apply(quota)
    queries.create("held", queries.spec())
    status = queries.told("held", "Quota")
    assert "exceeded quota" in status["message"] or any("exceeded quota" in c["message"] for c in status["conditions"])
    kube.kubectl("delete", "resourcequota", "q", "-n", queries.namespace)
    queries.succeeded("held")
