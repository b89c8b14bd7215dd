"""Tables and queries of a real PostgreSQL (tests/postgres.sh) in SQL, scripts and plans: types, what is pushed down, one
snapshot, connections, cancellation, errors."""

from __future__ import annotations

import datetime as dt
import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import polars as pl
import pytest
import yaml

from tests import support
from tests.conftest import REPO

SCRIPT = REPO / "tests" / "postgres.sh"
PASSWORD = "floe-test"


class Server:
    def __init__(self, directory: pathlib.Path):
        self.directory = directory
        up = subprocess.run([SCRIPT, "up", directory], capture_output=True, text=True)
        if up.returncode == 3 and os.environ.get("FLOE_TEST_ALL") != "1":
            pytest.skip(up.stderr.strip())
        assert up.returncode == 0, up.stderr
        self.port = int(up.stdout)
        self.uri = f"postgres://floe@127.0.0.1:{self.port}/postgres"
        self.psql = pathlib.Path(subprocess.check_output([SCRIPT, "bin"], text=True).strip()) / "psql"

    def command(self, *arguments: str) -> list[str]:
        return [str(self.psql), "-X", "-q", "-t", "-A", "-v", "ON_ERROR_STOP=1", *arguments, self.uri]

    def sql(self, text: str) -> str:
        done = subprocess.run(self.command("-c", text), env=os.environ | {"PGPASSWORD": PASSWORD}, capture_output=True, text=True)
        assert done.returncode == 0, f"{text}: {done.stderr}"
        return done.stdout.strip()

    def logged(self) -> int:
        return (self.directory / "server.log").stat().st_size

    def copies(self, since: int) -> list[str]:
        """The statements that read rows since this place in the log."""
        with (self.directory / "server.log").open() as log:
            log.seek(since)
            text = log.read()
        # A statement may have several lines; those after the first begin with a tab.
        text = text.replace("\n\t", " ")
        return re.findall(r"(?:statement|execute [^:]*): COPY \((.*)\) TO STDOUT", text)

    def connections(self) -> int:
        return int(self.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floe'"))


@pytest.fixture(scope="module")
def server():
    # Below a directory that the server may enter: it does not run as root.
    with tempfile.TemporaryDirectory(prefix="floe-postgres-") as directory:
        yield from started(pathlib.Path(directory))


def started(directory: pathlib.Path):
    server = Server(directory)
    try:
        server.sql("ALTER SYSTEM SET log_statement = 'all'")
        server.sql("ALTER SYSTEM SET log_line_prefix = '%m [%p] %a '")
        server.sql("SELECT pg_reload_conf()")
        server.sql(
            """
            CREATE TABLE orders (id int8 PRIMARY KEY, customer int4, amount numeric(12, 2), day date, note text, paid bool, weight float8);
            INSERT INTO orders SELECT n, n % 97, (n % 1000) / 4.0, date '2026-01-01' + (n % 365)::int,
                CASE WHEN n % 10 = 0 THEN NULL ELSE 'note ' || n % 50 END, n % 3 = 0, CASE WHEN n % 7 = 0 THEN 'NaN' ELSE n / 8.0 END
                FROM generate_series(1, 60000) n;
            ANALYZE orders;
            CREATE TABLE nothing (id int4, name text);
            CREATE TABLE one (id int4, name text); INSERT INTO one VALUES (7, 'seven');
            """
        )
        yield server
    finally:
        subprocess.run([SCRIPT, "down", directory])


def spec(server: Server, plan: dict, tables: dict, **more) -> dict:
    tables = {name: {"format": "postgres", "uri": server.uri} | table if "uri" not in table else table for name, table in tables.items()}
    return {
        "plan": plan, "tables": tables, "storage": {"options": {"password": PASSWORD}},
        "sink": {"uri": "out/", "format": "parquet", "mode": "overwrite"},
        "compute": {"workers": 2, "memory": "1Gi"}, "execution": {"mode": "distributed"},
    } | more  # fmt: skip


def written(workdir: pathlib.Path, query: dict) -> pathlib.Path:
    path = workdir / "data" / "q.yaml"
    path.parent.mkdir(exist_ok=True)
    query = query | {"sink": query["sink"] | {"uri": f"{workdir}/out/"}}
    head = {"apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery", "metadata": {"name": "q"}}
    path.write_text(yaml.safe_dump(head | {"spec": query}))
    return path


def floe(command: str, workdir: pathlib.Path, query: dict, failing: bool = False) -> str:
    path = written(workdir, query)
    done = subprocess.run([support.binary("floe"), command, str(path)], capture_output=True, text=True, timeout=240)
    said = done.stdout + done.stderr
    assert PASSWORD not in said
    assert (done.returncode != 0) == failing, said
    return said


def ask(workdir: pathlib.Path, query: dict) -> pl.DataFrame:
    said = floe("run", workdir, query)
    # A second run on one node would hide what went wrong in the first.
    assert "run again on one node" not in said, said
    return pl.read_parquet(workdir / "out" / "*.parquet")


def sql(text: str) -> dict:
    return {"sql": text}


def script(text: str) -> dict:
    return {"python": {"script": f"import datetime as dt\nresult = {text}"}}


@pytest.fixture(scope="module")
def orders(server, tmp_path_factory) -> pl.DataFrame:
    """All of the table, read by Floe itself, and held against what the database says of it."""
    frame = ask(tmp_path_factory.mktemp("all"), spec(server, sql("SELECT * FROM orders ORDER BY id"), {"orders": {"table": "orders"}}))
    assert frame.schema == {
        "id": pl.Int64, "customer": pl.Int32, "amount": pl.Decimal(12, 2), "day": pl.Date, "note": pl.String, "paid": pl.Boolean,
        "weight": pl.Float64,
    }  # fmt: skip
    said = server.sql("SELECT count(*), sum(customer), sum(amount), max(day), count(note), sum(paid::int), count(*) FILTER (WHERE weight = 'NaN') FROM orders")
    ours = frame.select(
        pl.len(), pl.col("customer").sum(), pl.col("amount").sum(), pl.col("day").max(), pl.col("note").count().alias("n"),
        pl.col("paid").sum(), pl.col("weight").is_nan().sum().alias("w"),
    ).row(0)  # fmt: skip
    assert said == "|".join(str(value) for value in ours)
    return frame


TYPES = """
    CREATE TABLE every (
        i2 int2, i4 int4, i8 int8, f4 float4, f8 float8, n numeric(10, 3), n0 numeric, t text, v varchar(5), c char(4), b bytea, ok bool,
        d date, tm time, ts timestamp, tz timestamptz, u uuid, j json, jb jsonb, iv interval, o oid, ia int4[], ta text[], na numeric(8, 2)[]
    );
    INSERT INTO every VALUES
        (-3, 2147483647, -9223372036854775808, 1.5, 'NaN', -1234567.891, 12345678901234567890.5, 'ä''\\', 'v', 'c', '\\x00ff', true,
         '0001-01-01', '23:59:59.999999', '2026-02-03 04:05:06.789', '2026-02-03 04:05:06+02', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11',
         '{"a": 1}', '{"b":  2}', '1 day 2 hours', 42, '{1,NULL,3}', '{}', '{1.25}'),
        (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)
"""


@pytest.mark.parametrize("mode", ["distributed", "single-node"])
def test_every_type(server, workdir, mode):
    server.sql("DROP TABLE IF EXISTS every")
    server.sql(TYPES)
    query = spec(server, script("scan('t')"), {"t": {"table": "public.every"}}, execution={"mode": mode})
    got = ask(workdir, query)
    utc = dt.datetime(2026, 2, 3, 2, 5, 6, tzinfo=dt.timezone.utc)
    decimal = __import__("decimal").Decimal
    want = {
        "i2": -3, "i4": 2147483647, "i8": -(2**63), "f4": 1.5, "f8": float("nan"), "n": decimal("-1234567.891"),
        "n0": "12345678901234567890.5", "t": "ä'\\", "v": "v", "c": "c   ", "b": b"\x00\xff", "ok": True, "d": dt.date(1, 1, 1),
        "tm": dt.time(23, 59, 59, 999999), "ts": dt.datetime(2026, 2, 3, 4, 5, 6, 789000), "tz": utc,
        "u": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "j": '{"a": 1}', "jb": '{"b": 2}', "iv": "P1DT2H", "o": 42, "ia": [1, None, 3],
        "ta": [], "na": [decimal("1.25")],
    }  # fmt: skip
    dtypes = {
        "i2": pl.Int16, "i4": pl.Int32, "i8": pl.Int64, "f4": pl.Float32, "f8": pl.Float64, "n": pl.Decimal(10, 3), "n0": pl.String,
        "t": pl.String, "v": pl.String, "c": pl.String, "b": pl.Binary, "ok": pl.Boolean, "d": pl.Date, "tm": pl.Time,
        "ts": pl.Datetime("us"), "tz": pl.Datetime("us", "UTC"), "u": pl.String, "j": pl.String, "jb": pl.String, "iv": pl.String,
        "o": pl.UInt32, "ia": pl.List(pl.Int32), "ta": pl.List(pl.String), "na": pl.List(pl.Decimal(8, 2)),
    }  # fmt: skip
    want = pl.DataFrame({name: [value, None] for name, value in want.items()}, schema=dtypes)
    support.assert_same(got, want)


@pytest.mark.parametrize(("table", "rows"), [("nothing", 0), ("one", 1)])
@pytest.mark.parametrize("mode", ["distributed", "single-node"])
def test_few_rows(server, workdir, table, rows, mode):
    query = spec(server, sql("SELECT * FROM t"), {"t": {"table": table}}, execution={"mode": mode})
    floe("run", workdir, query)
    files = list((workdir / "out").glob("*.parquet"))
    got = pl.concat([pl.read_parquet(file) for file in files]) if files else pl.DataFrame()
    assert got.height == rows and (rows == 0 or got.row(0) == (7, "seven"))
    count = ask(workdir, spec(server, sql("SELECT COUNT(*) AS n FROM t"), {"t": {"table": table}}, execution={"mode": mode}))
    assert count.item() == rows


# What is asked of Polars, and what of it the database does: the text of its WHERE, if any.
FILTERS = [
    ("pl.col('id') == 4711", "id"),
    ("pl.col('id') > 59_000", "id"),
    ("pl.col('id').is_between(100, 200, closed='left')", "id"),
    ("pl.col('customer').is_in([1, 5, 96])", "customer"),
    ("~pl.col('customer').is_in([1, 5, 96])", "customer"),
    ("pl.col('note') == 'note 7'", "note"),
    ("pl.col('note') < 'note 2'", "note"),
    ("pl.col('note').is_null()", "note"),
    ("pl.col('note').is_not_null() & (pl.col('id') < 50)", "note"),
    ("pl.col('note').str.starts_with('note 1')", "note"),
    ("pl.col('note').ne_missing('note 1')", "note"),
    ("pl.col('day') >= dt.date(2026, 12, 1)", "day"),
    ("pl.col('paid')", "paid"),
    ("~pl.col('paid')", "paid"),
    ("(pl.col('paid') | (pl.col('id') < 10)) & (pl.col('customer') != 3)", "paid"),
    ("pl.col('weight') > 7000.0", "weight"),
    ("pl.col('weight') == float('nan')", "weight"),
    ("pl.col('amount') > pl.lit('100.25').str.to_decimal(scale=2)", None),
    ("pl.col('note').str.ends_with('9')", None),
    ("pl.col('id') % 1000 == 1", None),
    ("(pl.col('id') % 2 == 0) & (pl.col('customer') == 8)", "customer"),
    ("(pl.col('id') % 2 == 0) | (pl.col('customer') == 8)", None),
]


@pytest.mark.parametrize(("predicate", "pushed"), FILTERS)
def test_filters(server, workdir, orders, predicate, pushed):
    since = server.logged()
    got = ask(workdir, spec(server, script(f"scan('t').filter({predicate})"), {"t": {"table": "orders"}}))
    want = orders.filter(eval(predicate))
    support.assert_same(got.sort("id"), want)
    said = [text.split(" WHERE ")[1] if " WHERE " in text else "" for text in server.copies(since)]
    assert said
    for where in said:
        where = re.sub(r"\(?ctid [<>=]+ '[^']*'::tid( AND ctid [<>=]+ '[^']*'::tid)?\)?", "", where)
        assert (f'"{pushed}"' in where) if pushed else not where.strip(), where


def test_columns_and_limits_reach_the_server(server, workdir, orders):
    since = server.logged()
    got = ask(workdir, spec(server, sql("SELECT id, amount FROM t WHERE customer = 5 AND LENGTH(note) > 6 ORDER BY id"), {"t": {"table": "orders"}}))
    want = orders.filter(pl.col("customer") == 5, pl.col("note").str.len_chars() > 6).select("id", "amount")
    support.assert_same(got, want)
    for text in server.copies(since):
        assert text.startswith('SELECT "id" AS "id", "amount" AS "amount", "customer" AS "customer", "note" AS "note" FROM "public"."orders" WHERE '), text
    since = server.logged()
    got = ask(workdir, spec(server, script("scan('t').filter(pl.col('customer') == 5).select('id').head(3)"), {"t": {"table": "orders"}}))
    assert got.height == 3 and set(got["id"]) <= set(orders.filter(pl.col("customer") == 5)["id"])
    assert [text.endswith(" LIMIT 3") for text in server.copies(since)] == [True]


@pytest.mark.parametrize("workers", [1, 3])
def test_joins_and_groups(server, workdir, orders, workers):
    (workdir / "data").mkdir()
    names = pl.DataFrame({"customer": pl.Series(range(97), dtype=pl.Int32), "name": [f"c{n % 10}" for n in range(97)]})
    names.write_parquet(workdir / "data" / "names.parquet")
    text = "SELECT name, COUNT(*) AS n, SUM(amount) AS amount FROM orders JOIN names USING (customer) GROUP BY name ORDER BY name"
    tables = {"orders": {"table": "orders"}, "names": {"uri": "data/names.parquet"}}
    got = ask(workdir, spec(server, sql(text), tables, compute={"workers": workers, "memory": "1Gi"}))
    want = orders.join(names, on="customer").group_by("name").agg(pl.len().cast(pl.Int64).alias("n"), pl.col("amount").sum()).sort("name")
    support.assert_same(got.select(pl.exclude("amount"), pl.col("amount").cast(pl.Decimal(38, 2))), want.with_columns(pl.col("amount").cast(pl.Decimal(38, 2))))


@pytest.mark.parametrize(
    ("partition", "statements"),
    [
        ({"column": "id", "count": 3}, 3),
        ({"column": "id", "bounds": ["100", "20000"]}, 3),
        ({"column": "day", "by": "range", "count": 4}, 4),
        ({"column": "customer", "by": "value", "count": 5}, 5),
    ],
)
def test_partitions(server, workdir, orders, partition, statements):
    since = server.logged()
    table = {"table": "orders", "partition": partition, "options": {"connections": 4}}
    got = ask(workdir, spec(server, script("scan('t')"), {"t": table}))
    support.assert_same(got.sort("id"), orders)
    assert len(server.copies(since)) == statements


def test_a_query_in_place_of_a_table(server, workdir, orders):
    query = "SELECT customer, count(*) AS n FROM orders GROUP BY customer -- a comment"
    since = server.logged()
    got = ask(workdir, spec(server, sql("SELECT * FROM t WHERE n > 600 ORDER BY customer"), {"t": {"query": query}}))
    want = orders.group_by("customer").agg(pl.len().cast(pl.Int64).alias("n")).filter(pl.col("n") > 600).sort("customer")
    support.assert_same(got, want)
    (said,) = server.copies(since)
    assert "-- a comment" in said and said.endswith("""WHERE ("n" > '600'::int8)"""), said


def test_what_is_asked_is_explained(server, workdir):
    query = spec(server, sql("SELECT id FROM t WHERE customer = 5 AND LENGTH(note) > 6"), {"t": {"table": "orders"}})
    for mode in ["distributed", "single-node"]:
        said = floe("explain", workdir, query | {"execution": {"mode": mode}})
        assert "POSTGRES" in said.upper() and "FILTER" in said
        # Polars reads the columns of its filters, too, also of those that the database applies.
        assert """SQL for public.orders: SELECT "id" AS "id", "customer" AS "customer", "note" AS "note" FROM "public"."orders" WHERE ("customer" = '5'::int8)""" in said, said


def test_many_rows_come_in_batches_over_several_connections(server, workdir):
    server.sql("CREATE TABLE IF NOT EXISTS wide AS SELECT n AS id, repeat('x', 200) AS text FROM generate_series(1, 400000) n; ANALYZE wide")
    since = server.logged()
    text = "SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids, SUM(LENGTH(text)) AS chars FROM t"
    for mode in ["distributed", "single-node"]:
        got = ask(workdir, spec(server, sql(text), {"t": {"table": "wide"}}, execution={"mode": mode}))
        assert got.row(0) == (400_000, 400_000, 80_000_000)
    parts = {text for text in server.copies(since)}
    assert len(parts) == 8, parts
    # Nobody knows how many rows a function gives: PostgreSQL guesses 1000.
    server.sql("CREATE OR REPLACE FUNCTION many() RETURNS SETOF int8 LANGUAGE sql AS 'SELECT generate_series(1, 3000000)' ROWS 10")
    got = ask(workdir, spec(server, sql("SELECT COUNT(*) AS n, SUM(id) AS s FROM t"), {"t": {"query": "SELECT many AS id FROM many()"}}))
    assert got.row(0) == (3_000_000, 3_000_000 * 3_000_001 // 2)


def test_tables_of_a_database_are_seen_in_one_state(server, workdir):
    """Another session moves rows from one table to the other all the time: in no state is one in both or in neither."""
    server.sql("DROP TABLE IF EXISTS here, there; CREATE TABLE here AS SELECT generate_series(1, 20000) AS id; CREATE TABLE there (id int4)")
    move = "WITH moved AS (DELETE FROM here WHERE id IN (SELECT id FROM here ORDER BY id LIMIT 50) RETURNING id) INSERT INTO there SELECT id FROM moved"
    writer = subprocess.Popen(
        server.command("-c", f"DO $$ BEGIN FOR i IN 1..100000 LOOP {move}; COMMIT; PERFORM pg_sleep(0.01); END LOOP; END $$"),
        env=os.environ | {"PGPASSWORD": PASSWORD}, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        text = "SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS ids FROM (SELECT id FROM a UNION ALL SELECT id FROM b) AS u"
        cut = {"column": "id", "count": 4}
        tables = {"a": {"table": "here", "partition": cut}, "b": {"table": "there", "partition": cut}}
        for _ in range(3):
            got = ask(workdir, spec(server, sql(text), tables))
            assert got.row(0) == (20_000, 20_000)
        assert int(server.sql("SELECT count(*) FROM there")) > 0
    finally:
        writer.kill()
        writer.wait()


def wait_for(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def test_a_query_that_is_stopped_ends_on_the_server(server, workdir):
    query = spec(server, sql("SELECT COUNT(*) AS n FROM t"), {"t": {"query": "SELECT id FROM orders WHERE pg_sleep(0.01) IS NOT NULL"}})
    running = lambda: int(server.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'floe' AND query LIKE 'COPY%' AND state = 'active'"))  # noqa: E731
    process = subprocess.Popen([support.binary("floe"), "run", str(written(workdir, query))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: running() == 1)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: running() == 0)
        wait_for(lambda: server.connections() == 0)
    finally:
        process.kill()
        process.wait()


def test_nothing_stays_connected(server, workdir):
    ask(workdir, spec(server, sql("SELECT COUNT(*) AS n FROM t"), {"t": {"table": "orders"}}))
    wait_for(lambda: server.connections() == 0)


def test_a_tls_connection_is_asked_for_its_proof(server, workdir):
    table = {"table": "one", "options": {"sslmode": "verify-full", "sslrootcert": str(server.directory / "ca.crt")}}
    assert ask(workdir, spec(server, sql("SELECT name FROM t"), {"t": table})).item() == "seven"
    table["options"]["sslrootcert"] = "system"
    said = floe("run", workdir, spec(server, sql("SELECT name FROM t"), {"t": table}), failing=True)
    assert "certificate" in said


def refused(server: Server, workdir: pathlib.Path, table: dict, plan: dict | None = None, **more) -> str:
    return floe("run", workdir, spec(server, plan or sql("SELECT * FROM t"), {"t": table}, **more), failing=True)


def test_errors_name_what_is_wrong(server, workdir):
    said = refused(server, workdir, {"table": "one"}, storage={"options": {"password": "not-this-one"}})
    assert "password authentication failed" in said and "not-this-one" not in said
    said = refused(server, workdir, {"table": "one"}, storage={"options": {}})
    assert "password" in said and f"127.0.0.1:{server.port}" in said
    assert "table: no_such is not there" in refused(server, workdir, {"table": "no_such"})
    assert "syntax error" in refused(server, workdir, {"query": "SELEC 1"})
    assert "no_such" in refused(server, workdir, {"table": "one"}, sql("SELECT no_such FROM t"))
    assert "partition.column: no_such is not a column; there are id, name" in refused(server, workdir, {"table": "one", "partition": {"column": "no_such"}})
    assert 'gives two columns named "a"' in refused(server, workdir, {"query": "SELECT 1 AS a, 2 AS a"})
    assert "connections: 0 is not a number" in refused(server, workdir, {"table": "one", "options": {"connections": 0}})
    said = refused(server, workdir, {"query": "SELECT 1 / (id - 7) AS x FROM one"})
    assert "division by zero" in said
    said = refused(server, workdir, {"query": "SELECT 'infinity'::date AS x"})
    assert "column x" in said and "infinity" in said
    server.sql("DROP ROLE IF EXISTS nobody_here")
    said = refused(server, workdir, {"table": "one", "uri": f"postgres://nobody_here@127.0.0.1:{server.port}/postgres", "format": "postgres"})
    assert "nobody_here" in said
    said = refused(server, workdir, {"table": "one", "uri": "postgres://floe@127.0.0.1:1/postgres", "format": "postgres"})
    assert "connecting to postgres://127.0.0.1:1/postgres" in said and "refused" in said
    # One bad table does not spoil the others of the database.
    two = {"good": {"table": "one"}, "bad": {"query": "SELECT nonsense"}}
    got = ask(workdir, spec(server, script("scan('good')"), two))
    assert got.row(0) == (7, "seven")
