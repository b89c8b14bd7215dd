"""The sinks of `floe.Engine`, with the arguments of Polars' own in all of its versions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import polars as pl
from polars.lazyframe.opt_flags import DEFAULT_QUERY_OPT_FLAGS

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
    from polars.io.parquet.encryption import ParquetEncryptionProperties
    from polars.io.partition import PartitionBy, SinkedPathsCallback

#: Arguments that some versions of Polars do not have: pass them on only if they are set.
_OF_SOME = ("encryption", "lazy", "retries", "sinked_paths_callback", "_record_batch_statistics")


def _given(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a sink, without its plan and its target."""
    return passed_on(arguments, "self", "lf", "path", *(name for name in _OF_SOME if not arguments.get(name)))


class EngineSinks(ABC):
    """Writes the rows of a query, as the `sink_*` methods of a LazyFrame ask an engine to."""

    @abstractmethod
    def _sink(self, lf: pl.LazyFrame, kind: str, path: Any, arguments: dict[str, Any]) -> Any: ...

    def sink_parquet(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | PartitionBy,
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
        metadata: ParquetMetadata | None = None,
        arrow_schema: ArrowSchemaExportable | None = None,
        encryption: ParquetEncryptionProperties | None = None,
        mkdir: bool = False,
        sinked_paths_callback: SinkedPathsCallback | None = None,
        retries: int | None = None,
        lazy: bool = False,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> Any:
        """See :meth:`polars.LazyFrame.sink_parquet`."""
        return self._sink(lf, "parquet", path, _given(locals()))

    def sink_ipc(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | PartitionBy,
        *,
        compression: IpcCompression | None = "uncompressed",
        compat_level: CompatLevel | None = None,
        record_batch_size: int | None = None,
        maintain_order: bool = True,
        storage_options: dict[str, Any] | None = None,
        credential_provider: CredentialProviderFunction | Literal["auto"] | None = "auto",
        sync_on_close: SyncOnCloseMethod | None = None,
        mkdir: bool = False,
        _record_batch_statistics: bool = False,
        sinked_paths_callback: SinkedPathsCallback | None = None,
        retries: int | None = None,
        lazy: bool = False,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> Any:
        """See :meth:`polars.LazyFrame.sink_ipc`."""
        return self._sink(lf, "ipc", path, _given(locals()))

    def sink_csv(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | IO[str] | PartitionBy,
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
        retries: int | None = None,
        lazy: bool = False,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> Any:
        """See :meth:`polars.LazyFrame.sink_csv`."""
        return self._sink(lf, "csv", path, _given(locals()))

    def sink_ndjson(
        self,
        lf: pl.LazyFrame,
        path: str | Path | IO[bytes] | IO[str] | PartitionBy,
        *,
        compression: Literal["uncompressed", "gzip", "zstd"] = "uncompressed",
        compression_level: int | None = None,
        check_extension: bool = True,
        maintain_order: bool = True,
        storage_options: dict[str, Any] | None = None,
        credential_provider: CredentialProviderFunction | Literal["auto"] | None = "auto",
        sync_on_close: SyncOnCloseMethod | None = None,
        mkdir: bool = False,
        retries: int | None = None,
        lazy: bool = False,
        optimizations: pl.QueryOptFlags = DEFAULT_QUERY_OPT_FLAGS,
    ) -> Any:
        """See :meth:`polars.LazyFrame.sink_ndjson`."""
        return self._sink(lf, "ndjson", path, _given(locals()))
