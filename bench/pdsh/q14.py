# PDS-H query 14: promotion effect. `pl`, `scan` and `params` are given; `result` is the answer.
from datetime import date

price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))
promo = pl.col("p_type").str.starts_with("PROMO")

result = (
    scan("lineitem")
    .filter(
        pl.col("l_shipdate") >= date(1995, 9, 1), pl.col("l_shipdate") < date(1995, 10, 1)
    )
    .join(scan("part"), left_on="l_partkey", right_on="p_partkey")
    .select(
        (
            100.0 * pl.when(promo).then(discounted).otherwise(0.0).sum() / discounted.sum()
        ).alias("promo_revenue")
    )
)
