"""Random queries against Polars 2.1 (random_queries.py): the same ones in every run, others by FLOE_SQL_SEED."""

from __future__ import annotations

import os

from tests.sql import random_queries

COUNT = int(os.environ.get("FLOE_SQL_RANDOM", "200"))
SEED = int(os.environ.get("FLOE_SQL_SEED", "9"))


def test_random_queries(engine):
    said = []
    outcomes, wrong = random_queries.check(SEED, COUNT, engine, said.append)
    assert not wrong, f"seed {SEED}: {len(wrong)} of {COUNT} differ:\n" + "\n".join(said)
    # A generator that makes what nobody runs would prove nothing.
    assert outcomes["equal"] >= 0.9 * COUNT and outcomes["in more than one stage"] >= 0.5 * COUNT, outcomes
