# PDS-H query 11: important stock identification. `pl`, `scan` and `params` are given; `result` is the answer.
value = pl.col("ps_supplycost").cast(pl.Float64) * pl.col("ps_availqty")
stock = (
    scan("partsupp")
    .join(scan("supplier"), left_on="ps_suppkey", right_on="s_suppkey")
    .join(
        scan("nation").filter(pl.col("n_name") == "GERMANY"),
        left_on="s_nationkey",
        right_on="n_nationkey",
    )
)
# The threshold is a fraction of the total that the specification ties to the scale factor.
fraction = 0.0001 / float(params.get("scale_factor", 1))
threshold = stock.select((value.sum() * fraction).alias("threshold"))

result = (
    stock.group_by("ps_partkey")
    .agg(value.sum().alias("value"))
    .join(threshold, how="cross")
    .filter(pl.col("value") > pl.col("threshold"))
    .select("ps_partkey", "value")
    .sort("value", descending=True)
)
