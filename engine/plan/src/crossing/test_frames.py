"""LazyFrames of Polars 2.1 for the tests of the crossing: each as it crosses, and its rows as Polars collects them.

Writes one line of JSON a frame: {"name", "crossing", "rows": IPC in base64, "ordered"}.
"""

import base64
import datetime as dt
import decimal
import io
import json
import sys

sys.path.insert(0, sys.argv[1])

import polars as pl  # noqa: E402
import traverse  # noqa: E402

D = decimal.Decimal
t = pl.LazyFrame(
    {
        "i": [3, 1, None, -4, 5, 1],
        "j": [2, 2, 3, None, 0, 7],
        "f": [1.5, None, float("nan"), -2.25, 0.0, 8.0],
        "s": ["ab", "Cd e", None, "", "äö1", "ab"],
        "b": [True, None, False, True, False, True],
        "d": [dt.date(2024, 1, 31), None, dt.date(1999, 12, 31), dt.date(2024, 2, 29), dt.date(1970, 1, 1), dt.date(2024, 1, 31)],
        "at": [dt.datetime(2024, 1, 31, 23, 59, 58, 123456), None, dt.datetime(1969, 1, 1), dt.datetime(2024, 2, 29, 12), dt.datetime(2000, 1, 1, 1, 1, 1), dt.datetime(2024, 3, 31, 2)],
        "dec": [D("1.25"), D("-3.10"), None, D("0.01"), D("999.99"), D("2.00")],
        "l": [[1, 2], [], None, [None, 5], [3, 1, 2], [7]],
        "st": [{"x": 1, "y": "a"}, {"x": None, "y": "b"}, None, {"x": 3, "y": None}, {"x": 4, "y": "d"}, {"x": 5, "y": "e"}],
    },
    schema_overrides={"j": pl.Int32, "dec": pl.Decimal(10, 2)},
)
u = pl.LazyFrame({"i": [1, 3, 3, None, 9], "v": ["p", "q", "r", "s", "t"], "w": [1, 2, 3, 4, 5]})
c = pl.col

