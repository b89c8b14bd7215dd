# PDS-H query 9: product type profit measure. `pl`, `scan` and `params` are given; `result` is the answer.
price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))
cost = pl.col("ps_supplycost").cast(pl.Float64) * pl.col("l_quantity").cast(pl.Float64)

result = (
    scan("part")
    .filter(pl.col("p_name").str.contains("green", literal=True))
    .join(scan("partsupp"), left_on="p_partkey", right_on="ps_partkey")
    .join(scan("supplier"), left_on="ps_suppkey", right_on="s_suppkey")
    .join(
        scan("lineitem"),
        left_on=["p_partkey", "ps_suppkey"],
        right_on=["l_partkey", "l_suppkey"],
    )
    .join(scan("orders"), left_on="l_orderkey", right_on="o_orderkey")
    .join(scan("nation"), left_on="s_nationkey", right_on="n_nationkey")
    .group_by(
        pl.col("n_name").alias("nation"), pl.col("o_orderdate").dt.year().alias("o_year")
    )
    .agg((discounted - cost).sum().alias("sum_profit"))
    .sort("nation", "o_year", descending=[False, True])
)
