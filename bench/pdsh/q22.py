# PDS-H query 22: global sales opportunity. `pl`, `scan` and `params` are given; `result` is the answer.
customers = (
    scan("customer")
    .with_columns(pl.col("c_phone").str.slice(0, 2).alias("cntrycode"))
    .filter(pl.col("cntrycode").is_in(["13", "31", "23", "29", "30", "18", "17"]))
)
average = customers.filter(pl.col("c_acctbal") > 0).select(
    pl.col("c_acctbal").mean().alias("average")
)

result = (
    customers.join(average, how="cross")
    .filter(pl.col("c_acctbal").cast(pl.Float64) > pl.col("average"))
    .join(scan("orders"), left_on="c_custkey", right_on="o_custkey", how="anti")
    .group_by("cntrycode")
    .agg(pl.len().alias("numcust"), pl.col("c_acctbal").sum().alias("totacctbal"))
    .sort("cntrycode")
)
