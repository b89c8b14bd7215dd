"""Reads and writes the files of the SQL suite, in the format of sqllogictest:

    # what the case says beside its query
    query TIR rowsort
    SELECT …
    ----
    a value a line of columns, separated by tabs

Values are as `text` writes them, for every engine alike: numbers with twelve significant digits (engines differ in the types
they give, and in the last digits of floats), NULL, (empty), times in ISO form.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import pathlib
from typing import Any, Iterable


DIGITS = 12


@dataclasses.dataclass
class Case:
    query: str
    types: str = ""
    sort: str = "rowsort"
    rows: list[str] = dataclasses.field(default_factory=list)
    comments: list[str] = dataclasses.field(default_factory=list)
    line: int = 0


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


def lines(rows: Iterable[Iterable[Any]], sort: str, digits: int = DIGITS) -> list[str]:
    found = ["\t".join(text(value, digits) for value in row) for row in rows]
    return sorted(found) if sort == "rowsort" else found


def letters(rows: list[tuple]) -> str:
    """The kinds of the columns, by their first value: T text, I integers, R other numbers."""
    columns = list(zip(*rows)) or [()]
    return "".join(next((letter(v) for v in column if v is not None), "T") for column in columns)


def letter(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float, decimal.Decimal)):
        return "T"
    return "I" if isinstance(value, int) else "R"


def read(path: pathlib.Path) -> list[Case]:
    cases, comments, block = [], [], None
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if block is None:
            if line.startswith("#"):
                comments.append(line.lstrip("# "))
            elif line.startswith("query "):
                _, types, sort = line.split()
                block, where = Case("", types, sort, comments=comments, line=number), "query"
                comments = []
            elif line.strip():
                raise ValueError(f"{path}:{number}: neither a comment nor a query: {line}")
        elif where == "query":
            if line == "----":
                where = "rows"
            else:
                block.query += ("\n" if block.query else "") + line
        elif line == "":
            cases.append(block)
            block = None
        else:
            block.rows.append(line)
    if block is not None:
        cases.append(block)
    return cases


def write(path: pathlib.Path, head: str, cases: list[Case]) -> None:
    out = [f"# {head}", ""]
    for case in cases:
        out += [f"# {comment}" for comment in case.comments]
        out += [f"query {case.types} {case.sort}", case.query, "----", *case.rows, ""]
    path.write_text("\n".join(out))
