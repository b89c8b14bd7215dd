# PDS-H query 12: shipping modes and order priority. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

high = pl.col("o_orderpriority").is_in(["1-URGENT", "2-HIGH"])

result = (
    scan("orders")
    .join(
        scan("lineitem").filter(
            pl.col("l_shipmode").is_in(["MAIL", "SHIP"]),
            pl.col("l_commitdate") < pl.col("l_receiptdate"),
            pl.col("l_shipdate") < pl.col("l_commitdate"),
            pl.col("l_receiptdate") >= date(1994, 1, 1),
            pl.col("l_receiptdate") < date(1995, 1, 1),
        ),
        left_on="o_orderkey",
        right_on="l_orderkey",
    )
    .group_by("l_shipmode")
    .agg(high.sum().alias("high_line_count"), (~high).sum().alias("low_line_count"))
    .sort("l_shipmode")
)
