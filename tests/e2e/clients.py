"""Queries of Python clients that last while a test breaks something, and clients in processes of their own, which it ends."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys

import polars as pl

from tests.e2e import store
from tests.e2e.gate import at_gate

SOURCE = pathlib.Path(__file__).parents[2] / "python" / "src"
OPTIONS = {**store.STORAGE["options"], "aws_endpoint_url": store.ENDPOINT, "aws_region": store.STORAGE["region"]}
URI = f"s3://{store.BUCKET}/sf0.1/lineitem/*.parquet"
# Functions travel between the same versions of Python. Elsewhere a query lasts by its work: 1.4 billion pairs, which take some
# twenty seconds also on a machine that does nothing else.
GATES = sys.version_info[:2] == (3, 11)
TIMES = 4

# A client that starts a query, tells its id and waits for its end, which it does not live to see.
_CLIENT = """
import json, sys, floe
from tests.e2e.clients import lasting
told = json.loads(sys.argv[1])
kind = getattr(floe, told["kind"])
ctx = kind(**told["arguments"])
query = lasting(told["gate"]).remote(ctx).distributed().execute(blocking=False)
print(query.id, flush=True)
query.await_result()
"""


def lasting(gate: str) -> pl.LazyFrame:
    """Lasts until the gate is open; `lasting_result` has what it gives."""
    lines = pl.scan_parquet(URI).select("l_suppkey", pl.col("l_quantity").cast(pl.Float64).alias("q"))
    if not GATES:
        pairs = pl.concat([lines] * TIMES).join(lines, on="l_suppkey", how="inner", suffix="_2")
        return pairs.group_by("l_suppkey").agg(pl.len().alias("n"), (pl.col("q") * pl.col("q_2")).sum())

    return lines.group_by("l_suppkey").agg(pl.len().alias("n"), pl.col("q").sum()).map_batches(at_gate(gate), streamable=True)


def lasting_result(groups: pl.DataFrame) -> pl.DataFrame:
    """What it gives, from what GROUPS gives: sums of products are products of sums."""
    if GATES:
        return groups
    squares = [(pl.col(name).cast(pl.Float64).pow(2) * TIMES).alias(name) for name in ("n", "q")]
    return groups.with_columns(squares).with_columns(pl.col("n").cast(pl.UInt32))


def client(kind: str, gate: str, **arguments) -> subprocess.Popen:
    told = {"kind": kind, "arguments": arguments, "gate": gate}
    env = {**os.environ, "PYTHONPATH": f"{SOURCE}:{SOURCE.parents[1]}"}
    return subprocess.Popen([sys.executable, "-c", _CLIENT, json.dumps(told)], stdout=subprocess.PIPE, text=True, env=env)


def killed(process: subprocess.Popen) -> None:
    assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
