# PDS-H query 15: top supplier. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))
revenue = (
    scan("lineitem")
    .filter(
        pl.col("l_shipdate") >= date(1996, 1, 1), pl.col("l_shipdate") < date(1996, 4, 1)
    )
    .group_by("l_suppkey")
    .agg(discounted.sum().alias("total_revenue"))
)

result = (
    scan("supplier")
    .join(
        revenue.filter(pl.col("total_revenue") == pl.col("total_revenue").max()),
        left_on="s_suppkey",
        right_on="l_suppkey",
    )
    .select("s_suppkey", "s_name", "s_address", "s_phone", "total_revenue")
    .sort("s_suppkey")
)
