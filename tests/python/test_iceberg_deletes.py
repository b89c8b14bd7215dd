"""Rows of Iceberg tables that later files delete, by their positions or by the values of columns. pyiceberg writes no such
files, so the commits are made here."""

from __future__ import annotations

import json
import pathlib
import uuid

import polars as pl
import pytest
from polars.testing import assert_frame_equal

import floe
from tests.python.conftest import pluggable

pytest.importorskip("pyiceberg")
pytest.importorskip("sqlalchemy")
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
from pyiceberg import manifest as m  # noqa: E402
from pyiceberg.catalog.sql import SqlCatalog  # noqa: E402
from pyiceberg.partitioning import PartitionField, PartitionSpec  # noqa: E402
from pyiceberg.schema import Schema  # noqa: E402
from pyiceberg.table import StaticTable  # noqa: E402
from pyiceberg.transforms import IdentityTransform  # noqa: E402
from pyiceberg.typedef import Record  # noqa: E402
from pyiceberg.types import LongType, NestedField, StringType  # noqa: E402

SCHEMA = Schema(
    NestedField(1, "id", LongType(), required=False),
    NestedField(2, "kind", StringType(), required=False),
    NestedField(3, "v", LongType(), required=False),
)


class Deletes(m.ManifestWriterV2):
    def content(self):
        return m.ManifestContent.DELETES


class Table:
    """A table of pyiceberg's, to which commits of delete files are added beside its catalog."""

    def __init__(self, path: pathlib.Path, partitioned: bool):
        catalog = SqlCatalog("c", uri=f"sqlite:///{path}/catalog.db", warehouse=f"file://{path}")
        catalog.create_namespace("n")
        spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "kind")) if partitioned else PartitionSpec()
        self.table = catalog.create_table("n.t", schema=SCHEMA, partition_spec=spec)
        self.folder = pathlib.Path(self.table.location().removeprefix("file://"))

    def append(self, frame: pl.DataFrame) -> None:
        self.table.append(frame.to_arrow().cast(self.table.schema().as_arrow()))

    @property
    def files(self) -> list[tuple[str, tuple]]:
        return [(task.file.file_path, task.file.partition) for task in self.table.scan().plan_files()]

    def file(self, content, rows: dict, ids: list[int], partition=(), equality=None) -> m.DataFile:
        fields = [
            pa.field(name, column.type, metadata={"PARQUET:field_id": str(id)})
            for (name, column), id in zip(rows.items(), ids)
        ]
        path = self.folder / "data" / f"{uuid.uuid4()}.parquet"
        pq.write_table(pa.table(list(rows.values()), schema=pa.schema(fields)), path)
        return m.DataFile.from_args(
            content=content, file_path=f"file://{path}", file_format="PARQUET", partition=Record(*partition),
            record_count=len(next(iter(rows.values()))), file_size_in_bytes=path.stat().st_size, equality_ids=equality,
            column_sizes={}, value_counts={}, null_value_counts={}, nan_value_counts={}, lower_bounds={}, upper_bounds={},
            _table_format_version=2,
        )  # fmt: skip

    def positions(self, deleted: dict[str, list[int]], partition=()) -> m.DataFile:
        pairs = sorted((path, pos) for path, all in deleted.items() for pos in all)
        rows = {"file_path": pa.array([p for p, _ in pairs]), "pos": pa.array([n for _, n in pairs], pa.int64())}
        return self.file(m.DataFileContent.POSITION_DELETES, rows, [2147483546, 2147483545], partition)

    def rows(self, frame: pl.DataFrame, partition=()) -> m.DataFile:
        rows = {name: frame[name].to_arrow().cast(type) for name, type in self.types().items()}
        return self.file(m.DataFileContent.DATA, rows, [1, 2, 3], partition)

    def types(self) -> dict:
        return {field.name: field.type for field in self.table.schema().as_arrow()}

    def equal(self, rows: dict, ids: list[int], partition=()) -> m.DataFile:
        return self.file(m.DataFileContent.EQUALITY_DELETES, rows, ids, partition, ids)

    def commit(self, *files: m.DataFile) -> str:
        """Adds a snapshot with these files, and returns the place of its metadata. The next commit goes on from it."""
        at = pathlib.Path(self.table.metadata_location.removeprefix("file://"))
        metadata, snapshot = json.loads(at.read_text()), self.table.current_snapshot()
        id, sequence, io = snapshot.snapshot_id + 1, metadata["last-sequence-number"] + 1, self.table.io
        folder = self.folder / "metadata"
        output = io.new_output(f"file://{folder}/{uuid.uuid4()}-m0.avro")
        kind = m.ManifestWriterV2 if files[0].content == m.DataFileContent.DATA else Deletes
        with kind(self.table.spec(), self.table.schema(), output, id, "deflate") as writer:
            for file in files:
                writer.add(m.ManifestEntry.from_args(status=m.ManifestEntryStatus.ADDED, snapshot_id=id, data_file=file))
        added = writer.to_manifest_file()
        listed = f"file://{folder}/snap-{id}.avro"
        with m.write_manifest_list(2, io.new_output(listed), id, snapshot.snapshot_id, sequence, "deflate") as writer:
            writer.add_manifests([*snapshot.manifests(io), added])
        entry = {
            "snapshot-id": id, "parent-snapshot-id": snapshot.snapshot_id, "sequence-number": sequence,
            "timestamp-ms": snapshot.timestamp_ms + 1, "manifest-list": listed, "schema-id": 0,
            "summary": {"operation": "delete"},
        }  # fmt: skip
        metadata["snapshots"].append(entry)
        metadata |= {"last-sequence-number": sequence, "current-snapshot-id": id, "last-updated-ms": entry["timestamp-ms"]}
        metadata["refs"]["main"]["snapshot-id"] = id
        metadata["snapshot-log"].append({"snapshot-id": id, "timestamp-ms": entry["timestamp-ms"]})
        number = int(at.name.split("-")[0]) + 1
        new = at.with_name(f"{number:05d}-{uuid.uuid4()}.metadata.json")
        new.write_text(json.dumps(metadata))
        self.table = StaticTable.from_metadata(f"file://{new}")
        return f"file://{new}"