SELECTS = {
    "arithmetic": [c("i") + c("j"), (c("i") * 2 - 1).alias("a"), (c("i") / c("j")).alias("q"), (c("i") // 2).alias("fd"), (c("i") % 3).alias("m"), (-c("i")).alias("n"), (c("f") ** 2).alias("p")],
    "comparison": [(c("i") > 1).alias("a"), c("i").eq_missing(c("j")).alias("b"), c("i").is_between(1, 3).alias("c"), c("i").is_in([1, 5]).alias("d"), (c("b") & (c("i") > 0)).alias("e"), (~c("b")).alias("g")],
    "nulls": [c("i").is_null().alias("a"), c("i").fill_null(0).alias("b"), c("s").fill_null("x"), pl.coalesce("i", "j").alias("c"), c("f").is_nan().alias("d"), c("f").fill_nan(1.0).alias("e")],
    "rounding": [c("f").round(1).alias("a"), c("f").floor().alias("b"), c("f").ceil().alias("c"), c("f").abs().alias("d"), c("f").sign().alias("e"), c("i").clip(0, 3).alias("g")],
    "math": [c("f").abs().sqrt().alias("a"), c("f").exp().alias("b"), (c("f").abs() + 1).log().alias("c"), c("f").sin().alias("d"), c("f").arctan().alias("e"), c("f").degrees().alias("g"), pl.arctan2("f", "i").alias("h")],
    "text": [c("s").str.to_uppercase().alias("a"), c("s").str.len_chars().alias("b"), c("s").str.len_bytes().alias("c"), c("s").str.contains("b").alias("d"), c("s").str.starts_with("a").alias("e"), c("s").str.replace_all("a", "z").alias("g"), c("s").str.slice(1, 2).alias("h"), c("s").str.pad_start(5, "*").alias("k"), c("s").str.strip_chars("a").alias("m"), c("s").str.reverse().alias("n")],
    "text2": [c("s").str.split(" ").alias("a"), c("s").str.extract("([a-z]+)").alias("b"), c("s").str.count_matches("[ab]").alias("c"), pl.concat_str("s", "i", separator="-").alias("d"), c("s").str.replace_all("[äö]", "o").str.zfill(4).alias("e"), c("s").str.head(1).alias("g"), c("s").str.find("b").alias("h"), pl.format("{}:{}", "s", "i").alias("k")],
    "titles": [c("s").str.to_titlecase().alias("a"), pl.lit("o'neil ǆ ΟΔΟΣ 1st").str.to_titlecase().alias("b")],
    "dots": [pl.concat_list("i", "f").cast(pl.Array(pl.Float64, 2)).arr.dot(pl.concat_list("f", "i").cast(pl.Array(pl.Float64, 2))).alias("a"), pl.concat_list("i", "i").cast(pl.Array(pl.Int8, 2)).arr.dot(pl.concat_list("i", "j").cast(pl.Array(pl.Int8, 2))).alias("b")],
    "dates": [c("d").dt.year().alias("a"), c("d").dt.month().alias("b"), c("d").dt.weekday().alias("c"), c("d").dt.quarter().alias("d2"), c("d").dt.truncate("1mo").alias("e"), c("d").dt.offset_by("1mo").alias("g"), c("d").dt.strftime("%Y/%m").alias("h"), c("d").dt.month_end().alias("k"), c("d").dt.ordinal_day().alias("m")],
    "times": [c("at").dt.hour().alias("a"), c("at").dt.microsecond().alias("b"), c("at").dt.date().alias("c"), c("at").dt.time().alias("d2"), (c("at") - c("at").min()).alias("e"), c("at").dt.truncate("1h").alias("g"), (c("at") + pl.duration(days=1)).alias("h"), c("at").dt.timestamp("ms").alias("k"), c("at").dt.cast_time_unit("ns").alias("m"), c("at").dt.replace_time_zone("Europe/Berlin", non_existent="null").alias("n")],
    "durations": [(c("at") - pl.datetime(2000, 1, 1)).dt.total_seconds().alias("a"), (c("at") - pl.datetime(2000, 1, 1)).dt.total_days().alias("b")],
    "casts": [c("i").cast(pl.Float32).alias("a"), c("i").cast(pl.String).alias("b"), c("d").cast(pl.Datetime("ms")).alias("c"), c("f").cast(pl.Int8, strict=False).alias("d2"), c("s").cast(pl.Int64, strict=False).alias("e"), c("b").cast(pl.Int32).alias("g"), c("dec").cast(pl.Float64).alias("h")],
    "lists": [c("l").list.len().alias("a"), c("l").list.sum().alias("b"), c("l").list.get(0, null_on_oob=True).alias("c"), c("l").list.contains(1).alias("d2"), c("l").list.sort().alias("e"), c("l").list.reverse().alias("g"), c("l").list.max().alias("h"), c("l").list.mean().alias("k"), c("l").list.drop_nulls().alias("m"), c("l").list.slice(1, 1).alias("n")],
    "structs": [c("st").struct.field("x").alias("a"), c("st").struct.rename_fields(["p", "q"]).alias("b"), pl.struct("i", "s").alias("c"), c("st").struct.json_encode().alias("d2")],
    "whens": [pl.when(c("i") > 1).then(c("i")).when(c("b")).then(pl.lit(0)).otherwise(None).alias("a")],
    "literals": [pl.lit(1).alias("a"), pl.lit("x").alias("b"), pl.lit(dt.date(2024, 5, 6)).alias("c"), pl.lit(dt.timedelta(hours=5)).alias("d2"), pl.lit(2.5).alias("e"), pl.lit(None).alias("g"), pl.lit(b"\x00\xff").alias("h"), pl.lit(D("1.50")).alias("k"), pl.lit(dt.time(1, 2, 3)).alias("m")],
    "aggregates": [c("i").sum().alias("a"), c("i").mean().alias("b"), c("f").std().alias("c"), c("i").min().alias("d2"), c("s").max().alias("e"), c("i").median().alias("g"), c("i").n_unique().alias("h"), c("i").count().alias("k"), pl.len().alias("m"), c("i").quantile(0.5).alias("n"), c("i").product().alias("o"), c("b").any().alias("p"), c("b").all().alias("q"), c("i").null_count().alias("r")],
    "ordered": [c("i").cum_sum().alias("a"), c("i").cum_max(reverse=True).alias("b"), c("i").shift(1).alias("c"), c("i").diff().alias("d2"), c("i").rank("dense").alias("e"), c("i").fill_null(strategy="forward").alias("g"), c("i").reverse().alias("h"), c("i").rolling_sum(2).alias("k"), c("i").rolling_mean(3, min_samples=1).alias("m"), c("i").pct_change().alias("n"), c("i").is_first_distinct().alias("o"), c("i").rle_id().alias("p")],
    "windows": [c("i").sum().over("b").alias("a"), c("i").rank().over("b").alias("b2"), c("i").cum_sum().over("b", order_by="j").alias("c"), c("i").shift().over("b", order_by="j", descending=True).alias("d2"), c("s").first().over("b", order_by="i").alias("e")],
    "horizontal": [pl.sum_horizontal("i", "j").alias("a"), pl.max_horizontal("i", "j").alias("b"), pl.min_horizontal("i", "j").alias("c"), pl.mean_horizontal("i", "j").alias("d2"), pl.any_horizontal(c("b"), c("i") > 2).alias("e"), pl.all_horizontal(c("b"), c("i") > 2).alias("g"), pl.concat_list("i", "j").alias("h")],
    "replaced": [c("i").replace({1: 10, 3: 30}).alias("a"), c("s").replace_strict({"ab": "x"}, default="y").alias("b"), c("f").cut([0.0, 2.0]).cast(pl.String).alias("c")],
    "decimals": [(c("dec") + D("0.05")).alias("a"), (c("dec") * c("dec")).alias("b"), (c("dec") / D("3")).alias("c"), c("dec").sum().alias("d2"), (c("dec") - c("i")).alias("e"), (c("dec") > D("1")).alias("g")],
    "positions": [c("i").arg_max().alias("a"), c("i").arg_min().alias("b"), c("i").first().alias("c"), c("i").last().alias("d2"), c("i").get(3).alias("e")],
    "sorted": [c("i").sort(descending=True, nulls_last=True).alias("a"), c("s").sort_by("j", "f", nulls_last=True).alias("b"), c("i").arg_sort().alias("c")],
    "lengths": [c("i").drop_nulls().sum().alias("a"), c("i").filter(c("b")).sum().alias("b"), c("i").unique().len().alias("c"), c("i").head(2).sum().alias("d2")],
}
FRAMES = {f"select {name}": (t.select(exprs), True) for name, exprs in SELECTS.items()}
FRAMES |= {
    "filter": (t.filter(c("i") > 0, c("s") != ""), True),
    "with_columns": (t.with_columns(k=c("i") + 1, s=c("s").str.len_chars()), True),
    "group_by": (t.group_by("b").agg(c("i").sum().alias("a"), c("s").n_unique().alias("n"), pl.len(), c("f").mean(), c("j").max().alias("m"), c("i").first().alias("fi")), False),
    "group_by expr": (t.group_by(c("i") % 2, "b", maintain_order=True).agg(c("j").sum(), c("s").alias("all")), True),
    "group_by filter": (t.group_by("b").agg(c("i").filter(c("j") > 1).sum().alias("s2"), c("i").sort_by("j").last().alias("x"), c("i").quantile(0.3)), False),
    "inner": (t.join(u, on="i"), False),
    "left": (t.join(u, on="i", how="left"), False),
    "left keep": (t.join(u, left_on="i", right_on="i", how="left", coalesce=False), False),
    "right": (t.join(u, on="i", how="right"), False),
    "full": (t.join(u, on="i", how="full"), False),
    "full coalesced": (t.join(u, on="i", how="full", coalesce=True), False),
    "semi": (t.join(u, on="i", how="semi"), False),
    "anti": (t.join(u, on="i", how="anti"), False),
    "cross": (t.select("i").join(u.select("w"), how="cross"), False),
    "nulls equal": (t.join(u, on="i", nulls_equal=True), False),
    "suffix": (t.join(t, on="j", suffix="_r"), False),
    "where": (t.select("i", "j").join_where(u.select(k="w"), c("i") < c("k"), c("j") != c("k")), False),
    "sort": (t.sort("i", "s", descending=[True, False], nulls_last=True, maintain_order=True), True),
    "top": (t.sort("j").head(2), True),
    "unique": (t.unique(subset=["b"], keep="first", maintain_order=True), True),
    "unique any": (t.select("i", "b").unique(), False),
    "slice": (t.slice(1, 3), True),
    "tail": (t.tail(2), True),
    "concat": (pl.concat([t.select("i", "s"), t.select("i", "s").filter(c("i") > 1)]), True),
    "hconcat": (pl.concat([t.select("i"), t.select("s")], how="horizontal"), True),
    "row index": (t.with_row_index("n", 5), True),
    "explode": (t.select("i", "l").explode("l"), True),
    "unnest": (t.select("i", "st").unnest("st"), True),
    "unpivot": (t.select("i", "j", "s").unpivot(on=["i", "j"], index="s"), False),
    "shared": (t.filter(c("i") > 0).join(t.filter(c("i") > 0).group_by("b").agg(c("i").sum().alias("t")), on="b"), False),
    "asof": (t.select("j", "s").drop_nulls().sort("j").join_asof(u.sort("w"), left_on=c("j").cast(pl.Int64), right_on="w"), True),
    "empty": (t.filter(c("i") > 1000), True),
    "sql": (pl.SQLContext({"t": t, "u": u}, eager=False).execute("select t.b, count(*) as n, sum(u.w) as w from t left join u on t.i = u.i and u.w > 1 group by t.b"), False),
}

out = sys.stdout
for name, (lf, ordered) in FRAMES.items():
    rows = io.BytesIO()
    lf.collect().write_ipc(rows)
    line = {"name": name, "crossing": traverse.cross(pl, lf), "rows": base64.b64encode(rows.getvalue()).decode(), "ordered": ordered}
    out.write(json.dumps(line) + "\n")
