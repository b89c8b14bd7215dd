# PDS-H query 19: discounted revenue. `pl`, `scan` and `params` are given; `result` is the answer.
price = pl.col("l_extendedprice").cast(pl.Float64)
discounted = price * (1.0 - pl.col("l_discount").cast(pl.Float64))


def wanted(brand, containers, quantity, size):
    return (
        (pl.col("p_brand") == brand)
        & pl.col("p_container").is_in(containers)
        & pl.col("l_quantity").is_between(quantity, quantity + 10)
        & pl.col("p_size").is_between(1, size)
    )


result = (
    scan("lineitem")
    .filter(
        pl.col("l_shipmode").is_in(["AIR", "AIR REG"]),
        pl.col("l_shipinstruct") == "DELIVER IN PERSON",
    )
    .join(scan("part"), left_on="l_partkey", right_on="p_partkey")
    .filter(
        wanted("Brand#12", ["SM CASE", "SM BOX", "SM PACK", "SM PKG"], 1, 5)
        | wanted("Brand#23", ["MED BAG", "MED BOX", "MED PKG", "MED PACK"], 10, 10)
        | wanted("Brand#34", ["LG CASE", "LG BOX", "LG PACK", "LG PKG"], 20, 15)
    )
    .select(discounted.sum().alias("revenue"))
)
