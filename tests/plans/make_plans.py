"""Makes the fixture plans of one Polars version into the directory that is its argument.

`regenerate.sh` runs it once for each accepted version, with that version's wheel. A fixture is `<name>.bin`, the bytes of
`LazyFrame.serialize()`. The name's first part says what the engine must do with it:
  ok-…      decode, optimize, and give the rows of `expected/<name>.ipc` (written here by the first version)
  scan-…    decode; the sources lie where no test reads them (s3://, gs://, …)
  files-…   decode, and run from this directory: the sources are the small files of `tests/plans/data`
  sink-…    decode; the plan writes
  python-…  refused: Python in the plan
  warn-…    decode with a warning: 2.x gives `expected/2.x/<name>.ipc`, the engine another result
  differs-… decode, without a warning; some version gives another result, and `tests/verify/expected.yaml` says which
  new-…     refused: what 2.x has and the engine has not
  sql-…     a plan node on 2.x, which a Python with Polars 2.1 resolves; 1.x turns it into a plan
"""

import datetime as dt
import importlib.util
import inspect
import shutil
import decimal
import sys
import warnings
from pathlib import Path

import polars as pl

warnings.simplefilter("ignore")
out = Path(sys.argv[1])
out.mkdir(parents=True, exist_ok=True)
here = Path.cwd()
expected = here / "expected"
data = here / "data"


def save(name: str, lf: pl.LazyFrame) -> None:
    (out / f"{name}.bin").write_bytes(lf.serialize())
    if name.startswith("warn-") and pl.__version__ >= "2":
        (expected / "2.x").mkdir(exist_ok=True)
        lf.collect().write_ipc(expected / "2.x" / f"{name}.ipc", compression="uncompressed")
    if name.startswith(("ok-", "files-")):
        target = expected / f"{name}.ipc"
        result = lf.collect()
        if target.exists():
            before = pl.scan_ipc(target).collect()
            if not before.equals(result) or before.schema != result.schema:
                print(f"{pl.__version__} gives another result for {name}:\n{before}\n{result}", file=sys.stderr)
        else:
            expected.mkdir(exist_ok=True)
            result.write_ipc(target, compression="uncompressed")


orders = pl.LazyFrame(
    {
        "id": [1, 2, 3, 4, 5, 6],
        "customer": ["a", "b", "a", "c", None, "b"],
        "day": [dt.date(2024, 1, d) for d in (1, 2, 2, 3, 5, 8)],
        "price": [10.0, 20.5, 7.25, None, 3.0, 100.0],
    }
)
customers = pl.LazyFrame(
    {"customer": ["a", "b", "d"], "since": [dt.date(2023, 5, 1), dt.date(2024, 1, 2), dt.date(2020, 2, 29)], "level": [1, 2, 3]}
)
numbers = pl.LazyFrame({"x": [1, 2, 3, 4], "lo": [0, 2, 2, 9], "hi": [5, 3, 9, 12], "g": ["u", "v", "u", "v"]})

# Frames of every dtype.
save(
    "ok-dtypes",
    pl.LazyFrame(
        {
            "i8": pl.Series([1, None, -3], dtype=pl.Int8),
            "u64": pl.Series([1, None, 2**63], dtype=pl.UInt64),
            "i128": pl.Series([2**100, None, -1], dtype=pl.Int128),
            "f32": pl.Series([1.5, float("nan"), -0.0], dtype=pl.Float32),
            "bool": [True, None, False],
            "str": ["é", None, ""],
            "bin": [b"\x00\xff", None, b""],
            "date": [dt.date(2020, 1, 1), None, dt.date(1900, 1, 1)],
            "dt": pl.Series([dt.datetime(2020, 1, 1), None, dt.datetime(1969, 1, 1)], dtype=pl.Datetime("ns", "Europe/Berlin")),
            "dur": [dt.timedelta(seconds=1), None, dt.timedelta(days=-1)],
            "time": [dt.time(1, 2, 3), None, dt.time(0)],
            "dec": pl.Series([decimal.Decimal("1.23"), None, decimal.Decimal("-4.50")], dtype=pl.Decimal(10, 2)),
            "cat": pl.Series(["a", None, "b"], dtype=pl.Categorical),
            "enum": pl.Series(["x", None, "y"], dtype=pl.Enum(["x", "y"])),
            "list": [[1, None], None, []],
            "arr": pl.Series([[1, 2], None, [3, 4]], dtype=pl.Array(pl.Int64, 2)),
            "struct": [{"a": 1, "b": "x"}, None, {"a": None, "b": "y"}],
            "null": [None, None, None],
        }
    ),
)
save("ok-empty", pl.LazyFrame({"a": [], "b": []}, schema={"a": pl.Int64, "b": pl.String}))
save("ok-odd-names", pl.LazyFrame({"Join": [1], "condition": [2], "SQL": [3], "cloud_options": [4], "": [5], "PythonScan": [6]}))

