"""The SQL suite: every case on one node, and forced into stages on three workers; and whether it is still what Polars and
DuckDB say."""

from __future__ import annotations

import pathlib

import pytest

from tests.sql import record, slt
from tests.sql.engine import BY_HASH

HERE = pathlib.Path(__file__).parent
FILES = sorted(HERE.glob("*.slt"))
WAYS = {"single-node": ("single-node", {}), "distributed": ("distributed", {}), "by-hash": ("distributed", BY_HASH)}


def test_the_suite_is_whole():
    cases = [case for path in FILES for case in slt.read(path)]
    assert len(cases) >= 400
    unlike = [case.query for case in cases if any(record.UNLIKE in c for c in case.comments)]
    assert len(unlike) < 30, unlike


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_file(path, way, engine, small):
    mode, execution = WAYS[way]
    wrong = []
    for case in slt.read(path):
        try:
            frame, _ = engine.run(case.query, small, mode=mode, execution=execution)
        except RuntimeError as error:
            wrong.append(f"{path.name}:{case.line}: {case.query}\n   {error}")
            continue
        got = slt.lines(frame.rows(), case.sort)
        if got != case.rows or slt.letters(frame.rows()) != case.types:
            wrong.append(f"{path.name}:{case.line}: {case.query}\n   wanted {case.types} {case.rows[:6]}\n   got    {slt.letters(frame.rows())} {got[:6]}")
    assert not wrong, f"{len(wrong)} cases differ:\n" + "\n".join(wrong)


def test_the_recording_is_what_the_engines_say(tmp_path):
    """Polars 2.1 and DuckDB, each asked again; `python -m tests.sql.record` writes what they say."""
    context, db = record.engines(tmp_path)
    sources = sorted((HERE / "cases").glob("*.sql"))
    assert [path.stem for path in sources] == [path.stem for path in FILES]
    for path in sources:
        again = record.recorded(path, context, db, say=lambda _: None)
        cases = slt.read(HERE / f"{path.stem}.slt")
        # The first comment of a file is its head.
        cases[0].comments = cases[0].comments[1:]
        for case, now in zip(cases, again, strict=True):
            case.line = 0
            assert case == now