def rows(first: int, count: int) -> pl.DataFrame:
    numbers = range(first, first + count)
    kinds = [None if n % 5 == 0 else "ab"[n % 2] for n in numbers]
    return pl.DataFrame({"id": numbers, "kind": kinds, "v": [n * 3 for n in numbers]}, schema_overrides={"kind": pl.String})


def read(ctx, place: str, mode: str) -> pl.DataFrame:
    table = {"uri": place, "format": "iceberg"}
    query = floe.sql("select * from t order by id", {"t": table}, ctx)
    return (query.distributed() if mode == "distributed" else query.single_node()).collect()


@pytest.fixture
def plain(tmp_path):
    table = Table(tmp_path, partitioned=False)
    table.append(rows(0, 1_000))
    table.append(rows(1_000, 1_000))
    return table


@pytest.fixture
def by_kind(tmp_path):
    table = Table(tmp_path, partitioned=True)
    table.append(rows(0, 1_000))
    return table


MODES = pytest.mark.parametrize("mode", ["distributed", "single-node"])


@MODES
def test_positions_of_several_files_in_one(ctx, plain, mode):
    by_first = {pq.read_table(path.removeprefix("file://"))["id"][0].as_py(): path for path, _ in plain.files}
    place = plain.commit(plain.positions({by_first[0]: [0, 1, 500, 999], by_first[1_000]: [7]}))
    want = pl.concat([rows(0, 1_000), rows(1_000, 1_000)]).filter(~pl.col("id").is_in([0, 1, 500, 999, 1_007]))
    assert_frame_equal(read(ctx, place, mode), want)
    place = plain.commit(plain.positions({by_first[0]: [1, 2]}))
    assert_frame_equal(read(ctx, place, mode), want.filter(pl.col("id") != 2))


@pluggable
def test_filters_and_columns_over_deleted_rows_are_those_of_polars(ctx, plain):
    plain.commit(plain.positions({path: [0, 3, 250] for path, _ in plain.files}))
    engine = floe.Engine(ctx, scaling_mode="distributed")
    scan = pl.scan_iceberg(plain.table)
    for plan in [
        scan.filter(pl.col("v") > 700).select("id"),
        scan.filter(pl.col("kind").is_null()).select("kind", "v"),
        scan.group_by("kind").agg(pl.len(), pl.col("v").sum()),
        scan.select(pl.len()),
    ]:
        order = plan.collect_schema().names()
        assert_frame_equal(plan.collect(engine=engine).sort(order), plan.collect().sort(order))


@MODES
def test_rows_are_deleted_by_the_values_of_columns_also_nulls_and_only_older_ones(ctx, plain, mode):
    equal = plain.equal({"kind": pa.array(["a", None]), "v": pa.array([12, 15], pa.int64())}, [2, 3])
    ids = plain.equal({"id": pa.array([1_500, None], pa.int64())}, [1])
    plain.commit(equal, ids)
    place = plain.commit(plain.rows(rows(4, 2)))
    want = pl.concat([rows(0, 1_000), rows(1_000, 1_000)]).filter(~pl.col("id").is_in([4, 5, 1_500]))
    assert_frame_equal(read(ctx, place, mode), pl.concat([want, rows(4, 2)]).sort("id"))


@MODES
def test_deletes_of_a_partition_leave_the_others_alone(ctx, by_kind, mode):
    path, partition = next((path, partition) for path, partition in by_kind.files if partition[0] is None)
    place = by_kind.commit(by_kind.equal({"id": pa.array([2, 3, 4], pa.int64())}, [1], partition=("a",)))
    want = rows(0, 1_000).filter(~pl.col("id").is_in([2, 4]))
    assert_frame_equal(read(ctx, place, mode), want)
    place = by_kind.commit(by_kind.positions({path: [0]}, partition=tuple(partition)))
    assert_frame_equal(read(ctx, place, mode), want.filter(pl.col("id") != 0))
