"""Random queries over random tables. A seed makes the same tables and queries everywhere.

Queries have one result whatever the order of work: a LIMIT or a ranking has a total order under it, and sums of floats
are of halves.
"""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib
import random

import polars as pl

STRUCT = pl.Struct({"p": pl.Int64, "q": pl.String})
WORDS = ["ash", "Birch", "cedar", "elm", "", "fir", "a%b", "ümlaut", "oak tree", "pine"]


def frame(rng: random.Random, rows: int) -> pl.DataFrame:
    def some(make, nulls=0.15):
        return [None if rng.random() < nulls else make() for _ in range(rows)]

    return pl.DataFrame(
        {
            "id": list(range(rows)),
            "k": some(lambda: rng.randrange(8)),
            "g": some(lambda: rng.choice("xyz")),
            "n": some(lambda: rng.randrange(-50, 50)),
            "f": some(lambda: rng.randrange(-40, 40) / 2),
            "d": some(lambda: decimal.Decimal(rng.randrange(-99999, 99999)).scaleb(-2)),
            "s": some(lambda: rng.choice(WORDS)),
            "b": some(lambda: rng.random() < 0.5),
            "t": some(lambda: dt.date(2023, 1, 1) + dt.timedelta(days=rng.randrange(500))),
            "at": some(lambda: dt.datetime(2023, 1, 1) + dt.timedelta(seconds=rng.randrange(500 * 86_400))),
            "l": some(lambda: [rng.randrange(5) if rng.random() < 0.9 else None for _ in range(rng.randrange(4))]),
            "st": some(lambda: {"p": rng.choice([None, *range(8)]), "q": rng.choice(WORDS)}),
        },
        schema={
            "id": pl.Int64,
            "k": pl.Int64,
            "g": pl.String,
            "n": pl.Int32,
            "f": pl.Float64,
            "d": pl.Decimal(12, 2),
            "s": pl.String,
            "b": pl.Boolean,
            "t": pl.Date,
            "at": pl.Datetime("us"),
            "l": pl.List(pl.Int64),
            "st": STRUCT,
        },
    )


