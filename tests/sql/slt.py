"""Writes the files of the SQL suite, in the format of sqllogictest (the crate `sqllogic` reads them):

    # what the case says beside its query
    query TIR rowsort
    SELECT …
    ----
    a row a line, its values separated by tabs

Values are as `text` writes them, for every engine alike: numbers with twelve significant digits (engines differ in the types
they give, and in the last digits of floats), NULL, (empty), times in ISO form.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import pathlib
from typing import Any, Iterable

import polars as pl

DIGITS = 12


@dataclasses.dataclass
class Case:
    query: str
    types: str = ""
    sort: str = "rowsort"
    rows: list[str] = dataclasses.field(default_factory=list)
    comments: list[str] = dataclasses.field(default_factory=list)


def text(value: Any, digits: int = DIGITS) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (int, float, decimal.Decimal)):
        number = float(value)
        return str(int(number)) if number.is_integer() and abs(number) < 1e15 else f"{number:.{digits}g}"
    if isinstance(value, dt.timedelta):
        return f"{value.total_seconds():.6g} s"
    if isinstance(value, dt.datetime):
        return value.replace(tzinfo=None).isoformat(sep=" ", timespec="seconds")
    if isinstance(value, (dt.date, dt.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k}: {text(v, digits)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(text(v, digits) for v in value) + "]"
    return str(value).replace("\t", "\\t").replace("\n", "\\n") or "(empty)"


def values(rows: Iterable[Iterable[Any]], digits: int = DIGITS) -> list[list[str]]:
    return [[text(value, digits) for value in row] for row in rows]


def lines(rows: Iterable[Iterable[Any]], sort: str, digits: int = DIGITS) -> list[str]:
    found = ["\t".join(row) for row in values(rows, digits)]
    return sorted(found) if sort == "rowsort" else found


def letters(schema: pl.Schema) -> str:
    """The kinds of the columns: T text, I integers, R other numbers."""
    return "".join("I" if t.is_integer() else "R" if t.is_numeric() else "T" for t in schema.dtypes())


def write(path: pathlib.Path, head: str, cases: list[Case]) -> None:
    out = [f"# {head}", ""]
    for case in cases:
        out += [f"# {comment}" for comment in case.comments]
        out += [f"query {case.types} {case.sort}", case.query, "----", *case.rows, ""]
    path.write_text("\n".join(out))
