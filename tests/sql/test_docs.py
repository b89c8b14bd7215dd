"""docs/sql.md: its queries as objects are those of examples/, and its table of differences is what each engine does."""

from __future__ import annotations

import datetime as dt
import pathlib
import re

import duckdb
import pytest
import yaml

REPO = pathlib.Path(__file__).parents[2]
PAGE = (REPO / "docs" / "sql.md").read_text()


def test_the_objects_are_those_of_the_examples():
    blocks = re.findall(r"\((?:\.\./)(examples/\w+\.yaml)\).*?```yaml\n(.*?)```", PAGE, re.DOTALL)
    assert [name for name, _ in blocks] == ["examples/sql.yaml", "examples/views.yaml"]
    assert len(blocks) == PAGE.count("```yaml")
    for name, block in blocks:
        shown, example = yaml.safe_load(block)["spec"], yaml.safe_load((REPO / name).read_text())["spec"]
        assert shown == {key: example[key] for key in shown}, name
        assert {"plan", "tables"} <= set(shown)


X = "from (values (1), (null), (2)) as t(x)"
D, S = "from (select date '2024-02-29' as d) t", "from (select 2.5 as x, cast(2.5 as decimal(4, 1)) as d) t"
PAIR = "(select 1 as id, 'a' as x) a join (select 1 as id, 'b' as y) b using (id)"
#: By the first cell of its line: a query, what Floe and Polars give and what DuckDB gives; an error by its class.
DIFFERENCES = {
    "`x DESC`": (f"select x {X} order by x desc", [(None,), (2,), (1,)], [(2,), (1,), (None,)]),
    "names of columns": ("select X from (select 1 as x) t", "ColumnNotFoundError", [(1,)]),
    "`7 / 2`": ("select 7 / 2 as q", [(3.5,)], [(3.5,)]),
    "`7 // 2`, `-7 // 2`": ("select 7 // 2 as a, -7 // 2 as b", [(3, -3)], [(3, -3)]),
    "`date + interval '1 day'`": (f"select d + interval '1 day' as n {D}", [(dt.date(2024, 3, 1),)], [(dt.datetime(2024, 3, 1),)]),
    "`date - date`": (f"select d - date '2024-01-30' as n {D}", [(dt.timedelta(30),)], [(30,)]),
    "`cast(2.5 as int)`, also of a column of decimals": (f"select cast(x as int) as a, cast(d as int) as b {S}", [(2, 2)], [(3, 3)]),
    "`log(x, y)`": ("select log(8, 2) as l", [(3.0,)], [(pytest.approx(1 / 3),)]),
    "`JOIN … USING (id)` in `SELECT *`": (f"select * from {PAIR}", 4, 3),
    # Nothing is promised that could be seen.
    "`string_agg` without `ORDER BY`": ("select length(string_agg(x, ',')) as n from (values ('a'), ('b')) as t(x)", [(3,)], [(3,)]),
}


def differences() -> list[str]:
    lines = PAGE[PAGE.index("| | Floe and Polars | DuckDB | Postgres |") :].split("\n\n")[0].splitlines()[2:]
    return [line.split("|")[1].strip() for line in lines]


def test_every_difference_is_run():
    assert differences() == list(DIFFERENCES)


@pytest.mark.parametrize("what", DIFFERENCES)
def test_a_difference_is_as_the_page_says(what, engine):
    query, ours, theirs = DIFFERENCES[what]
    if isinstance(ours, str):
        with pytest.raises(RuntimeError, match=ours):
            engine.run(query, {})
    else:
        got, _ = engine.run(query, {})
        assert (got.width if isinstance(ours, int) else got.rows()) == ours
    rows = duckdb.connect().sql(query)
    assert (len(rows.columns) if isinstance(theirs, int) else rows.fetchall()) == theirs
