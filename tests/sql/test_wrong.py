"""Wrong queries: each is refused with its class, its place and what was most likely meant (wrong.yaml)."""

from __future__ import annotations

import pathlib
import re
import time

import pytest
import yaml

HERE = pathlib.Path(__file__).parent
#: Class, line, column, message, the line of the text and a caret below it.
PLACED = re.compile(r"\w+: line \d+, column \d+: .+\n  .*\n {2,}\^\s*$")
CASES = yaml.safe_load((HERE / "wrong.yaml").read_text())


def refusal(engine, query: str, tables: dict[str, str]) -> str:
    """Class and message."""
    with pytest.raises(RuntimeError) as error:
        engine.run(query, tables)
    return str(error.value).removeprefix("sql: ")


def test_every_query_has_its_refusal():
    queries = [line for line in (HERE / "wrong.sql").read_text().splitlines() if line]
    assert [case["sql"] for case in CASES] == queries, "python -m tests.sql.refusals"
    assert len(queries) >= 70


def test_every_refusal_has_its_place():
    without = [case["sql"] for case in CASES if not PLACED.match(case["says"])]
    assert not without


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["sql"][:60])
def test_refused(case, engine, small):
    assert refusal(engine, case["sql"], small).rstrip() == case["says"].rstrip()


HOSTILE = {
    "parentheses": "select " + "(" * 5000 + "1" + ")" * 5000,
    "a long chain": "select " + "1+" * 20_000 + "1",
    "negations": "select " + "not " * 20_000 + "true",
    "ten megabytes": "select '" + "x" * 10_000_000 + "'",
    "tables that multiply": "with a0 as (select 1 as x), "
    + ", ".join(f"a{i} as (select l.x from a{i - 1} l, a{i - 1} r)" for i in range(1, 30))
    + " select * from a29",
    "a recursion without an end": "with recursive r as (select 1 as n union all select n % 7 from r) select count(*) from r",
    "a recursion that grows": "with recursive r as (select 1 as n union all select r.n from r, emp) select count(*) from r",
    "a long text": "select lpad('x', 2000000000)",
    "a long text from a subquery": "select rpad(s, (select 2000000000)) from (select 'x' as s) t",
    "a long list": "select range(1, 1000000000000)",
    "a long series": "select sum(n) from generate_series(1, 1000000000000) as g(n)",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_texts_end(what, engine, small):
    begin = time.monotonic()
    said = refusal(engine, HOSTILE[what], small)
    assert time.monotonic() - begin < 60
    assert said.startswith(("QueryTooLarge: ", "SQLSyntaxError: ", "SQLInterfaceError: ", "ComputeError: ")), said[:300]
    # The engine is as well as before.
    frame, _ = engine.run("select count(*) as n from emp", small)
    assert frame.item() == 20


TOO_MUCH = {
    "select lpad(name, id * 100000000) from emp": (8, "000 characters; at most 16777216 are made"),
    "select id, range(id * 1000000000) from emp": (12, "GENERATE_SERIES or RANGE makes lists of "),
    "select id, generate_series(id, 1000000000) as n from emp": (12, "GENERATE_SERIES or RANGE makes lists of "),
}


@pytest.mark.parametrize("mode", ["single-node", "distributed"])
@pytest.mark.parametrize("query", TOO_MUCH)
def test_too_much_of_a_column_ends(query, mode, engine, small):
    column, part = TOO_MUCH[query]
    with pytest.raises(RuntimeError) as error:
        engine.run(query, small, mode=mode)
    assert f"ComputeError: line 1, column {column}: " in str(error.value) and part in str(error.value), str(error.value)
