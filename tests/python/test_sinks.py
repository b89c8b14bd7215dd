"""Sinks by the engine and by `remote`: the same rows and files as Polars' own sinks, or a refusal that names the argument."""

from __future__ import annotations

import pathlib

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from floe.exceptions import PlanError, UnsupportedPlanError
from tests.python.conftest import pluggable

READ = {"parquet": pl.read_parquet, "ipc": pl.read_ipc, "csv": pl.read_csv, "ndjson": pl.read_ndjson}
KINDS = [
    ("parquet", {"compression": "lz4", "row_group_size": 2, "statistics": "full", "data_page_size": 4096}),
    ("parquet", {"compression": "gzip", "compression_level": 1, "statistics": False}),
    ("parquet", {"metadata": {"who": "floe"}, "maintain_order": True, "mkdir": True}),
    ("ipc", {"compression": "lz4", "record_batch_size": 2}),
    ("ipc", {"compression": "uncompressed", "compat_level": pl.CompatLevel.oldest()}),
    ("csv", {"separator": ";", "include_bom": True, "quote_style": "always", "null_value": "-"}),
    ("ndjson", {"maintain_order": True}),
]


@pytest.fixture
def rows():
    return pl.LazyFrame({"a": [3, 1, 2], "b": ["x", None, "z"]}).sort("a")


@pluggable
@pytest.mark.parametrize(("kind", "arguments"), KINDS)
def test_a_file_is_what_polars_writes(engine, rows, tmp_path, kind, arguments):
    ours, theirs = tmp_path / f"ours.{kind}", tmp_path / f"theirs.{kind}"
    assert getattr(rows, f"sink_{kind}")(ours, engine=engine, **arguments) is None
    getattr(rows, f"sink_{kind}")(theirs, engine="streaming", **arguments)
    if kind in ("csv", "ndjson"):
        assert ours.read_bytes() == theirs.read_bytes()
    else:
        assert_frame_equal(READ[kind](ours), READ[kind](theirs))
    if "metadata" in arguments:
        assert pl.read_parquet_metadata(ours)["who"] == "floe"


#: How a compressed buffer of an Arrow file begins.
MAGIC = {"lz4": b"\x04\x22\x4d\x18", "zstd": b"\x28\xb5\x2f\xfd"}


def layout(kind: str, path: pathlib.Path) -> dict[str, object]:
    """What a file says of how it was written, by a reader that is not Polars."""
    pyarrow = pytest.importorskip("pyarrow")
    if kind == "ipc":
        from pyarrow import ipc

        file, text = ipc.open_file(path), path.read_bytes()
        compressed = {name: magic in text for name, magic in MAGIC.items()}
        return {"batches": file.num_record_batches, "types": file.schema.types, "compressed": compressed}
    from pyarrow import parquet

    metadata = parquet.read_metadata(path)
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(metadata.num_columns)]
    statistics = [
        (one.statistics.min, one.statistics.max, one.statistics.null_count) if one.is_stats_set else None
        for one in columns
    ]
    assert pyarrow.types.is_integer(metadata.schema.to_arrow_schema().field("a").type)
    return {
        "rows": [group.num_rows for group in groups],
        "compression": {one.compression for one in columns},
        "statistics": statistics,
        "metadata": (metadata.metadata or {}).get(b"who"),
    }


@pluggable
@pytest.mark.parametrize(("kind", "arguments"), [one for one in KINDS if one[0] in ("parquet", "ipc")])
def test_a_file_is_laid_out_as_polars_does_it(engine, ctx, rows, tmp_path, kind, arguments):
    """Compression, sizes, statistics and metadata arrive: rows alone would be the same without them."""
    theirs = tmp_path / "theirs"
    getattr(rows, f"sink_{kind}")(theirs, engine="streaming", **arguments)
    plain = tmp_path / "plain"
    getattr(rows, f"sink_{kind}")(plain, engine="streaming")
    want = layout(kind, theirs)
    assert want != layout(kind, plain), "the arguments show in nothing that is looked at"
    getattr(rows, f"sink_{kind}")(tmp_path / f"engine.{kind}", engine=engine, **arguments)
    getattr(rows.remote(ctx), f"sink_{kind}")(tmp_path / f"remote.{kind}", **arguments).await_result()
    assert layout(kind, tmp_path / f"engine.{kind}") == want
    assert layout(kind, tmp_path / f"remote.{kind}") == want


@pytest.mark.parametrize(
    ("kind", "small", "large"),
    [
        ("parquet", {"compression": "uncompressed"}, {"compression": "uncompressed", "data_page_size": 256}),
        ("parquet", {"compression": "gzip", "compression_level": 9}, {"compression": "gzip", "compression_level": 1}),
        ("csv", {"compression": "zstd", "compression_level": 19}, {"compression": "zstd", "compression_level": 1}),
        ("ndjson", {"compression": "gzip"}, {"compression": "uncompressed"}),
    ],
)
def test_what_shows_in_the_size_of_a_file_arrives(ctx, tmp_path, kind, small, large):
    rows = pl.DataFrame({"a": [f"{n * n % 7919} and {n}" for n in range(20_000)]}).lazy()
    sizes = []
    for number, arguments in enumerate((small, large)):
        path = tmp_path / f"{number}.{kind}"
        arguments = {**arguments, **({"check_extension": False} if kind in ("csv", "ndjson") else {})}
        getattr(rows.remote(ctx), f"sink_{kind}")(path, **arguments).await_result()
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1]


