# PDS-H query 1: pricing summary report. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))
charge = discounted * (1.0 + pl.col("l_tax").cast(pl.Float64))

result = (
    scan("lineitem")
    .filter(pl.col("l_shipdate") <= date(1998, 9, 2))
    .group_by("l_returnflag", "l_linestatus")
    .agg(
        pl.col("l_quantity").sum().alias("sum_qty"),
        pl.col("l_extendedprice").sum().alias("sum_base_price"),
        discounted.sum().alias("sum_disc_price"),
        charge.sum().alias("sum_charge"),
        pl.col("l_quantity").mean().alias("avg_qty"),
        pl.col("l_extendedprice").mean().alias("avg_price"),
        pl.col("l_discount").mean().alias("avg_disc"),
        pl.len().alias("count_order"),
    )
    .sort("l_returnflag", "l_linestatus")
)