# Joins of every kind.
for how in ("inner", "left", "right", "full", "semi", "anti"):
    save(f"ok-join-{how}", orders.join(customers, on="customer", how=how, maintain_order="left_right").sort("id", "customer", nulls_last=True) if how not in ("right",) else orders.join(customers, on="customer", how=how).sort("customer", "id", nulls_last=True))
save("ok-join-two-keys", orders.join(customers, left_on=["customer", pl.col("day")], right_on=["customer", "since"], how="left").sort("id"))
save("ok-join-expr", orders.join(customers, left_on=pl.col("id") % 3 + 1, right_on="level", how="inner", coalesce=False).sort("id"))
save("ok-join-nulls-equal", orders.join(orders, on="customer", nulls_equal=True, suffix="_2").sort("id", "id_2"))
save("ok-join-cross", numbers.join(customers, how="cross").sort("x", "customer"))
save("ok-join-where", numbers.join_where(numbers, pl.col("x") > pl.col("lo_right"), pl.col("x") < pl.col("hi_right")).sort("x", "x_right"))
save("ok-join-where-one", numbers.join_where(customers, pl.col("lo") <= pl.col("level")).sort("x", "level"))
if "how" in inspect.signature(pl.LazyFrame.join_where).parameters:
    for how in ("left", "right") if pl.__version__ >= "2.1" else ("left",):
        low = numbers.join_where(numbers, pl.col("x") > pl.col("lo_right"), pl.col("x") + pl.col("x_right") > 4, how=how)
        save(f"ok-join-where-{how}", low.sort("x", "x_right", nulls_last=True))
save("ok-join-asof", orders.sort("day").join_asof(customers.sort("since"), left_on="day", right_on="since", strategy="backward"))
save("ok-join-asof-by", orders.sort("day").join_asof(customers.sort("since"), left_on="day", right_on="since", by="customer", tolerance="400d", strategy="nearest"))