@pluggable
def test_partitions(engine, tmp_path):
    lf = pl.LazyFrame({"k": ["x", "y", "x"], "v": [1, 2, 3]})
    lf.sink_parquet(pl.PartitionBy(tmp_path / "out", key="k"), mkdir=True, engine=engine)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["k=x", "k=y"]
    got = pl.read_parquet(tmp_path / "out", hive_partitioning=True)
    assert_frame_equal(got.sort("v").select("k", "v"), lf.collect(engine="in-memory"))


@pluggable
def test_lazy_sinks_are_collected(engine, rows, tmp_path):
    plans = [rows.sink_parquet(tmp_path / f"{n}.parquet", lazy=True, engine=engine) for n in range(2)]
    assert [frame.shape for frame in pl.collect_all(plans, engine=engine)] == [(0, 0)] * 2
    assert pl.read_parquet(tmp_path / "1.parquet").height == 3


@pluggable
def test_relative_paths_are_those_of_the_process_now(engine, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows.sink_parquet("here.parquet", engine=engine)
    assert (tmp_path / "here.parquet").is_file()
    assert pl.scan_parquet("here.parquet").collect(engine=engine).height == 3
    (tmp_path / "deeper").mkdir()
    monkeypatch.chdir(tmp_path / "deeper")
    with pytest.raises(FileNotFoundError):
        pl.scan_parquet("here.parquet").collect(engine=engine)


@pluggable
def test_functions_are_called_by_this_process(engine, rows, tmp_path):
    target = tmp_path / "x.parquet"
    rows.sink_parquet(target, metadata=lambda _: {"rows": "3"}, engine=engine)
    assert pl.read_parquet_metadata(target)["rows"] == "3"


def test_remote_sinks_write_a_file_or_a_directory(ctx, rows, tmp_path):
    query = rows.remote(ctx).sink_parquet(tmp_path / "one.parquet")
    assert query.await_result().n_rows_total == 3
    assert (tmp_path / "one.parquet").is_file()
    rows.remote(ctx).distributed().sink_parquet(f"{tmp_path}/many/").await_result()
    assert_frame_equal(pl.read_parquet(tmp_path / "many"), rows.collect(engine="in-memory"))
    rows.remote(ctx).sink_csv(tmp_path / "dir.csv", sink_to_single_file=False, separator=";").await_result()
    assert [path.read_text().splitlines()[0] for path in (tmp_path / "dir.csv").iterdir()] == ["a;b"]
    rows.remote(ctx).sink_ipc(tmp_path / "x.arrow").await_result()
    assert_frame_equal(pl.read_ipc(tmp_path / "x.arrow"), rows.collect(engine="in-memory"))
    rows.remote(ctx).sink_ndjson(tmp_path / "x.ndjson").await_result()
    assert_frame_equal(pl.read_ndjson(tmp_path / "x.ndjson"), rows.collect(engine="in-memory"))
    with pytest.raises(ValueError, match="names a directory"):
        rows.remote(ctx).sink_parquet(f"{tmp_path}/x/", sink_to_single_file=True)


def test_remote_sink_batches(ctx, rows):
    got: list[pl.DataFrame] = []
    query = rows.remote(ctx).sink_batches(got.append, chunk_size=2)
    query.await_result()
    assert [frame.height for frame in got] == [2, 1]

    def broken(_: pl.DataFrame) -> bool:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        rows.remote(ctx).sink_batches(broken).await_result()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"metadata": lambda _: {}}, "metadata"), ({"credential_provider": lambda: ({}, None)}, "credential_provider")],
)
def test_what_workers_cannot_call_is_refused_by_name(ctx, rows, tmp_path, arguments, match):
    with pytest.raises(UnsupportedPlanError, match=match):
        rows.remote(ctx).sink_parquet(tmp_path / "x.parquet", **arguments)
    with pytest.raises(TypeError, match="nonsense"):
        rows.remote(ctx).sink_parquet(tmp_path / "x.parquet", nonsense=1)
    assert not list(tmp_path.iterdir())


def test_spawn(ctx, rows, tmp_path):
    queries = floe.spawn_many([rows, rows.head(1)], dst=floe.TmpDst(), context=ctx)
    assert [query.await_result().n_rows_total for query in queries] == [3, 1]
    result = floe.spawn_blocking(rows, dst=f"{tmp_path}/out.parquet", context=ctx, labels=["nightly"])
    assert result.location == [str(tmp_path / "out.parquet")] and result.file_type == "parquet"
    assert_frame_equal(result.lazy().collect(engine="in-memory"), rows.collect(engine="in-memory"))
    results = floe.spawn_many_blocking([rows], dst=floe.CsvDst(tmp_path / "x.csv"), context=ctx)
    assert results[0].status == floe.QueryStatus.SUCCESS and (tmp_path / "x.csv").is_file()
    with pytest.raises(ValueError, match="'local'"):
        floe.spawn(rows, dst="local", context=ctx)
    with pytest.raises(ValueError, match="sink_to_single_file"):
        floe.spawn(rows, dst=floe.TmpDst(), context=ctx, sink_to_single_file=True)


def test_a_directory_that_is_not_there_is_polars_error(ctx, rows, tmp_path):
    with pytest.raises((FileNotFoundError, PlanError)):
        rows.remote(ctx).sink_parquet(tmp_path / "no" / "x.parquet").await_result()
