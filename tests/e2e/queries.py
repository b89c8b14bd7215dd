"""Queries of the end-to-end tests: making them, waiting for phases, and that nothing of them is left."""

from __future__ import annotations

import base64
import copy
import io
import re
import subprocess
import time
import urllib.request
from typing import Any

from tests import support
from tests.e2e import gate, kube, store

TERMINAL = ("Succeeded", "Failed", "Cancelled")
# Small pods, so that many fit a machine with two cores.
SMALL = {"cpus": "50m", "memory": "384Mi", "coordinator": {"cpus": "50m", "memory": "384Mi"}}
# Some work over a table, in several stages. `{rows}` bounds it.
GROUPS = """
lines = scan("lineitem")
result = lines.group_by("l_suppkey").agg(pl.len().alias("n"), pl.col("l_quantity").cast(pl.Float64).sum().alias("q"))
"""
# Groups that stand before a gate until the test opens it (`Queries.open`): a query that lasts as long as a test needs, and costs
# nothing meanwhile. A function of frames stands there on all workers, one of all rows in a single task.
GATED = f"{GROUPS}{gate.SOURCE}\nresult = result.map_batches(at_gate(params['gate']), streamable=True)\n"
GATED_ONCE = f"{GROUPS}{gate.SOURCE}\nresult = result.map_batches(at_gate(params['gate']))\n"
# At the gate with the tasks of its first stage, one for each of the table's four files; and with its only task.
GATED_FIRST = f"""{gate.SOURCE}
lines = scan("lineitem").select("l_suppkey", "l_quantity").map_batches(at_gate(params["gate"]), streamable=True)
{GROUPS.replace('lines = scan("lineitem")', "")}"""
GATED_SINGLE = f"{gate.SOURCE}\nresult = pl.LazyFrame({{'one': [1]}}).map_batches(at_gate(params['gate']))\n"
# Of a worker that calls functions: they have a process of their own.
ROOMY = "640Mi"
# Lines beside every other of the same supplier (some 600 of each), each pair thirty times: work without much data, 10 billion
# pairs of SF 0.1, which outlast everything. For tests that need workers at work: it takes all of a machine.
BUSY = """
lines = scan("lineitem").select("l_suppkey", pl.col("l_quantity").cast(pl.Float64))
pairs = pl.concat([lines] * 30).join(lines, on="l_suppkey", how="inner", suffix="_2")
result = pairs.group_by("l_suppkey").agg(pl.len().alias("n"), (pl.col("l_quantity") * pl.col("l_quantity_2")).sum().alias("x"))
"""


def python(script: str) -> dict:
    return {"python": {"script": script}}


