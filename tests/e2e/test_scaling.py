"""A query with pods of its own has as many workers as its tasks need, between its bounds, and loses nothing when some go."""

from __future__ import annotations

import polars as pl

from tests import support
from tests.e2e import kube, store

# Tasks over a table that take their time for their rows, some 90 seconds together; then one for all rows, which takes longer
# than workers stay that nothing needs.
STAGES = """
def slow(numbers):
    import time

    time.sleep(len(numbers) * 1.5e-4)
    return numbers

def rest(frame):
    import time

    time.sleep(60)
    return frame

numbers = pl.col("l_quantity").cast(pl.Int64)
if params["slowly"]:
    numbers = numbers.map_batches(slow, is_elementwise=True, return_dtype=pl.Int64)
sums = scan("lineitem").select("l_linenumber", numbers).group_by("l_linenumber").agg(pl.len().alias("n"), pl.col("l_quantity").sum())
result = sums.map_batches(rest) if params["slowly"] else sums
"""


def workers(status: dict) -> tuple[int, int]:
    """How many are wanted, and how many are ready."""
    counts = status.get("workers", {})
    return counts.get("desired", 0), counts.get("ready", 0)


def test_workers_follow_the_tasks(queries):
    spec = queries.spec(STAGES, params={"slowly": True}, execution={"scanTaskBytes": "1Mi"}, backoffLimit=0)
    del spec["compute"]["workers"]
    # A function's process takes some of a worker's memory.
    spec["compute"] |= {"minWorkers": 1, "maxWorkers": 3, "memory": "640Mi"}
    queries.create("scales", spec)
    queries.wait("scales", "three workers", lambda status: workers(status) == (3, 3), 90)
    assert {pod["metadata"]["name"] for pod in queries.pods("scales", "worker")} == {f"scales-1-w{n}-0" for n in range(3)}
    status = queries.wait("scales", "one worker is wanted", lambda status: workers(status)[0] == 1, 120)
    assert status["phase"] == "Running" and len(status["workers"]["released"]) == 2, status
    story = lambda: kube.story(queries.namespace)  # noqa: E731
    kube.wait("two workers go", 30, lambda: len(queries.pods("scales", "worker")) == 1, story)
    assert queries.status("scales")["phase"] == "Running", "they go while the last task runs"
    status = queries.succeeded("scales")
    assert (status["attempt"], status["failures"], status["workers"]["summary"]) == (1, 0, "1")
    assert "replaced" not in status["workers"], status

    events = queries.events("scales")
    assert [one for one in events if "a coordinator and 1 worker are being made" in one["message"]], events
    told = [event["message"] for event in events if event["reason"].startswith("Scaled")]
    assert len(told) == 2 and any("goes up from 1 to 3" in one for one in told), told
    assert any("goes down from 3 to 1; tasks that run or wait: 1" in one for one in told), told
    assert not [event for event in events if event["type"] == "Warning"], events

    names = {"pl": pl, "params": {"slowly": False}}
    names["scan"] = lambda table: pl.scan_parquet(f"s3://{store.BUCKET}/sf0.1/{table}/*.parquet", storage_options=store.options())
    exec(compile(STAGES, "script", "exec"), names)
    uri = f"s3://{store.BUCKET}/{queries.prefix}/scales/**/*.parquet"
    support.assert_same(pl.read_parquet(uri, storage_options=store.options()), names["result"].collect(), ordered=False)
