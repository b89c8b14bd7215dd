"""Destinations by the names of Polars Cloud: what `spawn` and the sinks of `remote` write to, and how."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl

from floe.exceptions import UnsupportedPlanError

if TYPE_CHECKING:
    from polars._typing import (
        ArrowSchemaExportable,
        CsvQuoteStyle,
        IpcCompression,
        ParquetCompression,
        ParquetMetadata,
        SyncOnCloseMethod,
    )
    from polars.interchange import CompatLevel
    from polars.io.cloud import CredentialProviderFunction
    from polars.io.partition import PartitionBy


class Dst:
    """Where the rows of a query go."""

    #: The `sink_*` method of a LazyFrame that writes it.
    _kind: str | None = None

    def _arguments(self) -> dict[str, Any]:
        """Arguments of that method, but its target."""
        return {name: value for name, value in vars(self).items() if name != "uri"}

    def _reading(self) -> dict[str, Any]:
        """Arguments of the `scan_*` function that reads it back."""
        access = {name: getattr(self, name, None) for name in ("storage_options", "credential_provider")}
        return {name: value for name, value in access.items() if value is not None and value != "auto"}


class ParquetDst(Dst):
    """Parquet files. Arguments are those of :meth:`polars.LazyFrame.sink_parquet`.

    Examples
    --------
    >>> ParquetDst("out/", compression="lz4").compression
    'lz4'
    """

    _kind = "parquet"

    def __init__(
        self,
        uri: str | Path | PartitionBy,
        *,
        compression: ParquetCompression = "zstd",
        compression_level: int | None = None,
        statistics: bool | str | dict[str, bool] = True,
        row_group_size: int | None = None,
        data_page_size: int | None = None,
        maintain_order: bool = True,
        storage_options: dict[str, Any] | None = None,
        credential_provider: CredentialProviderFunction | Literal["auto"] | None = "auto",
        sync_on_close: SyncOnCloseMethod | None = None,
        mkdir: bool = False,
        metadata: ParquetMetadata | None = None,
        arrow_schema: ArrowSchemaExportable | None = None,
    ) -> None:
        self.uri = uri
        self.compression = compression
        self.compression_level = compression_level
        self.statistics = statistics
        self.row_group_size = row_group_size
        self.data_page_size = data_page_size
        self.maintain_order = maintain_order
        self.storage_options = storage_options
        self.credential_provider = credential_provider
        self.sync_on_close = sync_on_close
        self.mkdir = mkdir
        self.metadata = metadata
        self.arrow_schema = arrow_schema


class CsvDst(Dst):
    """CSV files. Arguments are those of :meth:`polars.LazyFrame.sink_csv`.

    Examples
    --------
    >>> import floe, pathlib, polars as pl, tempfile
    >>> with floe.Local(workers=1) as ctx, tempfile.TemporaryDirectory() as out:
    ...     dst = CsvDst(f"{out}/a.csv", separator=";")
    ...     result = floe.spawn_blocking(pl.LazyFrame({"a": [1], "b": [2]}), dst=dst, context=ctx)
    ...     pathlib.Path(result.location[0]).read_text()
    'a;b\\n1;2\\n'
    """

    _kind = "csv"

    def __init__(
        self,
        uri: str | Path | PartitionBy,
        *,
        include_bom: bool = False,
        compression: Literal["uncompressed", "gzip", "zstd"] = "uncompressed",
        compression_level: int | None = None,
        check_extension: bool = True,
        include_header: bool = True,
        separator: str = ",",
        line_terminator: str = "\n",
        quote_char: str = '"',
        batch_size: int = 1024,
        datetime_format: str | None = None,
        date_format: str | None = None,
        time_format: str | None = None,
        float_scientific: bool | None = None,
        float_precision: int | None = None,
        decimal_comma: bool = False,
        null_value: str | None = None,
        quote_style: CsvQuoteStyle | None = None,
        maintain_order: bool = True,
        storage_options: dict[str, Any] | None = None,
        credential_provider: CredentialProviderFunction | Literal["auto"] | None = "auto",
        sync_on_close: SyncOnCloseMethod | None = None,
        mkdir: bool = False,
    ) -> None:
        self.uri = uri
        self.include_bom = include_bom
        self.compression = compression
        self.compression_level = compression_level
        self.check_extension = check_extension
        self.include_header = include_header
        self.separator = separator
        self.line_terminator = line_terminator
        self.quote_char = quote_char
        self.batch_size = batch_size
        self.datetime_format = datetime_format
        self.date_format = date_format
        self.time_format = time_format
        self.float_scientific = float_scientific
        self.float_precision = float_precision
        self.decimal_comma = decimal_comma
        self.null_value = null_value
        self.quote_style = quote_style
        self.maintain_order = maintain_order
        self.storage_options = storage_options
        self.credential_provider = credential_provider
        self.sync_on_close = sync_on_close
        self.mkdir = mkdir

    def _reading(self) -> dict[str, Any]:
        return super()._reading() | {
            "has_header": self.include_header,
            "separator": self.separator,
            "quote_char": self.quote_char,
            "decimal_comma": self.decimal_comma,
            "null_values": self.null_value,
        }


class IpcDst(Dst):
    """Arrow IPC files. Arguments are those of :meth:`polars.LazyFrame.sink_ipc`.

    Examples
    --------
    >>> IpcDst("out/", compression="lz4").compression
    'lz4'
    """

    _kind = "ipc"

    def __init__(
        self,
        uri: str | Path | PartitionBy,
        *,
        compression: IpcCompression | None = "zstd",
        compat_level: CompatLevel | None = None,
        record_batch_size: int | None = None,
        maintain_order: bool = True,
        storage_options: dict[str, Any] | None = None,
        credential_provider: CredentialProviderFunction | Literal["auto"] | None = "auto",
        sync_on_close: SyncOnCloseMethod | None = None,
        mkdir: bool = False,
    ) -> None:
        self.uri = uri
        self.compression = compression
        self.compat_level = compat_level
        self.record_batch_size = record_batch_size
        self.maintain_order = maintain_order
        self.storage_options = storage_options
        self.credential_provider = credential_provider
        self.sync_on_close = sync_on_close
        self.mkdir = mkdir


class NdjsonDst(Dst):
    """Files of JSON lines. Arguments are those of :meth:`polars.LazyFrame.sink_ndjson`. Floe's own name.

    Examples
    --------
    >>> NdjsonDst("out/", compression="gzip").compression
    'gzip'
    """

    _kind = "ndjson"

    def __init__(
        self,
        uri: str | Path | PartitionBy,
        *,
        compression: Literal["uncompressed", "gzip", "zstd"] = "uncompressed",
        compression_level: int | None = None,
        check_extension: bool = True,
        maintain_order: bool = True,
        storage_options: dict[str, Any] | None = None,
        credential_provider: CredentialProviderFunction | Literal["auto"] | None = "auto",
        sync_on_close: SyncOnCloseMethod | None = None,
        mkdir: bool = False,
    ) -> None:
        self.uri = uri
        self.compression = compression
        self.compression_level = compression_level
        self.check_extension = check_extension
        self.maintain_order = maintain_order
        self.storage_options = storage_options
        self.credential_provider = credential_provider
        self.sync_on_close = sync_on_close
        self.mkdir = mkdir


class TableDst(Dst):
    """A table whose metadata the engine writes."""

    #: `spec.sink.format`.
    _format: str
    uri: str | Path
    mode: str
    partition_by: Sequence[str]
    overwrite: str | None
    overwrite_where: str | None
    schema_evolution: str | None

    def _sink(self) -> dict[str, Any]:
        """`spec.sink` of this destination."""
        uri = os.fspath(self.uri)
        if "://" not in uri:
            uri = os.path.abspath(uri)
        sink: dict[str, Any] = {"uri": uri, "format": self._format, "mode": self.mode}
        if self.partition_by:
            sink["partitionBy"] = list(self.partition_by)
        options = {
            "overwrite": self.overwrite,
            "overwriteWhere": self.overwrite_where,
            "schemaEvolution": self.schema_evolution,
        }
        return sink | {name: value for name, value in options.items() if value is not None}


def _keys(partition_by: str | Sequence[str] | None) -> Sequence[str]:
    return [partition_by] if isinstance(partition_by, str) else list(partition_by or ())


class DeltaDst(TableDst):
    """A Delta table, which the workers write and the query commits once. Floe's own name.

    Parameters
    ----------
    uri
        The table's root.
    mode
        What to do with the rows that the table has. `"error"`: there must be no table yet.
    partition_by
        Columns of a new table that part its files; of a table that is there, it must be these.
    overwrite
        With `mode="overwrite"`, which rows of the table are replaced: `"table"`, all of them (the default), or
        `"partitions"`, those of every partition that the result has rows for.
    overwrite_where
        With `mode="overwrite"`: replaces the rows that this filter holds for, such as `"day = '2026-01-31'"`. Its columns
        are those that partition the table, and all rows of the result must satisfy it.
    schema_evolution
        `"merge"` adds columns that the table lacks, and widens types where the table allows it; else they are refused.

    Examples
    --------
    >>> import floe, polars as pl, tempfile
    >>> with floe.Local(workers=1) as ctx, tempfile.TemporaryDirectory() as lake:
    ...     table = f"{lake}/orders"
    ...     result = floe.spawn_blocking(pl.LazyFrame({"a": [1, 2]}), dst=DeltaDst(table), context=ctx)
    ...     floe.sql(f"select sum(a) as a from delta_scan('{table}')", {}, ctx).collect().item()
    3
    """

    _format = "delta"

    def __init__(
        self,
        uri: str | Path,
        *,
        mode: Literal["error", "append", "overwrite"] = "error",
        partition_by: str | Sequence[str] | None = None,
        overwrite: Literal["table", "partitions"] | None = None,
        overwrite_where: str | None = None,
        schema_evolution: Literal["none", "merge"] | None = None,
    ) -> None:
        self.uri = uri
        self.mode = mode
        self.partition_by = _keys(partition_by)
        self.overwrite = overwrite
        self.overwrite_where = overwrite_where
        self.schema_evolution = schema_evolution


class IcebergDst(TableDst):
    """An Iceberg table without a catalog, which the workers write and the query commits once.

    Parameters
    ----------
    target
        The table's root.
    mode
        What to do with the rows that the table has. `"error"`: there must be no table yet.
    partition_by
        How the files of a new table are parted: columns, or transforms of them (`"day(at)"`, `"bucket(16, id)"`); of a
        table that is there, it must be these.
    overwrite
        With `mode="overwrite"`, which rows of the table are replaced: `"table"`, all of them (the default), or
        `"partitions"`, those of every partition that the result has rows for.
    overwrite_where
        With `mode="overwrite"`: replaces the rows that this filter holds for, such as `"day = '2026-01-31'"`. Its columns
        are those that partition the table, and all rows of the result must satisfy it.
    schema_evolution
        `"merge"` adds columns that the table lacks, and widens types where the table allows it; else they are refused.

    Examples
    --------
    >>> import floe, polars as pl, tempfile
    >>> with floe.Local(workers=1) as ctx, tempfile.TemporaryDirectory() as lake:
    ...     table = f"{lake}/orders"
    ...     result = floe.spawn_blocking(pl.LazyFrame({"a": [1, 2]}), dst=IcebergDst(table, mode="append"), context=ctx)
    ...     floe.sql(f"select sum(a) as a from iceberg_scan('{table}')", {}, ctx).collect().item()
    3
    """

    _format = "iceberg"

    def __init__(
        self,
        target: str | Path,
        mode: Literal["error", "append", "overwrite"] = "append",
        *,
        catalog: object = None,
        storage_options: dict[str, Any] | None = None,
        partition_by: str | Sequence[str] | None = None,
        overwrite: Literal["table", "partitions"] | None = None,
        overwrite_where: str | None = None,
        schema_evolution: Literal["none", "merge"] | None = None,
    ) -> None:
        if not isinstance(target, (str, os.PathLike)):
            raise UnsupportedPlanError(
                f"IcebergDst: target is a {type(target).__name__}: name the root of a table that no catalog holds"
            )
        for name, value in (("catalog", catalog), ("storage_options", storage_options)):
            if value is not None:
                raise UnsupportedPlanError(
                    f"IcebergDst: {name} is not taken: the engine writes the table at a root, with the context's storage"
                )
        self.uri = target
        self.mode = mode
        self.partition_by = _keys(partition_by)
        self.overwrite = overwrite
        self.overwrite_where = overwrite_where
        self.schema_evolution = schema_evolution


class CallbackDst(Dst):
    """A function of this process that takes the rows, batch by batch and in order, until it returns `True`.

    Examples
    --------
    >>> import floe, polars as pl
    >>> dst = CallbackDst(lambda batch: print(batch.rows()))
    >>> with floe.Local(workers=1) as ctx:
    ...     result = floe.spawn_blocking(pl.LazyFrame({"a": [1, 2]}), dst=dst, context=ctx)
    [(1,), (2,)]
    """

    def __init__(
        self,
        function: Callable[[pl.DataFrame], bool | None],
        *,
        chunk_size: int | None = None,
        maintain_order: bool = False,
    ) -> None:
        self.function = function
        self.chunk_size = chunk_size
        self.maintain_order = maintain_order


class TmpDst(Dst):
    """The rows stay with the context.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     result = floe.spawn_blocking(pl.LazyFrame({"a": [1, 2]}), dst=TmpDst(), context=ctx)
    ...     result.lazy().collect().rows()
    [(1,), (2,)]
    """


class ClientDst(Dst):
    """The rows are read by this process.

    `ttl` means nothing: rows stay until they are read, or make room for those of later queries.

    Examples
    --------
    >>> import floe, polars as pl
    >>> with floe.Local(workers=1) as ctx:
    ...     query = floe.spawn(pl.LazyFrame({"a": [1, 2]}), dst=ClientDst(), context=ctx)
    ...     query.await_result().lazy().collect().rows()
    [(1,), (2,)]
    """

    def __init__(self, *, ttl: int | timedelta | None = None, maintain_order: bool | None = None) -> None:
        self.ttl = timedelta(seconds=ttl) if isinstance(ttl, int) else ttl
        self.maintain_order = maintain_order
