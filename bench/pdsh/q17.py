# PDS-H query 17: small-quantity-order revenue. `pl`, `scan` and `params` are given; `result` is the answer.
lines = (
    scan("part")
    .filter(pl.col("p_brand") == "Brand#23", pl.col("p_container") == "MED BOX")
    .join(scan("lineitem"), left_on="p_partkey", right_on="l_partkey")
)
limits = lines.group_by("p_partkey").agg((0.2 * pl.col("l_quantity").mean()).alias("limit"))

result = (
    lines.join(limits, on="p_partkey")
    .filter(pl.col("l_quantity").cast(pl.Float64) < pl.col("limit"))
    .select((pl.col("l_extendedprice").cast(pl.Float64).sum() / 7.0).alias("avg_yearly"))
)
