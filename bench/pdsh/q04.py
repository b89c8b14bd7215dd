# PDS-H query 4: order priority checking. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

late = scan("lineitem").filter(pl.col("l_commitdate") < pl.col("l_receiptdate"))

result = (
    scan("orders")
    .filter(
        pl.col("o_orderdate") >= date(1993, 7, 1), pl.col("o_orderdate") < date(1993, 10, 1)
    )
    .join(late, left_on="o_orderkey", right_on="l_orderkey", how="semi")
    .group_by("o_orderpriority")
    .agg(pl.len().alias("order_count"))
    .sort("o_orderpriority")
)
