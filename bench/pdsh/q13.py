# PDS-H query 13: customer distribution. `pl`, `scan` and `params` are given; `result` is the answer.
orders = scan("orders").filter(~pl.col("o_comment").str.contains("special.*requests"))

result = (
    scan("customer")
    .join(orders, left_on="c_custkey", right_on="o_custkey", how="left")
    .group_by("c_custkey")
    .agg(pl.col("o_orderkey").count().alias("c_count"))
    .group_by("c_count")
    .agg(pl.len().alias("custdist"))
    .sort("custdist", "c_count", descending=True)
)
