# PDS-H query 2: minimum cost supplier. `pl`, `scan` and `params` are given; `result` is the answer.
offers = (
    scan("part")
    .filter(pl.col("p_size") == 15, pl.col("p_type").str.ends_with("BRASS"))
    .join(scan("partsupp"), left_on="p_partkey", right_on="ps_partkey")
    .join(scan("supplier"), left_on="ps_suppkey", right_on="s_suppkey")
    .join(scan("nation"), left_on="s_nationkey", right_on="n_nationkey")
    .join(
        scan("region").filter(pl.col("r_name") == "EUROPE"),
        left_on="n_regionkey",
        right_on="r_regionkey",
    )
)
cheapest = offers.group_by("p_partkey").agg(pl.col("ps_supplycost").min())

result = (
    offers.join(cheapest, on=["p_partkey", "ps_supplycost"])
    .select(
        "s_acctbal",
        "s_name",
        "n_name",
        "p_partkey",
        "p_mfgr",
        "s_address",
        "s_phone",
        "s_comment",
    )
    .sort(
        "s_acctbal", "n_name", "s_name", "p_partkey", descending=[True, False, False, False]
    )
    .head(100)
)
