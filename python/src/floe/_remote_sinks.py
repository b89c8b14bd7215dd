"""The sinks of `LazyFrame.remote`, each with the arguments of Polars' own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import polars as pl
from polars.lazyframe.opt_flags import DEFAULT_QUERY_OPT_FLAGS

from floe._dst import CallbackDst, CsvDst, DeltaDst, IcebergDst, IpcDst, NdjsonDst, ParquetDst
from floe._options import passed_on

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

    from floe._query import DirectQuery
    from floe._remote import ExecuteRemote


#: Names that are not arguments of a destination.
_KEPT = ("self", "uri", "optimizations", "sink_to_single_file")


class RemoteSinks(ABC):
    """Writes the rows of a query."""

    @abstractmethod
    def _ready(self) -> ExecuteRemote: ...

    def sink_parquet(
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
        sink_to_single_file: bool | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; its rows go to Parquet files. The arguments are those of :meth:`polars.LazyFrame.sink_parquet`.

        `uri` is a file, or a directory of files that workers write at once, as it looks: `sink_to_single_file` decides
        where a name is unclear.
        """
        dst = ParquetDst(uri, **passed_on(locals(), *_KEPT))
        return self._ready()._start(dst, optimizations, sink_to_single_file)

    def sink_csv(
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
        sink_to_single_file: bool | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; its rows go to CSV files. See `sink_parquet` for `uri`, Polars for the rest."""
        dst = CsvDst(uri, **passed_on(locals(), *_KEPT))
        return self._ready()._start(dst, optimizations, sink_to_single_file)

    def sink_ipc(
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
        sink_to_single_file: bool | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; its rows go to Arrow files. See `sink_parquet` for `uri`, Polars for the rest."""
        dst = IpcDst(uri, **passed_on(locals(), *_KEPT))
        return self._ready()._start(dst, optimizations, sink_to_single_file)

    def sink_ndjson(
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
        sink_to_single_file: bool | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; its rows go to JSON lines. See `sink_parquet` for `uri`, Polars for the rest."""
        dst = NdjsonDst(uri, **passed_on(locals(), *_KEPT))
        return self._ready()._start(dst, optimizations, sink_to_single_file)

    def sink_delta(
        self,
        uri: str | Path,
        *,
        mode: Literal["error", "append", "overwrite"] = "error",
        partition_by: str | Sequence[str] | None = None,
        overwrite: Literal["table", "partitions"] | None = None,
        overwrite_where: str | None = None,
        schema_evolution: Literal["none", "merge"] | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; the workers write its rows into a Delta table, and one commit makes them part of it. See
        :class:`DeltaDst`."""
        dst = DeltaDst(uri, **passed_on(locals(), *_KEPT))
        return self._ready()._start(dst, optimizations)

    def sink_iceberg(
        self,
        target: str | Path,
        *,
        mode: Literal["error", "append", "overwrite"],
        catalog: object = None,
        storage_options: dict[str, Any] | None = None,
        partition_by: str | Sequence[str] | None = None,
        overwrite: Literal["table", "partitions"] | None = None,
        overwrite_where: str | None = None,
        schema_evolution: Literal["none", "merge"] | None = None,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; the workers write its rows into an Iceberg table, and one commit makes them part of it. See
        :class:`IcebergDst`."""
        dst = IcebergDst(target, **passed_on(locals(), "target", *_KEPT))
        return self._ready()._start(dst, optimizations)

    def sink_batches(
        self,
        function: Callable[[pl.DataFrame], bool | None],
        *,
        chunk_size: int | None = None,
        maintain_order: bool = False,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> DirectQuery:
        """Start the query; `function` gets its rows in this process, batch by batch and in order, until it returns `True`."""
        dst = CallbackDst(function, chunk_size=chunk_size, maintain_order=maintain_order)
        return self._ready()._start(dst, optimizations)
