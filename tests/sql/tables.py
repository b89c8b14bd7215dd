"""The tables of the SQL tests: small, with NULLs, ties, decimals, dates, text beyond ASCII, lists, structs and arrays. Each is
written as several Parquet files, so that three workers have something to share."""

from __future__ import annotations

import datetime as dt
import decimal
import pathlib

import polars as pl

D = decimal.Decimal
FILES = 3


def frames() -> dict[str, pl.DataFrame]:
    first = ["Ada", "Ben", "Cleo", "Dan", "Eva", "Finn", "Gül", "Hana", "Ivo", "Jana", "Kim", "Léa", "Max", "Nils", "Oda", "Pia", "Quin", "Rosa", "Sam", "Tom"]
    emp = pl.DataFrame(
        {
            "id": list(range(1, 21)),
            "name": first,
            "dept_id": [1, 1, 2, 2, 2, 3, 3, 1, None, 4, 1, 2, 3, 3, None, 2, 1, 9, 4, 1],
            "boss_id": [None, 1, 1, 3, 3, 1, 6, 2, 1, 1, 2, 4, 6, 13, 9, 4, 8, 10, 10, 8],
            "salary": [D(str(5000 + (i * 737) % 2600)) + D("0.25") * i for i in range(20)],
            "bonus": [None if i % 4 == 1 else round((i * 31) % 17 * 10.5, 1) for i in range(20)],
            "hired": [dt.date(2015, 1, 31) + dt.timedelta(days=(i * 97) % 1500) for i in range(20)],
            "active": [None if i == 7 else i % 3 != 0 for i in range(20)],
        },
        schema_overrides={"salary": pl.Decimal(10, 2), "id": pl.Int64, "dept_id": pl.Int64, "boss_id": pl.Int64},
    )
    dept = pl.DataFrame(
        {
            "id": [1, 2, 3, 4, 5],
            "name": ["engineering", "sales", "support", "legal", "empty"],
            "city": ["Oslo", "Paris", "Paris", None, "Rome"],
            "budget": [D("100000.00"), D("55000.50"), D("20000.00"), None, D("1.00")],
        },
        schema_overrides={"budget": pl.Decimal(12, 2)},
    )
    rows = []
    for i in range(120):
        day = dt.date(2024, 1, 1) + dt.timedelta(days=(i * 7) % 180)
        rows.append(
            {
                "id": i,
                "emp_id": (i * 13) % 23 + 1,
                "day": day,
                "at": dt.datetime.combine(day, dt.time((i * 5) % 24, (i * 11) % 60, i % 60)),
                "amount": None if i % 17 == 5 else D(f"{(i * 7919) % 100000 / 100:.2f}"),
                "qty": (i * 3) % 8,
                "region": ["north", "south", "east", "west"][(i * 5) % 4 if i % 9 else (i // 9) % 4],
                "note": None if i % 5 == 2 else ["ok", "late", "50% off", "a_b", "Ünïcode", ""][i % 6],
            }
        )
    sales = pl.DataFrame(rows, schema_overrides={"amount": pl.Decimal(12, 2), "qty": pl.Int32, "id": pl.Int64, "emp_id": pl.Int64})
    nums = pl.DataFrame(
        {
            "i": [1, 2, 3, 4, 5, None, 7, 7, -8, 0, 100, -1],
            "j": [10, -3, 3, None, 2, 5, 0, 2, 3, 1, 7, None],
            "x": [0.5, 1.5, -2.25, None, 1e6, 3.0, 2.5, -0.5, 0.0, 10.125, 4.0, 99.99],
            "s": ["apple", "Banana", None, "cherry", "", "apple", " pad ", "a,b,c", "42", "-7", "x1y22", "ZZ"],
        },
        schema_overrides={"j": pl.Int32},
    )
    nest = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "l": [[3, 1, 2], [], None, [5, None]],
            "t": [["a", "b"], ["c"], [], None],
            "s": [{"a": 1, "b": "x"}, {"a": 2, "b": None}, None, {"a": None, "b": "y"}],
        }
    )
    empty = pl.DataFrame(schema={"a": pl.Int64, "b": pl.String, "c": pl.Decimal(8, 2)})
    vecs = pl.DataFrame(
        {
            "id": [1, 2, 3, 4],
            "a": [[1, 2, 3], [4, 5, None], None, [-7, 0, 100]],
            "b": [[1.0, 2.0, 0.5], [0.0, 1.0, 2.0], [1.0, 1.0, 1.0], [None, None, None]],
            "e": [[100, 100], [3, 4], [None, 6], [0, 0]],
        },
        schema={"id": pl.Int64, "a": pl.Array(pl.Int64, 3), "b": pl.Array(pl.Float64, 3), "e": pl.Array(pl.Int8, 2)},
    )
    return {"emp": emp, "dept": dept, "sales": sales, "nums": nums, "nest": nest, "vecs": vecs, "empty": empty}


def write(directory: pathlib.Path) -> dict[str, str]:
    """The tables as Parquet files; gives their globs."""
    found = {}
    for name, frame in frames().items():
        folder = directory / name
        folder.mkdir(parents=True, exist_ok=True)
        size = max(1, -(-frame.height // FILES))
        for at, part in enumerate(frame.iter_slices(size) if frame.height else [frame]):
            part.write_parquet(folder / f"{at}.parquet", row_group_size=16)
        found[name] = str(folder / "*.parquet")
    return found
