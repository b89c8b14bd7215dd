"""Plan files for every dtype of Polars with every function that Floe splits over tasks: `make_plans.py DIRECTORY [SHARE SEED]`.

They are of the version of Polars that is imported. SHARE 6 writes one plan in six, chosen by SEED and the plan's name.
Each file is one plan over a small frame of its own, named `<dtype>.<function>.bin`. What a plan should give is not said here:
`floe-runner verify` runs each on one node and distributed. Many fail on purpose (the sum of texts): they must fail alike.
"""

import hashlib
import sys
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl

ROWS = 36


def repeated(values: list, rows: int = ROWS) -> list:
    """Values in an order that is neither rising nor falling, some several times, some of them null."""
    out = [values[(7 * i + i // 5) % len(values)] for i in range(rows)]
    return [None if i % 9 == 4 else value for i, value in enumerate(out)]


def integers(bits: int, signed: bool) -> tuple[list, list]:
    high = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    low = -high - 1 if signed else 0
    small = [-3, 0, 5, 2, 7, 1, 4] if signed else [3, 0, 5, 2, 7, 1, 4]
    return small, [high, 1, low, high - 1, 2, low + 1, 0]


def floats(limit: float) -> tuple[list, list]:
    return [1.5, -0.25, 0.0, 2.5, 0.1, -7.0, 3.0], [limit, 1.0, float("nan"), -0.0, 0.0, float("-inf"), 1e-3]


def moments(zone=None, year: int = 2024) -> list:
    days = [(year, 2, 28), (year, 3, 31), (1969, 12, 31), (year, 10, 27), (1970, 1, 1)]
    return [datetime(*day, 1, 30, 5, 123456, tzinfo=zone) for day in days]


CATEGORIES = ["low", "mid", "high", "never"]
TEXTS = ["b", "a", "", "zebra", "Äpfel", "a longer text than fits inline", "10"]


def dtypes() -> dict[str, tuple[pl.DataType, list, list | None]]:
    """Of each dtype: ordinary values, and for numbers some that overflow or round."""
    kinds: dict[str, tuple[pl.DataType, list, list | None]] = {}
    for bits in (8, 16, 32, 64, 128):
        kinds[f"int{bits}"] = (getattr(pl, f"Int{bits}")(), *integers(bits, signed=True))
        kinds[f"uint{bits}"] = (getattr(pl, f"UInt{bits}")(), *integers(bits, signed=False))
    kinds["float16"] = (pl.Float16(), *floats(60000.0))
    kinds["float32"] = (pl.Float32(), *floats(3e38))
    kinds["float64"] = (pl.Float64(), *floats(1e308))
    cents = [Decimal("1.50"), Decimal("-0.25"), Decimal("0.00"), Decimal("99.99"), Decimal("3.10")]
    kinds["decimal"] = (pl.Decimal(10, 2), cents, None)
    kinds["decimal-wide"] = (pl.Decimal(38, 0), [Decimal(10**37 * 6), Decimal(-1), Decimal(5)], None)
    kinds["boolean"] = (pl.Boolean(), [True, False, False, True, True], None)
    kinds["string"] = (pl.String(), TEXTS, None)
    kinds["binary"] = (pl.Binary(), [text.encode() for text in TEXTS] + [b"\xff\x00"], None)
    kinds["date"] = (pl.Date(), [moment.date() for moment in moments()], None)
    kinds["time"] = (pl.Time(), [time(1, 2, 3), time(0), time(23, 59, 59, 999999), time(12)], None)
    for unit in ("ms", "us", "ns"):
        # Means are taken of floats: nanoseconds of our days do not fit exactly.
        kinds[f"datetime-{unit}"] = (pl.Datetime(unit), moments(year=1970 if unit == "ns" else 2024), None)
        kinds[f"duration-{unit}"] = (
            pl.Duration(unit),
            [timedelta(days=1), timedelta(0), timedelta(seconds=-3), timedelta(milliseconds=7)],
            None,
        )
    kinds["datetime-utc"] = (pl.Datetime("us", "UTC"), moments(timezone.utc), None)
    kinds["datetime-berlin"] = (pl.Datetime("ms", "Europe/Berlin"), moments(ZoneInfo("Europe/Berlin")), None)
    kinds["enum"] = (pl.Enum(CATEGORIES), CATEGORIES[:3], None)
    kinds["categorical"] = (pl.Categorical(), CATEGORIES[:3], None)
    kinds["list"] = (pl.List(pl.Int64), [[1, 2], [], [3], [None, 4]], None)
    kinds["list-of-texts"] = (pl.List(pl.String), [["a", "b"], [], ["c"], [None]], None)
    kinds["array"] = (pl.Array(pl.Int32, 2), [[1, 2], [3, 4], [0, None]], None)
    kinds["struct"] = (pl.Struct({"a": pl.Int64, "b": pl.String}), [{"a": 1, "b": "x"}, {"a": 2, "b": None}], None)
    kinds["null"] = (pl.Null(), [None], None)
    return kinds


def frame(dtype: pl.DataType, values: list, rows: int = ROWS) -> pl.DataFrame:
    x = repeated(values, rows)
    return pl.DataFrame(
        {
            "i": pl.Series(range(rows), dtype=pl.Int64),
            "k": pl.Series([("a", "b", "c", None)[i * i % 7 % 4] for i in range(rows)], dtype=pl.String),
            "x": pl.Series(x, dtype=dtype, strict=False),
            "t": pl.Series([datetime(2024, 1, 1) + timedelta(hours=5 * i) for i in range(rows)], dtype=pl.Datetime("us")),
        }
    )


X = pl.col("x")

# A value for each row: beside the rows, as a filter would have it, and within groups.
ROW_BY_ROW = {
    "cum_sum": X.cum_sum(),
    "cum_sum-reverse": X.cum_sum(reverse=True),
    "cum_prod": X.cum_prod(),
    "cum_prod-reverse": X.cum_prod(reverse=True),
    "cum_min": X.cum_min(),
    "cum_min-reverse": X.cum_min(reverse=True),
    "cum_max": X.cum_max(),
    "cum_max-reverse": X.cum_max(reverse=True),
    "cum_count": X.cum_count(),
    "cum_count-reverse": X.cum_count(reverse=True),
    "shift": X.shift(1),
    "shift-up": X.shift(-2),
    "shift-far": X.shift(20),
    "shift-fill": X.shift(2, fill_value=X.first()),
    "diff": X.diff(),
    "diff-up": X.diff(-2),
    "pct_change": X.pct_change(),
    "forward_fill": X.forward_fill(),
    "forward_fill-limit": X.forward_fill(limit=1),
    "backward_fill": X.backward_fill(),
    "backward_fill-limit": X.backward_fill(limit=1),
    "fill_null-min": X.fill_null(strategy="min"),
    "fill_null-max": X.fill_null(strategy="max"),
    "fill_null-mean": X.fill_null(strategy="mean"),
    "fill_null-zero": X.fill_null(strategy="zero"),
    "fill_null-one": X.fill_null(strategy="one"),
    "rolling_min": X.rolling_min(4, min_samples=1),
    "rolling_max": X.rolling_max(4, min_samples=1),
    "rolling_sum": X.rolling_sum(4, min_samples=1),
    "rolling_mean": X.rolling_mean(4, min_samples=1),
    "rolling_mean-center": X.rolling_mean(5, min_samples=1, center=True),
    "rolling_mean-weights": X.fill_null(strategy="zero").rolling_mean(3, weights=[0.2, 0.3, 0.5]),
    "rolling_var": X.rolling_var(4, min_samples=2),
    "rolling_std": X.rolling_std(4, min_samples=2),
    "rolling_median": X.rolling_median(4, min_samples=1),
    "rolling_quantile": X.rolling_quantile(0.3, window_size=4, min_samples=1),
    "rolling_skew": X.rolling_skew(5),
    "rolling_kurtosis": X.rolling_kurtosis(5),
    "rolling_rank": X.rolling_rank(4, min_samples=1),
    "rolling_sum_by": X.rolling_sum_by("t", "1d"),
    "rolling_mean_by": X.rolling_mean_by("t", "1d"),
    "rolling_min_by": X.rolling_min_by("t", "1d"),
    "rolling_max_by": X.rolling_max_by("t", "1d"),
    "rolling_std_by": X.rolling_std_by("t", "1d"),
    "rolling_var_by": X.rolling_var_by("t", "1d"),
    "rolling_median_by": X.rolling_median_by("t", "1d"),
    "rolling_quantile_by": X.rolling_quantile_by("t", "1d", quantile=0.3),
    "rolling_rank_by": X.rolling_rank_by("t", "1d"),
    "rolling-sum": X.sum().rolling("t", period="1d"),
    "rolling-mean": X.mean().rolling("t", period="1d"),
    "rolling-last": X.last().rolling("t", period="1d"),
    "rolling-max": X.max().rolling("t", period="1d"),
    "ewm_mean": X.ewm_mean(alpha=0.5),
    "interpolate": X.interpolate(),
    "peak_max": X.peak_max(),
    "peak_min": X.peak_min(),
    "rle_id": X.rle_id(),
    "rank": X.rank("min"),
    "is_unique": X.is_unique(),
    "is_duplicated": X.is_duplicated(),
    "is_first_distinct": X.is_first_distinct(),
    "is_last_distinct": X.is_last_distinct(),
    "less-than-mean": X < X.mean(),
    "minus-min": X - X.min(),
    "equals-max": X == X.max(),
    "equals-first": X.eq_missing(X.first()),
    "reverse": X.reverse(),
    "row-number": pl.int_range(pl.len(), dtype=pl.UInt32) + X.is_null(),
    "over-sum": X.sum().over("k"),
    "over-mean": X.mean().over("k"),
    "over-min": X.min().over("k"),
    "over-first": X.first().over("k"),
    "over-cum_sum": X.cum_sum().over("k"),
    "over-rank": X.rank("dense").over("k"),
    "over-shift": X.shift(1).over("k"),
    "over-itself": pl.col("i").sum().over("x"),
    "over-n_unique": X.n_unique().over("k"),
}

# One value of all rows, of groups, of windows.
AGGREGATES = {
    "sum": X.sum(),
    "mean": X.mean(),
    "min": X.min(),
    "max": X.max(),
    "var": X.var(),
    "std": X.std(),
    "first": X.first(),
    "last": X.last(),
    "first-non-null": X.first(ignore_nulls=True),
    "last-non-null": X.last(ignore_nulls=True),
    "count": X.count(),
    "null_count": X.null_count(),
    "n_unique": X.n_unique(),
    "product": X.product(),
    "median": X.median(),
    "quantile": X.quantile(0.3),
    "any": X.any(ignore_nulls=False),
    "all": X.all(ignore_nulls=False),
    "has_nulls": X.has_nulls(),
    "arg_min": X.arg_min(),
    "arg_max": X.arg_max(),
    "nan_max": X.nan_max(),
    "nan_min": X.nan_min(),
    "is_empty": X.is_empty(),
    "bitwise_and": X.bitwise_and(),
    "bitwise_xor": X.bitwise_xor(),
    "implode": X.implode(),
    "mode": X.mode().sort().implode(),
    "sum-filtered": X.filter(pl.col("i") % 3 == 1).sum(),
    "max-filtered": X.filter(pl.col("i") > 100).max(),
    "mean-squared": (X.mean() * X.mean()),
    "sum-of-differences": X.diff().sum(),
    "sum-of-running-sums": X.cum_sum().max(),
    "max-of-shifted": X.shift(1).max(),
    "index_of": X.index_of(X.last()),
}


def frames_of(lf: pl.LazyFrame) -> dict[str, pl.LazyFrame]:
    """What is split over tasks at the level of frames: sorts, groups, joins and their kin, with the dtype as their key."""
    other = lf.select("x", pl.col("i").alias("j")).filter(pl.col("j") % 2 == 0)
    by_x = lf.sort("x")
    dynamic = lf.group_by_dynamic("t", every="2d")
    overlapping = lf.group_by_dynamic("t", every="1d", period="2d")
    rolling = lf.rolling("t", period="1d")
    out = {
        "sort": lf.sort("x", "i"),
        "sort-descending": lf.sort("x", "i", descending=[True, False], nulls_last=True),
        "sort-head": lf.sort("x", "i").head(5),
        "sort-by-function": lf.sort(X.is_null(), X.rank("min"), "i"),
        "top_k": lf.top_k(5, by=["x", "i"]),
        "bottom_k": lf.bottom_k(5, by=["x", "i"]),
        "group-by-x": lf.group_by("x").agg(pl.len(), pl.col("i").sum()),
        "group-by-x-in-order": lf.group_by("x", maintain_order=True).agg(pl.col("i").first()),
        "group-by-x-and-k": lf.group_by("x", "k").agg(pl.col("i").max()),
        "unique": lf.unique(subset="x", keep="first", maintain_order=True),
        "unique-none": lf.unique(subset="x", keep="none"),
        "unique-all": lf.select("x", "k").unique(),
        "join-inner": lf.join(other, on="x"),
        "join-left": lf.join(other, on="x", how="left"),
        "join-full": lf.join(other.filter(pl.col("j") > 8), on="x", how="full", coalesce=True),
        "join-semi": lf.join(other.head(3), on="x", how="semi"),
        "join-anti": lf.join(other.head(3), on="x", how="anti"),
        "join-nulls": lf.join(other, on="x", nulls_equal=True),
        "join-less": lf.join_where(other.head(6), X < pl.col("x_right")),
        "join-asof": by_x.join_asof(other.sort("x"), on="x"),
        "join-asof-by": by_x.join_asof(other.with_columns(k=pl.lit("a")).sort("x"), on="x", by="k"),
        "join-asof-by-x": lf.join_asof(other.rename({"j": "i"}).with_columns(j=pl.col("i")), on="i", by="x"),
        "concat": pl.concat([lf, lf.reverse()]).with_columns(X.shift(1).alias("z")),
        "unpivot": lf.unpivot(["x"], index="i"),
        "is_in": lf.filter(X.is_in(other.select("x").head(4).collect().to_series().implode())),
        "value_counts": lf.select(X.value_counts(sort=False)).unnest("x").sort("count", "x"),
        "filter-by-window": lf.filter(X == X.max().over("k")),
        "filter-by-function": lf.filter(X.eq_missing(X.shift(1))),
        "merge-sorted": by_x.merge_sorted(by_x.filter(pl.col("i") % 5 == 0), key="x"),
        "slice": lf.slice(7, 19).with_columns(X.shift(1).alias("z")),
        "row-index": lf.filter(X.is_not_null()).with_row_index("n"),
        "dynamic-sum": dynamic.agg(X.sum()),
        "dynamic-first": dynamic.agg(X.first()),
        "dynamic-median": dynamic.agg(X.median()),
        "dynamic-overlapping-sum": overlapping.agg(X.sum()),
        "dynamic-overlapping-mean": overlapping.agg(X.mean()),
        "dynamic-by-key": lf.group_by_dynamic("t", every="2d", group_by="k").agg(X.max()),
        "rolling-sum-groups": rolling.agg(X.sum()),
        "rolling-mean-groups": rolling.agg(X.mean()),
        "rolling-by-key": lf.rolling("t", period="1d", group_by="k").agg(X.min()),
    }
    for name, agg in AGGREGATES.items():
        out[f"all-{name}"] = lf.select(agg.alias("z"))
        out[f"group-{name}"] = lf.group_by("k").agg(agg.alias("z"))
    for name, expr in ROW_BY_ROW.items():
        out[name] = lf.with_columns(expr.alias("z"))
    return out


# What is left out, and why.
LEFT_OUT = {
    # Polars itself panics.
    "null.merge-sorted",
    # A mean of floats, of which all 38 digits would be compared.
    "decimal-wide.fill_null-mean",
}
# What a wheel does not survive: 1.43.2 overflows its stack in the first, and does not come back from the second.
FATAL = {"1.": {"struct.pct_change", "struct.ewm_mean"}}
LEFT_OUT |= {name for release, names in FATAL.items() if pl.__version__.startswith(release) for name in names}
# Without rows, Polars' engine gives another type than its plan says.
NOT_OF_NOTHING = ("ewm_mean",)

# With values that overflow, are not numbers or round: what adds and compares.
OF_WIDE_VALUES = ("cum_", "sum", "mean", "min", "max", "product", "var", "std", "diff", "rolling", "sort", "unique", "join",
                  "group-by", "top_k", "rank", "peak", "bitwise", "median", "all-", "over-")  # fmt: skip


def works(lf: pl.LazyFrame) -> bool:
    try:
        lf.collect()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, TypeError, ValueError):
        return False
    return True


def plans() -> dict[str, pl.LazyFrame]:
    out = {}
    for kind, (dtype, values, wide) in dtypes().items():
        full = frames_of(frame(dtype, values).lazy())
        out |= {f"{kind}.{name}": lf for name, lf in full.items()}
        if wide is not None:
            of_wide = frames_of(frame(dtype, wide).lazy())
            out |= {
                f"{kind}.wide-{name}": lf
                for name, lf in of_wide.items()
                if any(part in name for part in OF_WIDE_VALUES)
            }
        # Few rows or nulls only: the functions that work on the dtype, several in one plan.
        nulls = frame(dtype, values).with_columns(x=pl.lit(None, dtype=dtype))
        good = [name for name in ROW_BY_ROW if f"{kind}.{name}" not in LEFT_OUT and works(full[name])]
        sums = [name for name in AGGREGATES if works(full[f"all-{name}"])]
        for shape, df in {"empty": frame(dtype, values, 0), "one": frame(dtype, values, 1), "nulls": nulls}.items():
            lf = df.lazy()
            for at in range(0, len(good), 6):
                part = [name for name in good[at : at + 6] if shape != "empty" or name not in NOT_OF_NOTHING]
                out[f"{kind}.{shape}-rows{at // 6}"] = lf.with_columns(ROW_BY_ROW[name].alias(name) for name in part)
            for at in range(0, len(sums), 6):
                part = sums[at : at + 6]
                out[f"{kind}.{shape}-all{at // 6}"] = lf.select(AGGREGATES[name].alias(name) for name in part)
                out[f"{kind}.{shape}-groups{at // 6}"] = lf.group_by("k").agg(AGGREGATES[n].alias(n) for n in part)
    return {name: lf for name, lf in out.items() if name not in LEFT_OUT}


def chosen(name: str, share: int, seed: str) -> bool:
    return int.from_bytes(hashlib.sha256(f"{seed}.{name}".encode()).digest()[:8]) % share == 0


def main() -> None:
    directory = Path(sys.argv[1])
    share, seed = (int(sys.argv[2]), sys.argv[3]) if len(sys.argv) > 2 else (1, "")
    directory.mkdir(parents=True, exist_ok=True)
    count = 0
    for name, lf in plans().items():
        if chosen(name, share, seed):
            (directory / f"{name}.bin").write_bytes(lf.serialize())
            count += 1
    print(f"{count} plans of {len(dtypes())} dtypes by Polars {pl.__version__}")


if __name__ == "__main__":
    main()