# Group-bys, windows and the rest of the verbs.
save("ok-group-by", orders.group_by("customer").agg(pl.len(), pl.col("price").sum().alias("sum"), pl.col("price").median().alias("median")).sort("customer", nulls_last=True))
save("ok-group-by-dynamic", orders.sort("day").group_by_dynamic("day", every="2d").agg(pl.col("price").mean(), pl.col("id")))
save("ok-rolling", orders.sort("day").rolling("day", period="3d").agg(pl.col("price").sum()))
save("ok-over", orders.with_columns(pl.col("price").rank().over("customer").alias("rank"), pl.col("id").cum_sum().over("customer", order_by="day").alias("run")))
save("ok-when", orders.select(pl.when(pl.col("price") > 9).then(pl.lit("dear")).when(pl.col("id").is_in([3, 5])).then(pl.lit("cheap")).otherwise(None).alias("w")))
save("ok-unique", orders.unique("customer", keep="first", maintain_order=True))
save("ok-sort-slice", orders.sort("price", descending=True, nulls_last=True).slice(1, 3))
save("ok-top-k", orders.top_k(2, by="id"))
save("ok-concat", pl.concat([orders, orders.filter(pl.col("id") > 4)], how="vertical"))
save("ok-concat-horizontal", pl.concat([numbers, numbers.select(pl.all().name.suffix("_2"))], how="horizontal"))
save("ok-concat-diagonal", pl.concat([orders, customers], how="diagonal"))
save("ok-merge-sorted", numbers.select("x").merge_sorted(numbers.select(pl.col("x") + 1), key="x"))
save("ok-unpivot", orders.unpivot(["id", "price"], index="customer").sort("variable", "value", nulls_last=True))
save("ok-explode", orders.group_by("customer", maintain_order=True).agg("id").explode("id"))
save("ok-unnest", orders.select(pl.struct("id", "customer").alias("s")).unnest("s"))
save("ok-row-index", orders.with_row_index("n", offset=3).filter(pl.col("n") > 4))
save("ok-cast-selector", orders.cast({pl.Int64: pl.Int32, "day": pl.Datetime("us")}).drop("price").rename({"id": "key"}))
save("ok-match-schema", numbers.match_to_schema({"x": pl.Int64, "lo": pl.Int64, "hi": pl.Int64, "g": pl.String}))
save("ok-struct-fields", orders.select(pl.struct("id", "price").alias("s")).select(pl.col("s").struct.with_fields(pl.field("id") + 1)))
save("ok-strings", orders.select(pl.col("customer").str.to_uppercase().str.replace("A", "z", literal=True), pl.col("day").dt.strftime("%Y-%m"), pl.col("customer").str.contains("a|b").alias("m")))
save("ok-lists", numbers.select(pl.concat_list("x", "lo").list.eval(pl.element() * 2).list.sum().alias("s"), pl.concat_list("x", "hi").list.contains(3).alias("c")))
if hasattr(pl.col("x").arr, "dot"):
    save("ok-arr-dot", numbers.select(pl.concat_arr("x", "lo").arr.dot(pl.concat_arr("hi", "x"))))
save("ok-literals", numbers.select(pl.lit(pl.Series("s", [1, 2, 3, 4])), pl.lit(b"\x01\x0b\x07\x80\x05.").alias("b"), pl.lit(dt.datetime(2020, 1, 1)).alias("d"), pl.lit(decimal.Decimal("1.5")).alias("dec"), pl.lit(2**40).alias("big")))
shared = orders.group_by("customer").agg(pl.col("price").sum())
save("ok-shared", orders.join(shared, on="customer", how="left").join(shared.rename({"price": "again"}), on="customer", how="left").sort("id"))
save("ok-cache", orders.cache().filter(pl.col("id") > 2))
deep = orders.select("id")
for i in range(300):
    deep = deep.filter(pl.col("id") != i + 100)
save("ok-deep", deep)
if hasattr(pl.LazyFrame, "pivot"):
    save("ok-pivot", orders.pivot("customer", on_columns=["a", "b"], index="day", values="price", aggregate_function="sum").sort("day"))

# Scans of every format, from small files beside this script and from every kind of store.
if not data.exists():
    (data / "hive" / "g=u").mkdir(parents=True)
    (data / "hive" / "g=v").mkdir(parents=True)
    frame = numbers.collect()
    frame.write_csv(data / "numbers.csv")
    frame.write_ndjson(data / "numbers.ndjson")
    frame.write_ipc(data / "numbers.ipc", compression="uncompressed")
    frame.write_parquet(data / "numbers.parquet", compression="snappy")
    for g in ("u", "v"):
        frame.filter(pl.col("g") == g).drop("g").write_parquet(data / "hive" / f"g={g}" / "0.parquet", compression="snappy")
