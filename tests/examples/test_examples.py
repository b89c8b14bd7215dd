"""Every example runs through `floe run`, and its result is that of single-node Polars."""

from __future__ import annotations

import copy
import re
import subprocess

import pytest
import yaml

from bench import pdsh
from tests import support

EXAMPLES = support.REPO / "examples"
# Need a store (test_s3.py) or a cluster (tests/e2e/test_contexts.py, test_schedules.py).
ELSEWHERE = {"s3.yaml", "context.yaml", "on-context.yaml", "scheduled.yaml"}
NAMES = sorted(path.name for path in EXAMPLES.glob("*.yaml") if path.name not in ELSEWHERE)


def floe_run(path, *, timeout=120) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [support.binary("floe"), "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout
    )
    assert done.returncode == 0, f"floe run {path} ended with {done.returncode}\n{done.stderr}\n{done.stdout}"
    return done


@pytest.mark.parametrize("name", NAMES)
def test_example(name, workdir, data):
    query = support.load(EXAMPLES / name)
    if any(table["uri"].startswith("data/") for table in query["spec"].get("tables", {}).values()):
        (workdir / "data").symlink_to(data("0.01"))
    want = support.single_node(query)

    done = floe_run(f"examples/{name}")
    if "sink" not in query["spec"]:
        # What prints is for people; the same query with a sink gives the values.
        for column in want.columns:
            assert column in done.stdout, done.stdout
        query = copy.deepcopy(query)
        query["spec"]["sink"] = {"uri": "out/", "format": "parquet", "mode": "error"}
        path = workdir / "out.yaml"
        path.write_text(yaml.safe_dump(query, sort_keys=False, allow_unicode=True))
        floe_run(path)
        path.unlink()
    sink = query["spec"]["sink"]
    got = support.read_sink(sink)
    ordered = ".sort(" in query["spec"]["plan"].get("python", {}).get("script", "") or "dsl" in query["spec"]["plan"] or "order by" in query["spec"]["plan"].get("sql", "")
    support.assert_same(got.select(want.columns), want, ordered=ordered and not sink.get("partitionBy"))
    assert set(got.columns) == set(want.columns)

    checked = subprocess.run([support.binary("floe"), "verify", f"examples/{name}"], capture_output=True, text=True, timeout=120)
    assert checked.returncode == 0 and re.search(r"^equal +1$", checked.stdout, re.M), checked.stdout + checked.stderr


def test_the_pdsh_examples_are_those_of_the_benchmark():
    from bench.pdsh import examples

    for number in pdsh.QUERIES:
        assert (EXAMPLES / "pdsh" / f"q{number}.yaml").read_text() == examples.text(number)
