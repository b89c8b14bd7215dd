"""Makes examples/data/plan.bin, the serialized plan that dsl.yaml runs.

    python examples/plan.py

Any Python Polars that Floe accepts will do (see docs/plans.md).
"""

import polars as pl

inventory = pl.LazyFrame(
    {
        "item": [f"item-{number % 17:02}" for number in range(1000)],
        "shelf": [number % 5 for number in range(1000)],
        "count": [number * 7919 % 101 for number in range(1000)],
    }
)
plan = (
    inventory.group_by("item", "shelf")
    .agg(pl.col("count").sum(), pl.len().alias("rows"))
    .filter(pl.col("count") > 500)
    .sort("item", "shelf")
)
plan.serialize("examples/data/plan.bin")
