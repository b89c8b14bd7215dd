"""Views of a query: used as tables are, resolved in the order that they need, wrong ones told by name and place."""

from __future__ import annotations

import pytest

VIEWS = {
    "hired": "select id, name, dept_id, salary from emp where hired >= $since",
    "by_dept": "select dept_id, count(*) as n, sum(salary) as paid from hired group by dept_id",
    "ranked": "select *, rank() over (order by paid desc, dept_id) as place from by_dept",
    "lake.cities": "select distinct city from dept",
    "unused": "select nothing from nowhere",
}
SINCE = {"since": "2016-06-01"}
CASES = [
    ("select count(*) from by_dept", "select count(distinct coalesce(dept_id, -1)) from emp where hired >= date '2016-06-01'"),
    (
        "select dept_id, place from ranked where place <= 3 order by place",
        "select dept_id, rank() over (order by sum(salary) desc, dept_id) as place from emp where hired >= date '2016-06-01' "
        "group by dept_id order by place limit 3",
    ),
    ("select count(*) from lake.cities", "select count(*) from (select distinct city from dept)"),
    # A view beside itself, under its own name and another, and in a subquery.
    (
        "select count(*) from hired join hired h on hired.id = h.id where h.dept_id in (select dept_id from by_dept)",
        "select count(*) from emp where hired >= date '2016-06-01' and dept_id is not null",
    ),
    # A common table hides the view.
    ("with hired as (select 1 as one) select one from hired", "select 1 as one"),
]


@pytest.mark.parametrize("mode", ["single-node", "distributed"])
@pytest.mark.parametrize(("query", "plain"), CASES)
def test_a_view_is_what_its_text_is(query, plain, mode, engine, small):
    got, _ = engine.run(query, small, mode=mode, views=VIEWS, params=SINCE)
    want, _ = engine.run(plain, small)
    assert got.rows() == want.rows()


def test_views_are_listed_and_described(engine, small):
    names = engine.run("show tables", small, views=VIEWS)[0].to_series().to_list()
    assert names == sorted([*small, *VIEWS])
    described, _ = engine.run("describe by_dept", small, views=VIEWS, params=SINCE)
    assert described.rows() == [("dept_id", "i64"), ("n", "i64"), ("paid", "decimal[38,2]")]


def test_marks_of_several_texts_are_told_apart(engine, small):
    """Orders of windows and files in the text have numbers that all texts of a query share."""
    views = {
        "a": f"select id, row_number() over (order by dept_id desc, id) as r from read_parquet('{small['emp']}')",
        "b": f"select id, row_number() over (order by budget, id desc) as r from read_parquet('{small['dept']}')",
    }
    text = "select (select max(r) from a) as a, (select max(r) from b) as b, row_number() over (order by i desc, j) as r from nums"
    got, _ = engine.run(f"{text} order by r limit 1", small, views=views)
    assert got.rows() == [(20, 5, 1)]
    got, _ = engine.run("select id from b order by r", small, views=views)
    assert got.to_series().to_list()[:3] == [5, 3, 2]


WRONG = {
    "a column": ({"v": "select id,\n  nme from emp"}, "view v, line 2, column 3: there is no column nme; did you mean name?"),
    "a table": ({"v": "select * from w", "w": "select * from emps"}, "view w, line 1, column 15: there is no table emps; did you mean emp?"),
    "syntax": ({"v": "select * form emp"}, "view v, line 1, column 10: expected end of statement, found form"),
    "a quote": ({"v": "select 'a"}, "view v, line 1, column 8: this text in quotes is never closed"),
    "itself": ({"v": "select * from v"}, "view v, line 1, column 15: the view v uses itself"),
    "a round": (
        {"v": "select * from w", "w": "select *\nfrom emp join x on true", "x": "select * from v"},
        "view x, line 1, column 15: these views use each other, which has no end: v -> w -> x -> v",
    ),
    "no query": ({"v": "drop table emp"}, "view v, line 1, column 1: DROP is no query"),
    "a description": ({"v": "describe emp"}, "view v, line 1, column 1: a view is a query, and describe is none"),
    "a parameter": ({"v": "select $nope"}, "view v, line 1, column 8: no parameter nope"),
    "the engine": (
        {
            "v": "with recursive a as (select 1 as n union all select x.m + 1 from (with recursive b as (select n as m from a union all "
            "select m + 1 from b where m < 3) select m from b) x where x.m < 5) select * from a"
        },
        "view v, line 1, column 6: a recursive table in the step of another",
    ),
    "a value": ({"v": "select id,\n cast(name as int) as n from emp"}, "view v, line 2, column 7: conversion from `str` to `i32` failed"),
    "a file": ({"v": "select * from read_csv('/no/file.csv')"}, "view v, line 1, column 24: table of a file: No such file"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_views_are_told_by_name_and_place(what, engine, small):
    views, message = WRONG[what]
    with pytest.raises(RuntimeError) as error:
        engine.run("select * from v", small, views=views)
    assert message in str(error.value), str(error.value)
    # A view that is not used may be wrong.
    assert engine.run("select count(*) from emp", small, views=views)[0].item() == 20
