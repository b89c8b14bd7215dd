"""The 22 PDS-H queries, distributed, against single-node Polars: on 1, 2, 3 and 8 workers.

`floe-runner verify` compares with Polars of the same version in its own process; `test_against_the_wheel` compares what
`floe run` leaves in a sink with the Python wheel, another build and version of Polars.
"""

from __future__ import annotations

import json
import subprocess

import pytest
import yaml

from bench import pdsh
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
