"""Every SQL function with a call of it, and what is generated from those that run.

    python -m tests.sql.functions          check: each runs on Floe with Polars' result, and the lists are up to date
    python -m tests.sql.functions --write  write the lists: docs/sql.md and engine/plan/src/sql/functions.rs

The calls read the tables `emp`, `nums`, `sales`, `nest` and `vecs` (tables.py).
"""

from __future__ import annotations

import pathlib
import re
import sys
import tempfile

import polars as pl

from tests.sql import slt, tables

REPO = pathlib.Path(__file__).parents[2]
DOCS, RUST = REPO / "docs" / "sql.md", REPO / "engine" / "plan" / "src" / "sql" / "functions.rs"

GROUPS: dict[str, dict[str, str]] = {
    "aggregates": {
        "approx_quantile": "approx_quantile(x, 0.5) a, approx_quantile(i, 0.25) b, approx_quantile(s, 0.9) c from nums",
        "array_agg": "array_agg(id order by id) from emp",
        "avg": "avg(salary) from emp",
        "corr": "corr(i, x) from nums",
        "count": "count(*), count(i), count(distinct i) from nums",
        "covar": "covar(i, x) from nums",
        "covar_pop": "covar_pop(i, x) from nums",
        "covar_samp": "covar_samp(i, x) from nums",
        "first": "first(id) from emp where id = 3",
        "last": "last(id) from emp where id = 3",
        "max": "max(name) from emp",
        "median": "median(x) from nums",
        "min": "min(hired) from emp",
        "quantile_cont": "quantile_cont(x, 0.75) from nums",
        "quantile_disc": "quantile_disc(x, 0.75) from nums",
        "stddev": "stddev(x) from nums",
        "string_agg": "string_agg(name, ',' order by name) from emp",
        "listagg": "listagg(name, ',') from emp where id = 1",
        "group_concat": "group_concat(name, ',') from emp where id = 1",
        "sum": "sum(amount) from sales",
        "total": "total(i) from nums",
        "variance": "variance(x) from nums",
        "var_samp": "var_samp(x) from nums",
        "stddev_samp": "stddev_samp(x) from nums",
        "stdev": "stdev(x) from nums",
        "stdev_samp": "stdev_samp(x) from nums",
        "var": "var(x) from nums",
        "grouping": "region, grouping(region) from sales group by rollup (region)",
        "grouping_id": "region, qty, grouping_id(region, qty) from sales group by cube (region, qty)",
    },
    "windows": {
        "cume_dist": "id, cume_dist() over (order by id) from emp",
        "dense_rank": "id, dense_rank() over (order by dept_id, id) from emp",
        "first_value": "id, first_value(name) over (partition by dept_id order by id) from emp",
        "lag": "id, lag(name) over (order by id) from emp",
        "last_value": "id, last_value(name) over (partition by dept_id order by id) from emp",
        "lead": "id, lead(name) over (order by id) from emp",
        "nth_value": "id, nth_value(name, 2) over (order by id) from emp",
        "ntile": "id, ntile(3) over (order by id) from emp",
        "percent_rank": "id, percent_rank() over (order by id) from emp",
        "rank": "id, rank() over (order by dept_id, id) from emp",
        "row_number": "id, row_number() over (order by name desc) from emp",
    },
    "numbers": {
        name: f"{call} from nums where i > 0"
        for name, call in {
            "abs": "abs(x)", "acos": "acos(x / 1e9)", "acosd": "acosd(x / 1e9)", "asin": "asin(x / 1e9)", "asind": "asind(x / 1e9)",
            "atan": "atan(x)", "atan2": "atan2(x, 2.0)", "atan2d": "atan2d(x, 2.0)", "atand": "atand(x)", "bit_and": "bit_and(i, 3)",
            "bit_count": "bit_count(i)", "bit_not": "bit_not(i)", "bit_or": "bit_or(i, 3)", "bit_xor": "bit_xor(i, 3)", "xor": "xor(i, 3)",
            "bitand": "bitand(i, 3)", "bitcount": "bitcount(i)", "bitnot": "bitnot(i)", "bitor": "bitor(i, 3)", "bitxor": "bitxor(i, 3)",
            "cbrt": "cbrt(x)", "ceil": "ceil(x)", "ceiling": "ceiling(x)", "cos": "cos(x)", "cosd": "cosd(x)", "cot": "cot(x + 0.1)",
            "cotd": "cotd(x + 0.1)", "degrees": "degrees(x)", "div": "div(i, 2)", "erf": "erf(x / 1e6), erf(i)", "erfc": "erfc(x / 1e6)", "exp": "exp(x / 1e6)", "floor": "floor(x)",
            "greatest": "greatest(i, j)", "least": "least(i, j)", "ln": "ln(abs(x) + 1)", "log": "log(abs(x) + 1, 2)", "log10": "log10(abs(x) + 1)",
            "log1p": "log1p(abs(x))", "log2": "log2(abs(x) + 1)", "mod": "mod(i, 3)", "pi": "pi()", "pow": "pow(i, 2)", "power": "power(i, 2)",
            "radians": "radians(x)", "round": "round(x, 1)", "sign": "sign(x)", "sin": "sin(x)", "sind": "sind(x)", "sqrt": "sqrt(abs(x))",
            "tan": "tan(x)", "tand": "tand(x)", "trunc": "trunc(x)", "truncate": "truncate(x)",
        }.items()
    },
    "text": {
        name: f"{call} from nums"
        for name, call in {
            "bit_length": "bit_length(s)", "char_length": "char_length(s)", "character_length": "character_length(s)", "concat": "concat(s, '-', i)",
            "concat_ws": "concat_ws('-', s, i)", "ends_with": "ends_with(s, 'e')", "initcap": "initcap(s)", "left": "left(s, 2)", "length": "length(s)", "lower": "lower(s)",
            "lpad": "lpad(s, 4, '*')", "ltrim": "ltrim(s)", "normalize": "normalize(s, NFC)", "octet_length": "octet_length(s)",
            "position": "position('a' in s)", "regexp_like": "regexp_like(s, '^a')", "regexp_replace": "regexp_replace(s, 'a', 'b')", "replace": "replace(s, 'a', 'b')",
            "reverse": "reverse(s)", "right": "right(s, 2)", "rpad": "rpad(s, 4, '*')", "rtrim": "rtrim(s)", "split_part": "split_part(s, ',', 2)",
            "starts_with": "starts_with(s, 'a')", "string_to_array": "string_to_array(s, ',')", "strpos": "strpos(s, 'a')", "substr": "substr(s, 2, 2)",
            "substring": "substring(s from 2 for 2)", "trim": "trim(s)", "upper": "upper(s)",
        }.items()
    },
    "time": {
        "current_date": "current_date > date '2020-01-01'",
        "current_time": "current_time >= time '00:00:00'",
        "current_timestamp": "current_timestamp > timestamp '2020-01-01 00:00:00'",
        "date": "date('2024-02-29')",
        "date_part": "date_part('year', hired) from emp",
        "date_trunc": "date_trunc('month', hired) from emp",
        "datetime": "datetime('2024-02-29 10:11:12')",
        "day": "day(hired) from emp",
        "dayofmonth": "dayofmonth(hired) from emp",
        "dayofweek": "dayofweek(hired) from emp",
        "dayofyear": "dayofyear(hired) from emp",
        "extract": "extract(dow from hired) from emp",
        "hour": "hour(at) from sales",
        "localtime": "localtime >= time '00:00:00'",
        "localtimestamp": "localtimestamp > timestamp '2020-01-01 00:00:00'",
        "minute": "minute(at) from sales",
        "month": "month(hired) from emp",
        "now": "now() > timestamp '2020-01-01 00:00:00'",
        "quarter": "quarter(hired) from emp",
        "second": "second(at) from sales",
        "strftime": "strftime(hired, '%Y/%m') from emp",
        "strptime": "strptime('2024-02-29', '%Y-%m-%d')",
        "time": "time('10:11:12')",
        "timestamp": "timestamp('2024-02-29 10:11:12')",
        "week": "week(hired) from emp",
        "year": "year(hired) from emp",
    },
    "choice": {
        "coalesce": "coalesce(i, j) from nums",
        "columns": "columns('^(i|x)$') from nums",
        "if": "if(i > 3, 'y', 'n') from nums",
        "ifnull": "ifnull(i, 0) from nums",
        "nullif": "nullif(i, 7) from nums",
        "cast": "cast(i as double) from nums",
        "try_cast": "try_cast(s as bigint) from nums",
    },
    "lists": {
        "array_contains": "array_contains(l, 2) from nest where id = 1",
        "array_dot_product": "id, array_dot_product(a, a), array_dot_product(b, b) as b, array_dot_product(e, e) as e from vecs",
        "array_get": "array_get(l, 1) from nest where id = 1",
        "array_inner_product": "id, array_inner_product(a, b) from vecs",
        "array_length": "array_length(l) from nest where id = 1",
        "array_lower": "array_lower(l) from nest where id = 1",
        "array_mean": "array_mean(l) from nest where id = 1",
        "array_reverse": "array_reverse(l) from nest where id = 1",
        "array_sum": "array_sum(l) from nest where id = 1",
        "array_to_string": "array_to_string(t, '-') from nest where id = 1",
        "array_unique": "array_unique(l) from nest where id = 1",
        "array_upper": "array_upper(l) from nest where id = 1",
        "generate_series": "generate_series(1, 7, 2)",
        "range": "range(j, i) from nums where i > j",
        "unnest": "unnest(l) from nest where id = 1",
    },
}
# What Polars runs and the engine lacks.
REFUSED: dict[str, str] = {}
# Names in a catalogue of functions that Polars reads as something else than a call.
NO_CALLS = {"current_catalog", "current_user", "session_user", "user", "interval", "struct"}
BEGIN, END = "<!-- functions: begin -->", "<!-- functions: end -->"