def tables(seed: int, directory: pathlib.Path) -> dict[str, str]:
    rng = random.Random(f"tables {seed}")
    found = {}
    for name, rows in (("r1", 60), ("r2", 25), ("r3", rng.choice([0, 1, 9]))):
        folder = directory / name
        folder.mkdir(parents=True)
        whole = frame(rng, rows)
        size = max(1, -(-rows // 3))
        for at, part in enumerate(whole.iter_slices(size) if rows else [whole]):
            part.write_parquet(folder / f"{at}.parquet")
        found[name] = str(folder / "*.parquet")
    return found


class Maker:
    """One query. Expressions are made by the kind of value they give."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        #: Off in cross joins: the engine's Polars may panic where these repeat rows of structs with nulls.
        self.structs = True

    def pick(self, *options):
        return self.rng.choice(options)

    def field(self, a: str, name: str, instead: str) -> str:
        return f"{a}.st.{name}" if self.structs else f"{a}.{instead}"

    def number(self, a: str, depth: int = 2) -> str:
        if depth == 0 or self.rng.random() < 0.4:
            return self.pick(f"{a}.n", f"{a}.k", f"{a}.id", f"{a}.f", f"{a}.d", self.field(a, "p", "n"), str(self.rng.randrange(-9, 30)))
        x, y = self.number(a, depth - 1), self.number(a, depth - 1)
        return self.pick(
            f"({x} + {y})",
            f"({x} - {y})",
            f"{a}.n * {a}.k",
            f"abs({x})",
            f"coalesce({a}.n, {a}.k, 0)",
            f"case when {self.truth(a, depth - 1)} then {x} else {y} end",
            f"length({a}.s)",
            f"{self.pick('array_length', 'array_sum', 'array_upper')}({a}.l)",
            f"array_get({a}.l, {self.pick(1, 2, -1)})",
            f"extract({self.pick('month', 'year', 'dow', 'doy', 'quarter', 'week')} from {a}.{self.pick('t', 'at')})",
            f"extract({self.pick('hour', 'minute', 'second')} from {a}.at)",
            f"{a}.d * {self.pick(f'{a}.d', f'{a}.n', f'{a}.k', '1.075')}",
            f"{a}.d / {self.pick(f'(abs({a}.n) + 1)', f'(abs({a}.d) + 1)', '3', '2.5')}",
            f"cast({a}.{self.pick('d', 'f', 'k')} as {self.pick('int', 'bigint', 'double', 'decimal(20, 1)')})",
            f"cast({a}.{self.pick('n', 'k', 'id')} as {self.pick('double', 'bigint', 'decimal(18, 3)')})",
            f"try_cast({self.pick(f'{a}.s', f'substr(cast({a}.n as varchar), 1, 2)')} as {self.pick('int', 'bigint', 'double')})",
            f"nullif({a}.k, {self.rng.randrange(8)})",
        )

    def text(self, a: str, depth: int = 1) -> str:
        if depth == 0 or self.rng.random() < 0.5:
            return self.pick(f"{a}.s", f"{a}.g", self.field(a, "q", "s"))
        x = self.text(a, depth - 1)
        return self.pick(
            f"cast({a}.{self.pick('n', 'k', 'b', 't', 'd')} as varchar)", f"upper({x})", f"{x} || '-' || {a}.g", f"coalesce({x}, 'none')", f"substr({x}, 2, 2)", f"replace({x}, 'e', 'i')", f"initcap({x})"
        )

    def truth(self, a: str, depth: int = 2) -> str:
        if depth == 0 or self.rng.random() < 0.5:
            return self.pick(
                f"{a}.n {self.pick('<', '<=', '>', '>=', '=', '<>')} {self.rng.randrange(-30, 30)}",
                f"{a}.d > {self.rng.randrange(-500, 500)}.5",
                f"{a}.k in ({self.rng.randrange(8)}, {self.rng.randrange(8)})",
                f"{a}.g = '{self.pick('x', 'y')}'",
                f"{a}.s like '{self.pick('%e%', 'c%', '_l%', '%r')}'",
                f"{a}.b",
                f"{a}.{self.pick('n', 's', 'b', 't')} is {self.pick('', 'not ')}null",
                f"{a}.t >= date '2023-{self.rng.randrange(1, 13):02}-10'",
                f"{self.moment(a)} {self.pick('<', '>=')} timestamp '2023-{self.rng.randrange(1, 13):02}-10 12:00:00'",
                f"{a}.n between -10 and {self.rng.randrange(40)}",
                f"array_contains({a}.l, {self.rng.randrange(5)})",
                f"{self.field(a, 'p', 'n')} {self.pick('<', '>=')} {self.rng.randrange(8)}",
            )
        x, y = self.truth(a, depth - 1), self.truth(a, depth - 1)
        return self.pick(f"({x} and {y})", f"({x} or {y})", f"not ({x})")

    def moment(self, a: str) -> str:
        """A date or a time, with intervals."""
        span = f"interval '{self.rng.randrange(1, 40)} {self.pick('days', 'hours', 'minutes', 'weeks', 'months')}'"
        return self.pick(
            f"{a}.at",
            f"{a}.at {self.pick('+', '-')} {span}",
            f"{a}.t {self.pick('+', '-')} interval '{self.rng.randrange(1, 30)} {self.pick('days', 'weeks', 'months')}'",
            f"date_trunc('{self.pick('month', 'day', 'year', 'hour')}', {a}.at)",
            f"cast({a}.t as timestamp)",
            f"coalesce({a}.at, timestamp '2024-02-29 23:59:59')",
        )

    def aggregate(self, a: str) -> str:
        column = self.pick("n", "k", "f", "d")
        return self.pick(
            "count(*)",
            f"count({a}.{self.pick('n', 's', 'b')})",
            f"sum({a}.{column})",
            f"min({a}.{self.pick('n', 's', 't', 'd')})",
            f"max({a}.{self.pick('n', 's', 't', 'f')})",
            f"avg({a}.{column})",
            f"count(distinct {a}.{self.pick('k', 'g', 's')})",
            f"sum(case when {self.truth(a, 1)} then {a}.{column} else 0 end)",
            f"median({a}.{self.pick('n', 'f')})",
            f"count(*) filter (where {self.truth(a, 1)})",
            f"sum({a}.st.p)",
            f"max({a}.st.q)",
            f"{self.pick('min', 'max')}({a}.at)",
            f"sum({a}.d * {self.pick(f'{a}.k', f'{a}.d')})",
            f"sum({a}.d) / {self.pick('count(*)', '7')}",
            f"sum(array_sum({a}.l))",
            f"string_agg({a}.g, '' order by {a}.id)",
            f"array_agg({a}.k order by {a}.id desc)",
        )

    def window(self, a: str) -> str:
        part = self.pick("", f"partition by {a}.g ", f"partition by {a}.k ")
        way = self.pick("", " desc", " desc nulls last", " nulls first")
        order = self.pick(f"{a}.id", f"{a}.n{way}, {a}.id", f"{a}.s{way}, {a}.t, {a}.id desc")
        return self.pick(
            f"row_number() over ({part}order by {order})",
            f"rank() over ({part}order by {order})",
            f"dense_rank() over ({part}order by {a}.k{way}, {a}.g)",
            f"sum({a}.n) over ({part}order by {order})",
            f"count(*) over ({part}order by {order})",
            f"sum({a}.d) over ({part.strip() or f'partition by {a}.b'})",
            f"max({a}.n) over ({part.strip() or f'partition by {a}.b'})",
            f"lag({a}.n) over ({part}order by {order})",
            f"lead({a}.s) over ({part}order by {order})",
            f"sum({a}.n) over ({part}order by {order} rows between {self.rng.randrange(1, 4)} preceding and current row)",
            f"first_value({a}.n) over ({part}order by {order})",
            f"sum({a}.n) over ({part}order by {a}.k{way} {self.frame()})",
            f"count(*) over ({part}order by {a}.k{way}, {a}.g {self.frame()})",
            f"max({a}.st.p) over ({part}order by {order})",
        )

    def frame(self) -> str:
        """A frame that has no ties within: peers are taken together."""
        unit, end = self.pick("range", "groups"), self.pick("unbounded preceding and current row", "current row and unbounded following")
        return f"{unit} between {end}"

    def joined(self) -> tuple[str, str, str | None]:
        """FROM, and the names of the sides that are always there and maybe there."""
        on = self.pick("a.k = c.k", "a.id = c.id", "a.g = c.g and a.k = c.k", "a.k = c.k and a.n < c.n")
        kind = self.pick("join", "left join", "join", "left join", "right join", "full join", "cross")
        other = self.pick("r2", "r2", "r3", "r1")
        if kind == "cross":
            self.structs = False
            return f"r2 a cross join r3 c", "a", "c"
        if kind == "right join":
            return f"r1 a right join {other} c on {on}", "c", "a"
        return f"r1 a {kind} {other} c on {on}", "a", "c"

    def condition(self, a: str) -> str:
        k = self.rng.randrange(8)
        return self.pick(
            f"exists (select 1 from r2 z where z.k = {a}.k and z.n > {self.rng.randrange(-20, 20)})",
            f"not exists (select 1 from r2 z where z.id = {a}.id)",
            f"{a}.k in (select z.k from r2 z where z.n > {self.rng.randrange(-20, 20)})",
            f"{a}.n > (select avg(z.n) from r2 z)",
            f"{a}.n > (select min(z.n) from r2 z where z.k = {a}.k)",
            f"{a}.id not in (select z.id from r2 z where z.k = {k})",
        )

    def nested(self, depth: int = 2) -> str:
        """A subquery with the columns id, k, g and v, within others."""
        if depth == 0:
            name = self.pick("r1", "r2")
            return f"select a.id, a.k, a.g, {self.number('a', 1)} as v from {name} a where {self.truth('a', 1)}"
        inner = self.nested(depth - 1)
        return self.pick(
            f"select x.id, x.k, x.g, x.v + 1 as v from ({inner}) x where x.k {self.pick('<', '<>')} {self.rng.randrange(8)}",
            f"select min(x.id) as id, x.k, max(x.g) as g, sum(x.v) as v from ({inner}) x group by x.k",
            f"select x.id, x.k, x.g, y.n as v from ({inner}) x join r2 y on x.k = y.k",
            f"select x.id, x.k, x.g, x.v from ({inner}) x where x.id in (select z.id from r2 z where z.k in (select w.k from r1 w where w.n > {self.rng.randrange(-20, 20)}))",
            f"select x.id, x.k, x.g, (select max(z.n) from r2 z where z.k = x.k) as v from ({inner}) x",
            f"select distinct on (x.k) x.id, x.k, x.g, x.v from ({inner}) x order by x.k, x.id, x.g, x.v",
        )

    def three(self) -> str:
        """A join of three, inner or outer, of a table of values among them."""
        sides = ("a", "c", "e")
        kinds = self.pick(("join", "join"), ("join", "left join"), ("left join", "join"), ("left join", "left join"), ("join", "full join"))
        first = self.pick("a.k = c.k and a.g = c.g", "a.id = c.id", "a.k = c.id")
        second = self.pick("c.id = e.id", "c.k = e.k and c.g = e.g", "e.id = a.k")
        third = self.pick("r3 e", "r2 e", f"(select u as id, u as k, 'x' as g from unnest([{self.rng.randrange(8)}, 3]) as t(u)) e")
        source = f"r1 a {kinds[0]} r2 c on {first} {kinds[1]} {third} on {second}"
        where = self.pick("", f" where {self.truth('a', 1)}", f" where {self.truth('c', 1)}", " where a.k > e.k or e.k is null")
        if self.rng.random() < 0.5:
            return f"select {', '.join(f'{side}.id as {side}' for side in sides)} from {source}{where}"
        key = f"{self.pick(*sides)}.g"
        return f"select {key} as g, {self.aggregate('c')} as v, count(e.id) as n from {source}{where} group by {key}"

    def sets(self) -> str:
        """Grouping sets of all kinds."""
        x, y = self.pick(("a.g", "a.k"), ("a.g", "a.b"), ("a.k", "a.b"))
        by = self.pick(
            f"rollup ({x}, {y})",
            f"cube ({x}, {y})",
            f"grouping sets (({x}, {y}), ({y}), ())",
            f"grouping sets (({x}), ({y}))",
            f"grouping sets (({x}, {y}), ())",
        )
        level = self.pick("", f", grouping({x}) as level", f", grouping({x}, {y}) as level")
        source = self.pick("r1 a", "r2 a", "r1 a join r2 c on a.k = c.k", f"(select * from r1 z where {self.truth('z', 1)}) a")
        return f"select {x} as x, {y} as y{level}, {self.aggregate('a')} as v, {self.aggregate('a')} as w from {source} group by {by}"

    def lists(self) -> str:
        """Lists and structs as values, and their elements as rows."""
        return self.pick(
            f"select a.id, a.l, a.st from r1 a where {self.truth('a')}",
            f"select a.id, unnest(a.l) as u from r1 a where {self.truth('a', 1)}",
            "select x.u, count(*) as n, sum(x.n) as v from (select n, unnest(l) as u from r1) x group by x.u",
            f"select x.u, c.id from (select unnest(l) as u from r1 where id < 30) x join r2 c on c.k = x.u where {self.truth('c', 1)}",
            "select a.st, count(*) as n from r1 a group by a.st",
            "select distinct a.l from r1 a",
            "select a.id, c.id as other from r1 a join r2 c on a.st.p = c.st.p",
            f"select a.st.p as p, {self.aggregate('a')} as v from r1 a group by a.st.p",
            "select l from r1 union all select l from r2",
            "select st from r1 union select st from r2",
            f"select g.n, count(a.id) as c from generate_series(0, {self.rng.randrange(1, 9)}) as g(n) left join r1 a on a.k = g.n group by g.n",
            f"select {self.pick('a.k', 'a.g')} as key, array_agg(a.n order by a.id) as l from r1 a group by key",
        )

    def query(self) -> str:
        kind = self.rng.randrange(16)
        if kind == 0:
            return f"select a.id, {self.number('a')} as v, {self.text('a')} as w from r1 a where {self.truth('a')}"
        if kind == 1:
            source, a, c = self.joined()
            where = self.pick("", f" where {self.truth(a)}", f" where {self.truth(c, 1)}")
            return f"select {a}.id, {c}.id as other, {self.number(c, 1)} as v, {self.text(a)} as w from {source}{where}"
        if kind == 2:
            keys = self.pick(["a.g"], ["a.k"], ["a.g", "a.b"], ["a.k % 3"], ["upper(a.s)"])
            names = [f"{key} as k{i}" for i, key in enumerate(keys)]
            aggs = [f"{self.aggregate('a')} as v{i}" for i in range(self.rng.randrange(1, 4))]
            source = self.pick("r1 a", "r1 a join r2 c on a.k = c.k", "r2 a left join r3 c on a.id = c.id")
            having = self.pick("", "", f" having count(*) > {self.rng.randrange(4)}")
            where = self.pick("", f" where {self.truth('a')}")
            return f"select {', '.join(names + aggs)} from {source}{where} group by {', '.join(keys)}{having}"
        if kind == 3:
            return f"select a.id, {self.window('a')} as v, {self.window('a')} as w from r1 a" + self.pick("", f" where {self.truth('a')}")
        if kind == 4:
            return f"select a.id, a.n from r1 a where {self.condition('a')}" + self.pick("", f" and {self.truth('a', 1)}")
        if kind == 5:
            column = self.pick("k", "g", "n", "s")
            op = self.pick("union", "union all", "intersect", "except")
            return f"select {column} from r1 where {self.truth('r1', 1)} {op} select {column} from r2"
        if kind == 6:
            order = self.pick("a.n, a.id", "a.s desc, a.id desc", "a.t nulls first, a.id")
            return (
                f"select a.id, {self.number('a')} as v from r1 a where {self.truth('a')} order by {order} limit {self.rng.randrange(1, 20)}"
                + self.pick("", " offset 3")
            )
        if kind == 7:
            return self.three()
        if kind == 8:
            return self.sets()
        if kind == 9:
            return self.lists()
        if kind == 10:
            return self.nested(self.rng.randrange(1, 4))
        if kind == 11:
            inner = self.nested(self.rng.randrange(1, 3))
            return f"with q as ({inner}) select a.id, q.v from r1 a join q on a.k = q.k where a.id in (select id from q) and {self.truth('a', 1)}"
        if kind == 12:
            rows = self.pick("row_number", "rank", "dense_rank")
            by = f"{rows}() over (partition by a.{self.pick('g', 'k', 'b')} order by a.n{self.pick('', ' desc')}, a.id)"
            where = self.pick("", f" where {self.truth('a', 1)}")
            return f"select a.id, a.g, {self.number('a', 1)} as v from r1 a{where} qualify {by} <= {self.rng.randrange(1, 5)}"
        if kind == 13:
            side, on = self.pick("semi", "anti"), self.pick("a.k = c.k", "a.id = c.id", "a.g = c.g and a.k = c.k")
            where = self.pick("", f" where {self.truth('a', 1)}")
            return f"select a.id, {self.number('a', 1)} as v from r1 a {side} join {self.pick('r2', 'r3')} c on {on}{where}"
        if kind == 14:
            order = self.pick("", " order by a.at desc nulls last, a.id", " order by a.t, a.id desc")
            return f"select a.id, {self.moment('a')} as m, {self.moment('a')} as o from {self.pick('r1', 'r2')} a where {self.truth('a', 1)}{order}"
        inner = f"select a.k, {self.aggregate('a')} as v from r1 a group by a.k"
        return f"with q as ({inner}) select a.id, q.v from r2 a {self.pick('join', 'left join')} q on a.k = q.k where {self.truth('a', 1)}"


def query(seed: int, at: int) -> str:
    return Maker(random.Random(f"query {seed} {at}")).query()
