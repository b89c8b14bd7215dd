# PDS-H query 16: parts/supplier relationship. `pl`, `scan` and `params` are given; `result` is the answer.
complained = scan("supplier").filter(
    pl.col("s_comment").str.contains("Customer.*Complaints")
)

result = (
    scan("part")
    .filter(
        pl.col("p_brand") != "Brand#45",
        ~pl.col("p_type").str.starts_with("MEDIUM POLISHED"),
        pl.col("p_size").is_in([49, 14, 23, 45, 19, 3, 36, 9]),
    )
    .join(scan("partsupp"), left_on="p_partkey", right_on="ps_partkey")
    .join(complained, left_on="ps_suppkey", right_on="s_suppkey", how="anti")
    .group_by("p_brand", "p_type", "p_size")
    .agg(pl.col("ps_suppkey").n_unique().alias("supplier_cnt"))
    .sort(
        "supplier_cnt", "p_brand", "p_type", "p_size", descending=[True, False, False, False]
    )
)