def unknown_to(context: pl.SQLContext, name: str) -> bool:
    """Whether Polars says that there is no such function, with any number of arguments."""
    for arguments in ("", "i", "i, i", "s", "s, s", "i, i, i"):
        try:
            context.execute(f"select {name}({arguments}) from nums").collect_schema()
            return False
        except Exception as error:
            if "unsupported function" in str(error):
                return True
            if "sql parser error" not in str(error):
                return False
    return False


def forgotten(names: set[str]) -> list[str]:
    """Those that Polars takes as functions and no list here has."""
    context = pl.SQLContext({"nums": tables.frames()["nums"]}, eager=False)
    listed = {name for calls in GROUPS.values() for name in calls} | set(REFUSED) | NO_CALLS
    return sorted(name for name in names - listed if not unknown_to(context, name))


def refusals(engine, uris: dict[str, str]) -> list[str]:
    """What is wrong with the refusals of what the engine lacks."""
    wrong = []
    context = pl.SQLContext({name: pl.scan_parquet(uri) for name, uri in uris.items()}, eager=False)
    for name, call in REFUSED.items():
        context.execute(f"select {call}").collect()
        try:
            engine.run(f"select {call}", uris)
            wrong.append(f"{name} runs: it belongs in its group")
        except RuntimeError as error:
            message = str(error)
            if "UnsupportedPlan: line 1, column 8: " not in message or name not in message.splitlines()[0]:
                wrong.append(f"{name} is refused without its name or place: {message}")
    return wrong


