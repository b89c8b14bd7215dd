"""Random queries against Polars 2.1 (random_queries.py): the same ones in every run, others by FLOE_SQL_SEED."""

from __future__ import annotations

import decimal
import os

import polars as pl

from tests.sql import random_queries

D = decimal.Decimal
COUNT = int(os.environ.get("FLOE_SQL_RANDOM", "200"))
SEED = int(os.environ.get("FLOE_SQL_SEED", "9"))


def test_random_queries(engine):
    said = []
    outcomes, wrong = random_queries.check(SEED, COUNT, engine, said.append)
    assert not wrong, f"seed {SEED}: {len(wrong)} of {COUNT} differ:\n" + "\n".join(said)
    # A generator that makes what nobody runs would prove nothing.
    assert outcomes["equal"] >= 0.9 * COUNT and outcomes["in more than one stage"] >= 0.5 * COUNT, outcomes


def test_rows_that_differ_are_seen():
    """Exactly where numbers are exact, and in their order where they have one."""
    frame = pl.DataFrame({"i": [2**60, 1], "d": [D("0.10"), D("0.20")], "f": [0.1 + 0.2, None]})
    other = frame.with_columns(f=pl.Series([0.3, None]))
    rows = random_queries.comparable
    assert random_queries.close(rows(frame, True), rows(other, True))
    assert random_queries.close(rows(frame, False), rows(other.reverse(), False))
    assert not random_queries.close(rows(frame, True), rows(other.reverse(), True))
    for changed in (frame.with_columns(pl.col("i") + 1), frame.with_columns(pl.col("d") + D("0.01")), frame.with_columns(f=None), frame.head(1)):
        assert not random_queries.close(rows(frame, False), rows(changed, False))
