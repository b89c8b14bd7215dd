# PDS-H query 7: volume shipping. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))
two = scan("nation").filter(pl.col("n_name").is_in(["FRANCE", "GERMANY"]))
suppliers = (
    scan("supplier")
    .join(two, left_on="s_nationkey", right_on="n_nationkey")
    .select("s_suppkey", pl.col("n_name").alias("supp_nation"))
)
customers = (
    scan("customer")
    .join(two, left_on="c_nationkey", right_on="n_nationkey")
    .select("c_custkey", pl.col("n_name").alias("cust_nation"))
)

result = (
    scan("lineitem")
    .filter(
        pl.col("l_shipdate") >= date(1995, 1, 1), pl.col("l_shipdate") <= date(1996, 12, 31)
    )
    .join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
    .join(scan("orders"), left_on="l_orderkey", right_on="o_orderkey")
    .join(customers, left_on="o_custkey", right_on="c_custkey")
    .filter(pl.col("supp_nation") != pl.col("cust_nation"))
    .group_by("supp_nation", "cust_nation", pl.col("l_shipdate").dt.year().alias("l_year"))
    .agg(discounted.sum().alias("revenue"))
    .sort("supp_nation", "cust_nation", "l_year")
)
