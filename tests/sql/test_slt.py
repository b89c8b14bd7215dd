"""The SQL suite: sqllogictest runs every case on one node, and forced into stages on three workers; and whether the cases are
still what Polars and DuckDB say."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys

import pytest

from tests.sql import record
from tests.sql.engine import WAYS

REPO = pathlib.Path(__file__).parents[2]
HERE = pathlib.Path(__file__).parent
FILES = sorted(HERE.glob("*.slt"))
TEXT = "".join(path.read_text() for path in FILES)
CASES = TEXT.count("\nquery ")


@pytest.fixture(scope="session")
def sqllogic():
    """sqllogic(arguments) -> what the runner did with them."""
    target = pathlib.Path(os.environ.get("FLOE_CACHE") or pathlib.Path.home() / ".cache" / "floe") / "sqllogic"
    build = ["cargo", "build", "--release", "--locked", "--manifest-path", HERE / "sqllogic" / "Cargo.toml", "--target-dir", target]
    subprocess.run(build, check=True, timeout=1200)
    environment = {"FLOE_PYTHON": sys.executable} | os.environ | {"PYTHONPATH": str(REPO)}

    def run(*arguments: str | pathlib.Path) -> subprocess.CompletedProcess:
        command = [target / "release" / "floe-sqllogic", *arguments]
        return subprocess.run(command, env=environment, cwd=REPO, stdout=subprocess.PIPE, text=True, timeout=1500)

    return run


def test_the_suite_is_whole():
    assert CASES >= 400
    assert TEXT.count(f"# {record.UNLIKE}") < 30


def test_every_case_in_every_way(sqllogic):
    done = sqllogic(*FILES)
    assert done.returncode == 0, done.stdout
    ways = [f"{way}: {CASES} run" for way in WAYS]
    assert done.stdout.splitlines() == [*ways, f"all {CASES * len(WAYS)} as expected"]


#: What the runner must find wrong, and what it says of it; None where the case is right.
WRONG = {
    "query IT nosort\nselect id, name from dept where id < 3 order by id\n----\n1\tengineering\n2\tsales\n": None,
    "query IT nosort\nselect id, name from dept where id < 3 order by id\n----\n1\tengineering\n2\tSales\n": "\n-   2 Sales\n+   2 sales",
    "query IT nosort\nselect id, name from dept where id < 3 order by id\n----\n2\tsales\n1\tengineering\n": "mismatch",
    "query IT rowsort\nselect id, name from dept where id < 3 order by id desc\n----\n1\tengineering\n2\tsales\n": None,
    "query IT nosort\nselect id, name from dept where id = 2\n----\n2\tsales\n2\tsales\n": "mismatch",
    "query T nosort\nselect 'a  b ' as s\n----\na  b \n": None,
    "query T nosort\nselect 'a  b ' as s\n----\na  b\n": "mismatch",
    "query T nosort\nselect 'a  b ' as s\n----\na b \n": "mismatch",
    "query TT nosort\nselect 'a b' as s, 'c' as t\n----\na\tb c\n": "mismatch",
    "query R nosort\nselect id from dept where id = 1\n----\n1\n": "[Expected] [R]",
    "query I nosort\nselect id from dept where id > 9\n----\n": None,
    "query T nosort\nselect id from dept where id > 9\n----\n": "[Expected] [T]",
    "query I nosort\nselect nothing from dept\n----\n1\n": "nothing",
    "query error ColumnNotFoundError\nselect nothing from dept\n": None,
    "query error ColumnNotFoundError\nselect id from dept\n": "expected to fail",
    "query error ParserError\nselect nothing from dept\n": "expected to fail with error",
}


def test_a_wrong_case_is_found_and_named(sqllogic, tmp_path):
    path, text, expected = tmp_path / "wrong.slt", "# some are wrong\n\n", {}
    for case, says in WRONG.items():
        if says is not None:
            expected[f"{path}:{len(text.splitlines()) + 1} (by-hash)"] = says
        text += f"{case}\n"
    path.write_text(text)
    done = sqllogic("--way", "by-hash", path)
    assert done.returncode == 1
    reports = done.stdout.removesuffix(f"by-hash: {len(WRONG)} run\n{len(expected)} of {len(WRONG)} not as expected\n").split(f"{path}:")
    found = {f"{path}:{report.split(': ', 1)[0]}": report for report in reports[1:]}
    assert list(found) == list(expected), done.stdout
    for place, says in expected.items():
        assert says in found[place]


def test_files_that_cannot_be_read_are_named(sqllogic, tmp_path):
    (tmp_path / "odd.slt").write_text("# a head\n\nquerry I nosort\nselect 1\n----\n1\n")
    done = sqllogic(tmp_path / "odd.slt", FILES[0], tmp_path / "missing.slt")
    assert done.returncode == 1
    assert f"{tmp_path}/odd.slt:3: parse error: invalid line" in done.stdout
    assert f"{tmp_path}/missing.slt:0: parse error: no such file" in done.stdout


def test_nothing_to_run_is_no_success(sqllogic):
    done = sqllogic("--matching", "no case has this text", FILES[0])
    assert done.returncode == 1
    assert done.stdout == "no query was run: the files have none that is meant\n"


def test_the_recording_is_what_the_engines_say(tmp_path):
    """Polars 2.1 and DuckDB, each asked again; `python -m tests.sql.record` writes what they say."""
    context, db = record.engines(tmp_path)
    sources = sorted((HERE / "cases").glob("*.sql"))
    assert [path.stem for path in sources] == [path.stem for path in FILES]
    for path in sources:
        again = record.written(tmp_path, path, record.recorded(path, context, db, say=lambda _: None))
        assert again.read_text() == (HERE / again.name).read_text()
