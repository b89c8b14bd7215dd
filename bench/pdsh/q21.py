# PDS-H query 21: suppliers who kept orders waiting. `pl`, `scan` and `params` are given; `result` is the answer.
late = scan("lineitem").filter(pl.col("l_receiptdate") > pl.col("l_commitdate"))
first, last = pl.col("l_suppkey").min().alias("first"), pl.col("l_suppkey").max().alias("last")
# Orders of several suppliers, of which a single one was late: the least and the greatest supplier key tell.
shared = (
    scan("lineitem")
    .group_by("l_orderkey")
    .agg(first, last)
    .filter(pl.col("first") != pl.col("last"))
)
one_late = (
    late.group_by("l_orderkey").agg(first, last).filter(pl.col("first") == pl.col("last"))
)
saudi = scan("supplier").join(
    scan("nation").filter(pl.col("n_name") == "SAUDI ARABIA"),
    left_on="s_nationkey",
    right_on="n_nationkey",
)

result = (
    late.join(saudi, left_on="l_suppkey", right_on="s_suppkey")
    .join(
        scan("orders").filter(pl.col("o_orderstatus") == "F"),
        left_on="l_orderkey",
        right_on="o_orderkey",
    )
    .join(shared, on="l_orderkey", how="semi")
    .join(one_late, on="l_orderkey", how="semi")
    .group_by("s_name")
    .agg(pl.len().alias("numwait"))
    .sort("numwait", "s_name", descending=[True, False])
    .head(100)
)
