# PDS-H query 8: national market share. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))
americans = (
    scan("region")
    .filter(pl.col("r_name") == "AMERICA")
    .join(scan("nation"), left_on="r_regionkey", right_on="n_regionkey")
    .join(scan("customer"), left_on="n_nationkey", right_on="c_nationkey")
    .select("c_custkey")
)
suppliers = (
    scan("supplier")
    .join(scan("nation"), left_on="s_nationkey", right_on="n_nationkey")
    .select("s_suppkey", pl.col("n_name").alias("nation"))
)

result = (
    scan("part")
    .filter(pl.col("p_type") == "ECONOMY ANODIZED STEEL")
    .join(scan("lineitem"), left_on="p_partkey", right_on="l_partkey")
    .join(
        scan("orders").filter(
            pl.col("o_orderdate") >= date(1995, 1, 1),
            pl.col("o_orderdate") <= date(1996, 12, 31),
        ),
        left_on="l_orderkey",
        right_on="o_orderkey",
    )
    .join(americans, left_on="o_custkey", right_on="c_custkey")
    .join(suppliers, left_on="l_suppkey", right_on="s_suppkey")
    .select(
        pl.col("o_orderdate").dt.year().alias("o_year"), discounted.alias("volume"), "nation"
    )
    .group_by("o_year")
    .agg(
        (
            pl.when(pl.col("nation") == "BRAZIL").then(pl.col("volume")).otherwise(0.0).sum()
            / pl.col("volume").sum()
        ).alias("mkt_share")
    )
    .sort("o_year")
)
