"""Tables by the names that a text has for them: of several parts, and by their files, also those in a store."""

from __future__ import annotations

import pathlib

import pytest

MODES = ["single-node", "distributed"]
# How tables are named, and a query that names them so; each gives the names of the departments of Paris.
DOTTED = {
    "of a schema": ({"lake.dept": "dept"}, "select name from lake.dept where city = 'Paris' order by name"),
    "of a catalog": ({"main.lake.dept": "dept"}, "select name from main.lake.dept where city = 'Paris' order by name"),
    "quoted": ({"lake.dept": "dept"}, 'select name from "lake"."dept" where "city" = \'Paris\' order by name'),
    "with an alias": ({"lake.dept": "dept"}, "select d.name from lake.dept as d where d.city = 'Paris' order by d.name"),
    "by their last part": ({"lake.dept": "dept"}, "select dept.name from lake.dept where dept.city = 'Paris' order by dept.name"),
    "joined": (
        {"lake.dept": "dept", "hr.emp": "emp"},
        "select distinct d.name from hr.emp e join lake.dept d on e.dept_id = d.id where d.city = 'Paris' order by d.name",
    ),
    "beside a plain name": (
        {"lake.dept": "dept", "emp": "emp"},
        "select name from lake.dept where city = 'Paris' and id in (select dept_id from emp) order by name",
    ),
    "in a view": ({"lake.dept": "dept"}, "select name from lake.paris order by name"),
}
VIEWS = {"lake.paris": "select name from lake.dept where city = 'Paris'"}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("how", DOTTED)
def test_names_have_parts(how, mode, engine, small):
    names, query = DOTTED[how]
    tables = {name: small[table] for name, table in names.items()}
    got, _ = engine.run(query, tables, mode=mode, views=VIEWS)
    assert got.rows() == [("sales",), ("support",)]


def test_the_same_last_part_in_two_schemas(engine, small):
    tables = {"a.things": small["emp"], "b.things": small["dept"]}
    got, _ = engine.run("select (select count(*) from a.things) as a, (select count(*) from b.things) as b", tables)
    assert got.rows() == [(20, 5)]
    got, _ = engine.run("select count(*) as n from a.things x join b.things y on x.dept_id = y.id", tables)
    assert got.item() == 17
    assert engine.run("describe b.things", tables)[0]["column_name"].to_list() == ["id", "name", "city", "budget"]


def test_a_name_of_parts_that_is_not_there(engine, small):
    with pytest.raises(RuntimeError, match=r"line 1, column 21: there is no table lake\.dpt; did you mean lake\.dept\? \(there are: lake\.dept\)"):
        engine.run("select id from lake.dpt", {"lake.dept": small["dept"]})


@pytest.fixture(scope="module")
def stored(s3, small):
    """The tables in the bucket; gives their prefix, and a query's storage."""
    client = s3.client()
    for name, glob in small.items():
        for path in pathlib.Path(glob).parent.iterdir():
            client.upload_file(str(path), "floe", f"sql/{name}/{path.name}")
    client.put_object(Bucket="floe", Key="sql/more.csv", Body=b"id,word\n1,one\n3,three\n")
    client.put_object(Bucket="floe", Key="sql/more.ndjson", Body=b'{"id": 1, "word": "one"}\n{"id": 3, "word": "three"}\n')
    storage = s3.storage
    return "s3://floe/sql", storage | {"options": storage["options"] | s3.credentials}


@pytest.mark.parametrize("mode", MODES)
def test_files_of_a_store_in_the_text(mode, engine, small, stored):
    """With nothing but the query's storage."""
    at, storage = stored
    query = f"select city, count(*) as n from read_parquet('{at}/dept/*.parquet') group by city order by city nulls last"
    got, _ = engine.run(query, {}, mode=mode, storage=storage)
    assert got.rows() == [("Oslo", 1), ("Paris", 2), ("Rome", 1), (None, 1)]
    # Beside a table of the query, twice, and in other formats.
    joined = (
        f"select e.name, c.word, n.word as again from read_parquet('{at}/emp/*.parquet') e "
        f"join read_csv('{at}/more.csv') c on e.id = c.id join read_ndjson('{at}/more.ndjson') n on n.id = c.id "
        "join dept d on d.id = e.dept_id order by e.id"
    )
    got, _ = engine.run(joined, {"dept": f"{at}/dept/*.parquet"}, mode=mode, storage=storage)
    assert got.rows() == [("Ada", "one", "one"), ("Cleo", "three", "three")]
    view = {"rich": f"select name from scan_parquet('{at}/emp/*.parquet') where salary > $least"}
    got, _ = engine.run("select count(*) as n from rich", {}, mode=mode, storage=storage, views=view, params={"least": 6500})
    assert got.item() == engine.run("select count(*) as n from emp where salary > 6500", small)[0].item() > 0


def test_a_store_says_what_it_does_not_have(engine, stored):
    at, storage = stored
    with pytest.raises(RuntimeError, match=r"line 1, column 28: table of a file: .*nothing") as error:
        engine.run(f"select * from read_parquet('{at}/nothing/*.parquet')", {}, storage=storage)
    assert storage["options"]["aws_secret_access_key"] not in str(error.value)
    wrong = storage | {"options": storage["options"] | {"aws_secret_access_key": "another"}}
    with pytest.raises(RuntimeError, match=r"line 1, column 28: table of a file: "):
        engine.run(f"select * from read_parquet('{at}/dept/*.parquet')", {}, storage=wrong)
