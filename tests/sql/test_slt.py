"""The SQL suite: every case on one node, and forced into stages on three workers."""

from __future__ import annotations

import pathlib

import pytest

from tests.sql import slt
from tests.sql.engine import BY_HASH

HERE = pathlib.Path(__file__).parent
FILES = sorted(HERE.glob("*.slt"))
WAYS = {"single-node": ("single-node", {}), "distributed": ("distributed", {}), "by-hash": ("distributed", BY_HASH)}


def test_the_suite_is_whole():
    cases = [case for path in FILES for case in slt.read(path)]
    assert len(cases) >= 400
    unlike = [case.query for case in cases if any("DuckDB gives other rows" in c for c in case.comments)]
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
        if got != case.rows:
            wrong.append(f"{path.name}:{case.line}: {case.query}\n   wanted {case.rows[:6]}\n   got    {got[:6]}")
    assert not wrong, f"{len(wrong)} cases differ:\n" + "\n".join(wrong)