class Queries:
    """The queries of one namespace; at the end of a test it holds that nothing of them is left."""

    def __init__(self, namespace: str):
        self.namespace = namespace
        self.prefix = f"out/{namespace}"
        self.made: list[str] = []

    def spec(self, script: str = GROUPS, tables: str = "sf0.1", workers: int = 2, **more: Any) -> dict:
        """A query over the tables in the store, into the store. `more` is merged over it, deep."""
        names = [name for name in ("lineitem", "orders", "customer", "nation", "region") if re.search(rf"""scan\(["']{name}["']\)""", script)]
        spec = {
            "plan": python(script),
            "storage": store.STORAGE,
            "compute": {"workers": workers, **SMALL},
            "execution": {"mode": "distributed"},
            "sink": {"uri": f"s3://{store.BUCKET}/{self.prefix}/NAME/", "format": "parquet", "mode": "overwrite"},
            "activeDeadlineSeconds": 600,
        }
        if names:
            spec["tables"] = {
                name: {"format": "parquet", "uri": f"s3://{store.BUCKET}/{tables}/{name}/*.parquet"} for name in names
            }
        if gate.SOURCE in script:
            spec["params"] = {"gate": self.gate()}
            spec["compute"]["memory"] = ROOMY
        return merge(spec, more)

    def gate(self, name: str = "gate") -> str:
        """The address at which a gate is seen to be open."""
        return store.address(f"gates/{self.namespace}/{name}")

    def open(self, name: str = "gate") -> None:
        store.client().put_object(Bucket=store.BUCKET, Key=f"gates/{self.namespace}/{name}", Body=b"")

    def close_gates(self) -> None:
        """As after a run before this one."""
        for key in store.keys(f"gates/{self.namespace}/"):
            store.client().delete_object(Bucket=store.BUCKET, Key=key)

    def at_gate(self, name: str, limit_seconds: float = 120) -> dict:
        """Until what goes before the gate is done; gives the status."""

        def there(status):
            states = {stage["state"] for stage in status.get("stages", [])}
            return {"done", "running"} <= states or status.get("phase") in TERMINAL

        status = self.wait(name, "it stands at its gate", there, limit_seconds)
        assert status["phase"] == "Running", f"{name} is {status}\n{kube.story(self.namespace)}"
        return status

    def create(self, name: str, spec: dict) -> None:
        spec = copy.deepcopy(spec)
        if spec.get("sink"):
            spec["sink"]["uri"] = spec["sink"]["uri"].replace("NAME", name)
        spec = {key: value for key, value in spec.items() if value is not None}
        query = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": name}, "spec": spec}
        self.made.append(name)
        kube.create("distributedqueries", self.namespace, query)

    def get(self, name: str) -> dict | None:
        return kube.get("distributedqueries", self.namespace, name)

    def status(self, name: str) -> dict:
        return (self.get(name) or {}).get("status") or {}

    def wait(self, name: str, what: str, ask, limit_seconds: float = 60) -> dict:
        """Until `ask` says yes to the status; gives the status."""
        last: dict = {}

        def now():
            nonlocal last
            last = self.status(name)
            return last if ask(last) else None

        return kube.wait(
            f"{name}: {what}", limit_seconds, now, lambda: f"last: {last}\n{kube.story(self.namespace)}"
        )

    def phase(self, name: str, *phases: str, limit_seconds: float = 60) -> dict:
        """Until the query is in one of the phases. Ends at once when it ended in another one."""
        status = self.wait(name, f"phase {' or '.join(phases)}", lambda s: s.get("phase") in (*phases, *TERMINAL), limit_seconds)
        assert status["phase"] in phases, f"{name} is {status}\n{kube.story(self.namespace)}"
        return status

    def succeeded(self, name: str, limit_seconds: float = 500) -> dict:
        return self.phase(name, "Succeeded", limit_seconds=limit_seconds)

    def failed(self, name: str, reason: str, limit_seconds: float = 60) -> dict:
        status = self.phase(name, "Failed", limit_seconds=limit_seconds)
        assert status["reason"] == reason, f"{status}\n{kube.story(self.namespace)}"
        return status

    def told(self, name: str, reason: str, limit_seconds: float = 30) -> dict:
        """Until the status of a query that has not ended names a reason, in the status or in a condition."""

        def ask(status):
            conditions = [one["reason"] for one in status.get("conditions", [])]
            return status.get("reason") == reason or reason in conditions

        return self.wait(name, f"reason {reason}", ask, limit_seconds)

    def holds(self, name: str, want) -> None:
        """The query's sink holds these rows."""
        import polars as pl

        uri = f"s3://{store.BUCKET}/{self.prefix}/{name}/**/*.parquet"
        got = pl.read_parquet(uri, storage_options=store.options())
        support.assert_same(got.with_columns(pl.col("n").cast(pl.UInt32)).select(want.columns), want, ordered=False)

    def token(self, name: str) -> str:
        """With it the coordinator of the query's attempt tells about it."""
        query = self.get(name)
        uid, attempt = query["metadata"]["uid"], query["status"]["attempt"]
        secret = kube.get("secrets", self.namespace, f"{name}-floe-{attempt}-{uid.split('-')[0]}")
        return base64.b64decode(secret["data"]["token"]).decode()

    def read(self, name: str):
        """The rows of a result without a sink, from the coordinator, as docs/kubernetes.md does it."""
        import polars as pl

        query, token = self.get(name), self.token(name)
        uid, attempt = query["metadata"]["uid"], query["status"]["attempt"]
        coordinator = query["status"].get("context", {}).get("coordinator", f"{name}-{attempt}-c")
        forward = subprocess.Popen(
            ["kubectl", "port-forward", "-n", self.namespace, f"pod/{coordinator}", ":7071"], stdout=subprocess.PIPE, text=True
        )
        try:
            port = re.search(r":([0-9]+) ->", forward.stdout.readline())[1]
            call = urllib.request.Request(
                f"http://127.0.0.1:{port}/api/v1/queries/{uid}/result", headers={"Authorization": f"Bearer {token}"}
            )
            with urllib.request.urlopen(call, timeout=120) as answer:
                return pl.read_ipc_stream(io.BytesIO(answer.read()))
        finally:
            forward.kill()
            forward.wait()

    def change(self, name: str, **spec: Any) -> None:
        kube.patch("distributedqueries", self.namespace, name, {"spec": spec})

    def pods(self, name: str, role: str | None = None) -> list[dict]:
        selector = f"floe.dev/query={name}" + (f",floe.dev/role={role}" if role else "")
        return kube.items("pods", self.namespace, selector)

    def pod(self, name: str, role: str, limit_seconds: float = 30) -> dict:
        """A running pod of a role."""

        def running():
            found = [p for p in self.pods(name, role) if p["status"].get("phase") == "Running"]
            return found[0] if found else None

        return kube.wait(f"a running {role} of {name}", limit_seconds, running, lambda: kube.story(self.namespace))

    def no_pods(self, name: str, limit_seconds: float = 60) -> None:
        kube.wait(f"no pods of {name}", limit_seconds, lambda: not self.pods(name), lambda: kube.story(self.namespace))

    def delete(self, name: str, wait: bool = True, limit_seconds: float = 90) -> None:
        kube.request("DELETE", kube.path("distributedqueries", self.namespace, name))
        if wait:
            kube.wait(
                f"{name} is gone", limit_seconds, lambda: self.get(name) is None, lambda: kube.story(self.namespace)
            )

    def events(self, name: str) -> list[dict]:
        found = kube.items("events", self.namespace)
        return [one for one in found if one["involvedObject"].get("name") == name]

    def left(self, name: str | None = None) -> list[str]:
        """What is there of a query, or of any: objects in the namespace, unfinished output in the store."""
        selector = f"floe.dev/query={name}" if name else "floe.dev/query"
        found = [
            f"{kind}/{one['metadata']['name']}"
            for kind in ("pods", "secrets", "networkpolicies")
            for one in kube.items(kind, self.namespace, selector)
        ]
        return found + store.leftovers(self.prefix if name is None else f"{self.prefix}/{name}")

    def nothing_left(self, limit_seconds: float = 60) -> None:
        """Deletes the queries and holds that everything goes."""
        names = [one["metadata"]["name"] for one in kube.items("distributedqueries", self.namespace)]
        for name in names:
            self.delete(name, wait=False)
        begin = time.monotonic()

        def gone():
            return not kube.items("distributedqueries", self.namespace) and not self.left()

        kube.wait(
            f"nothing left in {self.namespace}", limit_seconds, gone,
            lambda: f"left after {time.monotonic() - begin:.0f} s: {self.left()}\n{kube.story(self.namespace)}",
        )  # fmt: skip


def merge(base: dict, over: dict) -> dict:
    """`over` over `base`, deep; a None takes a key away."""
    merged = dict(base)
    for key, value in over.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, dict) and isinstance(merged.get(key), dict):
            merged[key] = merge(merged[key], value)
        else:
            merged[key] = value
    return merged
