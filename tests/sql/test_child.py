"""The process in which Polars resolves a text: whatever the text, it opens no file, and readers are Floe's own scans."""

from __future__ import annotations

import json
import pathlib
import subprocess
import sys

import polars as pl
import pytest

PLAN = pathlib.Path(__file__).parents[2] / "engine" / "plan" / "src"


@pytest.mark.parametrize("mode", ["single-node", "distributed"])
@pytest.mark.parametrize("name", ["read_csv", '"read_csv"', "`read_csv`", '"READ_CSV"', "`Scan_Csv`"])
def test_a_reader_is_a_scan_of_floe_however_it_is_named(name, mode, engine, tmp_path):
    pl.DataFrame({"a": range(5), "b": list("vwxyz")}).write_csv(tmp_path / "t.csv")
    text = f"select t.b from {name}('{tmp_path}/t.csv') as t where t.a > 2 order by t.a"
    assert engine.run(text, {}, mode=mode)[0].rows() == [("y",), ("z",)]
    described, _ = engine.run(f"describe {name}('{tmp_path}/t.csv')", {}, mode=mode)
    assert described["column_name"].to_list() == ["a", "b"]


@pytest.fixture
def child(tmp_path):
    """The process as the engine starts it, without the engine's care for what it is asked."""
    for name, source in {"host.py": "sql/host.py", "traverse.py": "crossing/traverse.py", "host_tables.py": "script/host_tables.py"}.items():
        found = next(iter(PLAN.glob(f"**/{source.rpartition('/')[2]}")))
        (tmp_path / name).write_bytes(found.read_bytes())
    command = [sys.executable, "-I", "-B", str(tmp_path / "host.py"), str(tmp_path)]
    running = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def ask(request: dict) -> dict:
        body = json.dumps(request).encode()
        running.stdin.write(f"{len(body):08x}".encode() + body)
        running.stdin.flush()
        return json.loads(running.stdout.read(int.from_bytes(running.stdout.read(8), "little")))

    yield ask
    running.stdin.close()
    running.wait(timeout=30)


def test_the_child_opens_no_file(child, tmp_path):
    pl.DataFrame({"a": [1]}).write_csv(tmp_path / "t.csv")
    texts = [f"select * from read_csv('{tmp_path}/t.csv')", f"select * from \"read_csv\"('{tmp_path}/t.csv')", "select 1 as one"]
    answers = []
    for text in texts:
        assert child({"tables": {}, "base": "/", "memory_bytes": 1 << 30}) == {"scans": {}}
        answers.append(child({"query": text, "views": [], "tables": [], "first_rows": 1001}))
    for answer in answers[:2]:
        assert "Too many open files" in answer["error"]["message"], answer
    assert answers[2]["crossing"]["nodes"]
