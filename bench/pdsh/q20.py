# PDS-H query 20: potential part promotion. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

shipped = (
    scan("lineitem")
    .filter(
        pl.col("l_shipdate") >= date(1994, 1, 1), pl.col("l_shipdate") < date(1995, 1, 1)
    )
    .group_by("l_partkey", "l_suppkey")
    .agg((0.5 * pl.col("l_quantity").cast(pl.Float64).sum()).alias("half"))
)
surplus = (
    scan("partsupp")
    .join(
        scan("part").filter(pl.col("p_name").str.starts_with("forest")),
        left_on="ps_partkey",
        right_on="p_partkey",
        how="semi",
    )
    .join(
        shipped, left_on=["ps_partkey", "ps_suppkey"], right_on=["l_partkey", "l_suppkey"]
    )
    .filter(pl.col("ps_availqty") > pl.col("half"))
)

result = (
    scan("supplier")
    .join(
        scan("nation").filter(pl.col("n_name") == "CANADA"),
        left_on="s_nationkey",
        right_on="n_nationkey",
    )
    .join(surplus, left_on="s_suppkey", right_on="ps_suppkey", how="semi")
    .select("s_name", "s_address")
    .sort("s_name")
)