def running(engine) -> tuple[dict[str, list[str]], list[str]]:
    """The functions that run with Polars' result, by group, and what is wrong with the others."""
    found, wrong = {}, []
    with tempfile.TemporaryDirectory() as directory:
        uris = tables.write(pathlib.Path(directory))
        context = pl.SQLContext({name: pl.scan_parquet(uri) for name, uri in uris.items()}, eager=False)
        for group, calls in GROUPS.items():
            found[group] = []
            for name, call in calls.items():
                query = f"select {call}"
                try:
                    want = context.execute(query).collect()
                except Exception as error:
                    wrong.append(f"Polars does not run {query}: {str(error).splitlines()[0]}")
                    continue
                try:
                    got, _ = engine.run(query, uris)
                except RuntimeError as error:
                    wrong.append(f"refused: {query}: {str(error).splitlines()[0]}")
                    continue
                if got.schema == want.schema and slt.lines(got.rows(), "rowsort") == slt.lines(want.rows(), "rowsort"):
                    found[group].append(name)
                else:
                    wrong.append(f"differs: {query}")
        wrong += refusals(engine, uris)
    return found, wrong


def documented(found: dict[str, list[str]]) -> str:
    refused = {"refused by name, since the engine lacks them": list(REFUSED)} if REFUSED else {}
    return "\n".join(f"- {group}: {', '.join(f'`{name}`' for name in sorted(names))}" for group, names in (found | refused).items())


def rust(found: dict[str, list[str]]) -> str:
    names = sorted({name for group in found.values() for name in group})
    lines = "\n".join(f'    "{name}",' for name in names)
    return (
        "//! Polars' SQL functions that run here, for suggestions. Generated by `python -m tests.sql.functions --write` from the\n"
        "//! functions that pass.\n\n"
        f"pub const FUNCTIONS: [&str; {len(names)}] = [\n{lines}\n];\n"
    )


def written() -> tuple[str, str]:
    docs = DOCS.read_text()
    return docs[docs.index(BEGIN) + len(BEGIN) : docs.index(END)].strip(), RUST.read_text()


def main() -> int:
    from tests.sql.engine import Engine

    engine = Engine()
    try:
        found, wrong = running(engine)
    finally:
        engine.close()
    print("\n".join(wrong))
    if "--write" in sys.argv:
        docs = DOCS.read_text()
        docs = re.sub(re.escape(BEGIN) + ".*?" + re.escape(END), lambda _: f"{BEGIN}\n{documented(found)}\n{END}", docs, flags=re.S)
        DOCS.write_text(docs)
        RUST.write_text(rust(found))
        return 0
    return 0 if written() == (documented(found), rust(found)) else 1


if __name__ == "__main__":
    sys.exit(main())
