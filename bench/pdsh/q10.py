# PDS-H query 10: returned item reporting. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))

result = (
    scan("customer")
    .join(
        scan("orders").filter(
            pl.col("o_orderdate") >= date(1993, 10, 1), pl.col("o_orderdate") < date(1994, 1, 1)
        ),
        left_on="c_custkey",
        right_on="o_custkey",
    )
    .join(
        scan("lineitem").filter(pl.col("l_returnflag") == "R"),
        left_on="o_orderkey",
        right_on="l_orderkey",
    )
    .join(scan("nation"), left_on="c_nationkey", right_on="n_nationkey")
    .group_by(
        "c_custkey", "c_name", "c_acctbal", "c_phone", "n_name", "c_address", "c_comment"
    )
    .agg(discounted.sum().alias("revenue"))
    .select(
        "c_custkey",
        "c_name",
        "revenue",
        "c_acctbal",
        "n_name",
        "c_address",
        "c_phone",
        "c_comment",
    )
    .sort("revenue", descending=True)
    .head(20)
)