save("files-csv", pl.scan_csv("data/numbers.csv", schema_overrides={"x": pl.Int32}))
save("files-csv-glob", pl.scan_csv("data/num*.csv", separator=",", has_header=True, skip_rows=0, null_values=["9"], row_index_name="n"))
save("files-ndjson", pl.scan_ndjson("data/numbers.ndjson"))
save("files-ipc", pl.scan_ipc("data/numbers.ipc"))
save("files-parquet", pl.scan_parquet("data/numbers.parquet", n_rows=3, row_index_name="n"))
save("files-parquet-hive", pl.scan_parquet("data/hive/**/*.parquet", hive_partitioning=True, glob=True).sort("x"))
save("files-parquet-many", pl.scan_parquet(["data/numbers.parquet", "data/numbers.parquet"]))
save("files-lines", pl.scan_lines("data/numbers.csv"))
secret = {"aws_access_key_id": "PLAN-KEY", "aws_secret_access_key": "PLAN-SECRET", "aws_region": "eu-central-1"}
save("scan-s3", pl.scan_parquet("s3://bucket/dir/*.parquet", storage_options=secret))
save("scan-s3-auto", pl.scan_parquet("s3://bucket/x.parquet"))
save("scan-s3-no-provider", pl.scan_parquet("s3://bucket/x.parquet", credential_provider=None))
save("scan-s3-provider", pl.scan_csv("s3://bucket/x.csv", credential_provider=lambda: ({"aws_access_key_id": "x"}, None)))
save("scan-s3-ndjson", pl.scan_ndjson("s3://bucket/x.ndjson", storage_options={"aws_endpoint_url": "http://localhost:1"}, retries=3) if "retries" in pl.scan_ndjson.__code__.co_varnames else pl.scan_ndjson("s3://bucket/x.ndjson"))
save("scan-gs", pl.scan_parquet("gs://bucket/x.parquet", credential_provider=None))
save("scan-az", pl.scan_parquet("abfss://c@acc.dfs.core.windows.net/x.parquet", storage_options={"account_key": "PLAN-SECRET"}, credential_provider=None))
save("scan-hf", pl.scan_parquet("hf://datasets/a/b/x.parquet"))
save("scan-http", pl.scan_csv("https://example.org/x.csv"))
save("scan-s3-join", pl.scan_parquet("s3://bucket/a.parquet", schema={"k": pl.Int64}).join(pl.scan_ipc("s3://other/b.ipc"), on="k"))

# Plans that write.
save("sink-parquet", orders.sink_parquet("out/x.parquet", lazy=True, compression="zstd"))
save("sink-s3", orders.sink_csv("s3://bucket/out.csv", lazy=True, storage_options=secret))
save("sink-ipc", orders.sink_ipc("out/x.ipc", lazy=True))
save("sink-ndjson", orders.sink_ndjson("out/x.ndjson", lazy=True))
if hasattr(pl, "PartitionBy"):
    save("sink-partitioned", orders.sink_parquet(pl.PartitionBy("out/", key="customer"), lazy=True, mkdir=True))
several = pl.collect_all([orders.sink_ipc("out/1.ipc", lazy=True), orders.sink_ipc("out/2.ipc", lazy=True)], lazy=True)
save("sink-two", several)

# Python in the plan.
save("python-map-elements", orders.select(pl.col("id").map_elements(lambda x: x + 1, return_dtype=pl.Int64)))
save("python-map-batches", orders.select(pl.col("id").map_batches(lambda s: s + 1)))
save("python-agg", orders.group_by("customer").agg(pl.map_groups(["id"], lambda s: s[0].sum(), return_dtype=pl.Int64, returns_scalar=True)))
save("python-frame", orders.map_batches(lambda df: df))
save("python-map-groups", orders.group_by("customer").map_groups(lambda df: df, schema=None))
save("python-pipe", orders.pipe_with_schema(lambda lf, schema: lf))
save("python-fold", orders.select(pl.fold(0, lambda a, b: a + b, ["id", "price"])))
save("python-reduce", orders.select(pl.reduce(lambda a, b: a + b, ["id", "price"])))
save("python-name-map", orders.select(pl.col("id").name.map(lambda name: name + "x")))


if importlib.util.find_spec("deltalake"):
    pl.DataFrame({"a": [1]}).write_delta("delta-table", mode="overwrite")
    save("python-delta", pl.scan_delta("delta-table"))
    shutil.rmtree("delta-table")
# A scan of an Iceberg table as `scan_iceberg` makes it of one that pyiceberg has loaded.
from polars._utils.wrap import wrap_ldf  # noqa: E402
from polars.io.cloud._utils import NoPickleOption  # noqa: E402
from polars.io.iceberg import _dataset as iceberg  # noqa: E402

