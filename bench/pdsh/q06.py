# PDS-H query 6: forecasting revenue change. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date
from decimal import Decimal

saved = pl.col("l_extendedprice").cast(pl.Float64) * pl.col("l_discount").cast(pl.Float64)

result = (
    scan("lineitem")
    .filter(
        pl.col("l_shipdate") >= date(1994, 1, 1),
        pl.col("l_shipdate") < date(1995, 1, 1),
        pl.col("l_discount") >= Decimal("0.05"),
        pl.col("l_discount") <= Decimal("0.07"),
        pl.col("l_quantity") < 24,
    )
    .select(saved.sum().alias("revenue"))
)
