"""`floe logs` of queries on a warm context: of pods that log for all of them, each query's lines are found."""

from __future__ import annotations

import json

import pytest

from tests.e2e.command import FLOE, floe, good, start
from tests.e2e.contexts import LARGER, SMALL
from tests.e2e.queries import GATED_ONCE

pytestmark = pytest.mark.skipif(FLOE is None, reason="floe is not built on this machine")
# Workers tell of their tasks when asked to.
LOUD = [{"name": "RUST_LOG", "value": "info,floe=info,floe_runner=debug"}]
SAYS = "print('hello from {name}')\nresult = pl.LazyFrame({{'n': [1, 2, 3]}}).select(pl.col('n').sum())"


def on_warm(script: str) -> dict:
    return {"plan": {"python": {"script": script}}, "compute": {"contextRef": {"name": "warm"}}}


def test_each_query_has_its_own_lines(contexts, queries):
    at = ["-n", queries.namespace]
    contexts.create(maxWorkers=1, compute={**SMALL, "env": LOUD})
    contexts.ready()
    for name in ("one", "two"):
        queries.create(name, on_warm(SAYS.format(name=name)))
        queries.succeeded(name)
    one = good("logs", "one", *at)
    assert "coordinator | " in one and "hello from one" in one and "query succeeded" in one, one
    assert "task done" in one and "worker " in one, one
    assert "hello from two" not in one and "worker connected" not in one, one
    # The last lines of this query, and not those of its pods' last lines that are its own.
    last = good("logs", "one", *at, "--role", "coordinator", "--tail", 1)
    assert len(last.splitlines()) == 1 and "query succeeded" in last, last
    told = [json.loads(line) for line in good("logs", "two", *at, "-o", "json").splitlines()]
    uid = queries.get("two")["metadata"]["uid"]
    assert told and all(uid in json.dumps(line) for line in told), told
    assert {line["pod"] for line in told} == {pod["metadata"]["name"] for pod in contexts.pods()}, told
    # A query that fails says how, and following one that has ended ends.
    queries.create("bad", on_warm("result = pl.LazyFrame({'n': [1]}).select('nothing')"))
    queries.failed("bad", "BadPlan")
    followed = start("logs", "bad", "-f", *at)
    out, err = followed.communicate(timeout=60)
    assert followed.returncode == 0 and "query failed" in out and "nothing" in out and "hello" not in out, (out, err)
    # All of the context, each line with the query that it tells of.
    whole = good("logs", "--on", "warm", *at)
    assert "worker connected" in whole and "hello from one" in whole and "hello from two" in whole, whole
    assert f"query={uid}" in whole, whole
    missing = floe("logs", "--on", "cold", *at)
    assert missing.returncode == 2 and "there is no context cold" in missing.stderr, missing.stderr


def test_a_query_is_followed_while_it_runs(contexts, queries):
    at = ["-n", queries.namespace]
    contexts.create(maxWorkers=1, compute={**LARGER, "env": LOUD})
    contexts.ready()
    queries.create("long", contexts.query("print('hello from long')\n" + GATED_ONCE))
    queries.at_gate("long")
    followed = start("logs", "long", "-f", *at)
    # What others log meanwhile does not keep it from its end.
    queries.create("other", on_warm(SAYS.format(name="other")))
    queries.open()
    queries.succeeded("long")
    queries.succeeded("other")
    out, err = followed.communicate(timeout=60)
    assert followed.returncode == 0, err
    assert "hello from long" in out and "task done" in out and "query succeeded" in out, out
    assert "hello from other" not in out, out
