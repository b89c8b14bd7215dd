"""The 22 PDS-H queries, distributed, against single-node Polars: on 1, 2, 3 and 8 workers.

`floe-runner verify` compares with Polars of the same version in its own process; `test_against_the_wheel` compares what
`floe run` leaves in a sink with the Python wheel, another build and version of Polars.
"""

from __future__ import annotations

import base64
import json
import subprocess

import pytest
import yaml

from bench import pdsh
from bench.server import Floe
from tests import support

# Queries that must be cut into stages. All of them read more than one file.
DISTRIBUTED = set(pdsh.QUERIES)


def plans(directory, data, scale_factor: float):
    for number in pdsh.QUERIES:
        (directory / f"q{number:02}.bin").write_bytes(pdsh.query(number, str(data), scale_factor).serialize())


@pytest.mark.parametrize(
    ("workers", "scale_factor"), [(1, "0.1"), (2, "1"), (3, "0.1"), (8, "0.1")], ids=["1", "2-sf1", "3", "8"]
)
def test_workers(workers, scale_factor, data, tmp_path):
    directory = tmp_path / "plans"
    directory.mkdir()
    plans(directory, data(scale_factor), float(scale_factor))
    report = tmp_path / "report.json"
    done = subprocess.run(
        [
            support.binary("floe-runner"),
            "verify",
            *("--workers", str(workers), "--jobs", "2", "--timeout", "120", "--json", str(report)),
            str(directory),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout
    checked = {int(one["plan"][1:3]): one for one in json.loads(report.read_text())["checked"]}
    assert set(checked) == set(pdsh.QUERIES)
    assert {n: one["outcome"] for n, one in checked.items() if one["outcome"] != "equal"} == {}
    # One worker scans in one task, after which nothing is left to exchange (q6).
    if workers > 1:
        assert {n for n, one in checked.items() if one["stages"] > 1} >= DISTRIBUTED


@pytest.mark.parametrize("number", pdsh.QUERIES)
def test_against_the_wheel(number, data, workdir):
    """From the YAML to the files of the sink, on processes of its own."""
    source = data("0.01")
    query = pdsh.spec(
        number,
        str(source),
        scale_factor=0.01,
        workers=2,
        mode="distributed",
        sink={"uri": "out/", "format": "parquet", "mode": "error"},
    )
    path = workdir / "query.yaml"
    path.write_text(yaml.safe_dump(query, sort_keys=False))
    done = subprocess.run(
        [support.binary("floe"), "run", str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120
    )
    path.unlink()
    assert done.returncode == 0, done.stderr + done.stdout
    want = pdsh.query(number, str(source), 0.01).collect()
    support.assert_same(support.read_sink(query["spec"]["sink"]), want)


@pytest.fixture(scope="module")
def engine():
    engine = Floe("pdsh-s3", 2, 1, "distributed")
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def oracle(data):
    """Answers of single-process Polars at scale factor 0.1, each made once."""
    answers = {}

    def answer(number: int):
        if number not in answers:
            answers[number] = pdsh.query(number, str(data("0.1")), 0.1).collect()
        return answers[number]

    return answer


def spec_over(s3, tables: str, number: int, execution: dict) -> dict:
    """The plan names s3:// paths and holds no credentials; they come with the job."""
    plan = pdsh.query(number, tables, 0.1).serialize()
    storage = s3.storage
    storage["options"] |= s3.credentials
    return {
        "plan": {"dsl": {"inline": base64.b64encode(plan).decode()}},
        "storage": storage,
        "compute": {"workers": 2, "cpus": 1},
        "execution": {"mode": "distributed"} | execution,
    }


@pytest.mark.parametrize("number", pdsh.QUERIES)
def test_tables_in_s3(number, s3, s3_tables, engine, oracle):
    got, summary, _ = engine.query(f"q{number}", spec_over(s3, s3_tables, number, {}))
    support.assert_same(got, oracle(number))
    assert len(summary["stages"]) > 1


@pytest.mark.parametrize("number", [3, 9, 13, 18, 21])
@pytest.mark.parametrize("place", ["http", "store"])
def test_shuffle_places(number, place, s3, s3_tables, data, engine, oracle):
    # No broadcast, so that there is much to shuffle.
    execution = {"broadcastLimit": "0", "shuffle": {"place": place}}
    if place == "store":
        execution["shuffle"]["uri"] = "s3://floe/scratch/"
    got, summary, path = engine.query(f"q{number}", spec_over(s3, s3_tables, number, execution))
    support.assert_same(got, oracle(number))
    engine.request("DELETE", path).read()
    if place == "store":
        left = s3.client().list_objects_v2(Bucket="floe", Prefix="scratch/").get("Contents", [])
        assert [item["Key"] for item in left] == []
