# PDS-H query 3: shipping priority. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))

result = (
    scan("customer")
    .filter(pl.col("c_mktsegment") == "BUILDING")
    .join(
        scan("orders").filter(pl.col("o_orderdate") < date(1995, 3, 15)),
        left_on="c_custkey",
        right_on="o_custkey",
    )
    .join(
        scan("lineitem").filter(pl.col("l_shipdate") > date(1995, 3, 15)),
        left_on="o_orderkey",
        right_on="l_orderkey",
    )
    .group_by("o_orderkey", "o_orderdate", "o_shippriority")
    .agg(discounted.sum().alias("revenue"))
    .select(
        pl.col("o_orderkey").alias("l_orderkey"), "revenue", "o_orderdate", "o_shippriority"
    )
    .sort("revenue", "o_orderdate", descending=[True, False])
    .head(10)
)
