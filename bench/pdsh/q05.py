# PDS-H query 5: local supplier volume. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))

result = (
    scan("region")
    .filter(pl.col("r_name") == "ASIA")
    .join(scan("nation"), left_on="r_regionkey", right_on="n_regionkey")
    .join(scan("customer"), left_on="n_nationkey", right_on="c_nationkey")
    .join(
        scan("orders").filter(
            pl.col("o_orderdate") >= date(1994, 1, 1), pl.col("o_orderdate") < date(1995, 1, 1)
        ),
        left_on="c_custkey",
        right_on="o_custkey",
    )
    .join(scan("lineitem"), left_on="o_orderkey", right_on="l_orderkey")
    .join(
        scan("supplier"),
        left_on=["l_suppkey", "n_nationkey"],
        right_on=["s_suppkey", "s_nationkey"],
    )
    .group_by("n_name")
    .agg(discounted.sum().alias("revenue"))
    .sort("revenue", descending=True)
)