table = iceberg.IcebergTableWrap(
    table_=NoPickleOption(),
    table_descriptor_="iceberg-table/metadata/v2.metadata.json",
    serializer=iceberg.IcebergScanTableSerializer(),
    iceberg_storage_properties=None,
)
arguments = {"table": table, "snapshot_id": 3024304674545827075, "reader_override": None}
bounds = ["from_snapshot_id_exclusive", "to_snapshot_id_inclusive"]
arguments |= {name: None for name in bounds if name in iceberg.IcebergScanResolver.__init__.__annotations__}
arguments |= {"use_metadata_statistics": True, "fast_deletion_count": False, "use_pyiceberg_filter": True}
dataset = iceberg.IcebergScanResolver(**arguments)
save("python-iceberg", wrap_ldf(type(pl.LazyFrame()._ldf).new_from_dataset_object(dataset)))
if hasattr(pl.Expr, "pipe_with_dtype"):
    save("python-pipe-dtype", orders.select(pl.col("id").pipe_with_dtype(lambda e, dtype: e)))


def source(with_columns, predicate, n_rows, batch_size):
    yield pl.DataFrame({"a": [1]})


from polars.io.plugins import register_io_source  # noqa: E402

save("python-scan", register_io_source(source, schema={"a": pl.Int64}))
if hasattr(pl, "PartitionBy"):
    save("python-sink-provider", orders.sink_parquet(pl.PartitionBy("out/", key="customer", file_path_provider=lambda args: "x"), lazy=True))
save("python-sink-batches", orders.sink_batches(lambda df: None, lazy=True))

save("sql-context", pl.SQLContext(t=orders).execute("SELECT customer, SUM(price) AS p FROM t GROUP BY customer"))
save("sql-frame", orders.sql("SELECT id FROM self WHERE id > 2"))

# Plans whose result differs between 1.x and 2.x; the engine warns.
mixed = pl.LazyFrame({"u": pl.Series([1, 2], dtype=pl.UInt64), "i": [1, -2], "t": ["é", "b"]})
save("warn-mixed-integers", mixed.select(pl.col("u") + pl.col("i")))
save("warn-struct-float", mixed.select(pl.struct("i") * 1.5))
save("warn-zfill", mixed.select(pl.col("t").str.zfill(4)))
save("warn-join-keys", mixed.select("u").join(mixed.select("i").collect().lazy(), left_on="u", right_on="i", how="full", coalesce=True))
save("warn-no-columns", pl.LazyFrame().with_columns(pl.lit(1).alias("x")))

# Plans whose result differs in some version, where names and shapes alone do not tell. `maps.parquet` has columns that
# Polars does not write.
if not (data / "maps.parquet").exists():
    import pyarrow
    import pyarrow.parquet

    inner = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    maps = [[("a", [("x", 1)]), ("b", [])], [], None]
    columns = {"m": pyarrow.array(maps, type=pyarrow.map_(pyarrow.string(), inner))}
    pyarrow.parquet.write_table(pyarrow.table(columns), data / "maps.parquet")
    pl.DataFrame({"i": [1, 2**100, None]}, schema={"i": pl.Int128}).write_parquet(data / "int128.parquet")
save("differs-maps", pl.scan_parquet("data/maps.parquet"))
save("differs-int128-filter", pl.scan_parquet("data/int128.parquet").filter(pl.col("i").is_null()))
save("differs-rename-fields", orders.select(pl.struct("id", "price").alias("s")).select(pl.col("s").struct.rename_fields(["one"])))
save("differs-cast-to-list", orders.select(pl.col("id").cast(pl.List(pl.Int64))))
save("differs-empty-groups", orders.filter(pl.col("id") > 9).group_by("customer").agg(pl.col("price").arg_min()))

# What came with 2.x.
if hasattr(pl.col("x").struct, "eval"):
    save("new-struct-eval", orders.select(pl.struct("id", "price").alias("s")).select(pl.col("s").struct.eval(pl.field("id") + 1)))
if hasattr(pl.Expr, "erf"):
    save("new-erf", orders.select(pl.col("price").erf()))
