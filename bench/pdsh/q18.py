# PDS-H query 18: large volume customer. `pl`, `scan` and `params` are given; `result` is the answer.
large = (
    scan("lineitem")
    .group_by("l_orderkey")
    .agg(pl.col("l_quantity").sum().alias("sum_qty"))
    .filter(pl.col("sum_qty") > 300)
)

result = (
    scan("orders")
    .join(large, left_on="o_orderkey", right_on="l_orderkey", how="semi")
    .join(scan("lineitem"), left_on="o_orderkey", right_on="l_orderkey")
    .join(scan("customer"), left_on="o_custkey", right_on="c_custkey")
    .group_by(
        "c_name", pl.col("o_custkey").alias("c_custkey"), "o_orderkey", "o_orderdate", "o_totalprice"
    )
    .agg(pl.col("l_quantity").sum().alias("sum_qty"))
    .sort("o_totalprice", "o_orderdate", descending=[True, False])
    .head(100)
)
