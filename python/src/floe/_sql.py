"""`floe.sql`: a SQL text over named tables, as a query like any other."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Union

import polars as pl
from polars.io.partition import PartitionBy

from floe import _plan, _sinks
from floe._context import ClientContext, pick
from floe._dst import CallbackDst, ClientDst, CsvDst, ParquetDst, TableDst, TmpDst
from floe._options import Settings, ignored, one_of
from floe._query import DirectQuery, PlanType
from floe._remote import ExecuteRemote, LazyFrameRemote
from floe._request import Request
from floe._spawn import CallbackQuery
from floe.exceptions import UnsupportedPlanError

#: A URI, a frame, or the fields of one of `spec.tables`.
Table = Union[str, "os.PathLike[str]", pl.LazyFrame, pl.DataFrame, Mapping[str, Any]]

_SCANS = {
    ".parquet": ("parquet", pl.scan_parquet),
    ".pq": ("parquet", pl.scan_parquet),
    ".csv": ("csv", pl.scan_csv),
    ".tsv": ("csv", pl.scan_csv),
    ".ndjson": ("ndjson", pl.scan_ndjson),
    ".jsonl": ("ndjson", pl.scan_ndjson),
    ".ipc": ("ipc", pl.scan_ipc),
    ".arrow": ("ipc", pl.scan_ipc),
    ".feather": ("ipc", pl.scan_ipc),
}
#: Arguments of a sink that `spec.sink` has, by its name for them.
_SINK = {"compression": "compression", "compression_level": "compressionLevel", "row_group_size": "rowGroupSize"}
_CSV = {
    "include_header": "includeHeader",
    "include_bom": "includeBom",
    "separator": "separator",
    "line_terminator": "lineTerminator",
    "quote_char": "quoteChar",
    "quote_style": "quoteStyle",
    "null_value": "nullValue",
    "datetime_format": "datetimeFormat",
    "date_format": "dateFormat",
    "time_format": "timeFormat",
    "float_scientific": "floatScientific",
    "float_precision": "floatPrecision",
    "decimal_comma": "decimalComma",
}
#: Files whose name tells whether they are compressed, if nothing else does.
_TEXT = ("csv", "ndjson")
#: Arguments that change nothing of what is written: the rows are in order in any case, and a provider that is a function is
#: refused.
_MEANINGLESS = ("maintain_order", "credential_provider")


def sql(
    query: str,
    tables: Mapping[str, Table] | None = None,
    ctx: ClientContext | None = None,
    *,
    params: Mapping[str, Any] | None = None,
    views: Mapping[str, str] | None = None,
) -> LazyFrameRemote:
    """A SQL query over named tables: nothing runs before `collect`, `show`, `execute` or a sink.

    Parameters
    ----------
    query
        The text. What it means is said in Floe's documentation of SQL.
    tables
        Tables by name: URIs, paths or globs of files (Parquet where the name tells no format), LazyFrames, DataFrames, or
        the fields of `spec.tables`, such as `{"uri": …, "format": "csv", "options": {"separator": ";"}}`.
    ctx
        Where it runs. Left out, the context of `set_compute_context`.
    params
        Values for `$name` in the text. Not with tables that are frames.
    views
        Further queries by name, which the text uses as it does tables.

    Examples
    --------
    >>> import floe, polars as pl
    >>> sales = pl.DataFrame({"region": ["north", "south", "north"], "amount": [1, 2, 3]})
    >>> with floe.Local(workers=1) as ctx:
    ...     totals = floe.sql("select region, sum(amount) as total from sales group by region", {"sales": sales}, ctx)
    ...     sorted(totals.collect().rows())
    [('north', 4), ('south', 2)]
    """
    if not isinstance(query, str):
        raise TypeError(f"query: {type(query).__name__} is no text")
    tables = dict(tables or {})
    if any(isinstance(table, (pl.LazyFrame, pl.DataFrame)) for table in tables.values()):
        if params:
            raise ValueError(
                "params: not with tables that are frames; name their files, or write the values into the text"
            )
        return LazyFrameRemote(_over_frames(query, tables, views or {}), ctx)
    spec: dict[str, Any] = {"plan": {"sql": query}}
    if tables:
        spec["tables"] = {name: _fields(name, table) for name, table in tables.items()}
    if views:
        spec["views"] = dict(views)
    if params:
        spec["params"] = dict(params)
    return SqlRemote(spec, ctx)


def _over_frames(query: str, tables: Mapping[str, Table], views: Mapping[str, str]) -> pl.LazyFrame:
    """The text as a node of a plan. Polars 2.x keeps it as a text, which the engine resolves; older ones resolve it here."""
    frames = {name: _scan(name, table) for name, table in tables.items()}
    waiting = dict(views)
    while waiting:
        # A view may use others: those that cannot be made yet are tried again, until none can.
        made = {}
        error: Exception | None = None
        for name, text in waiting.items():
            try:
                view = pl.SQLContext(frames, eager=False).execute(text)
                view.collect_schema()
                made[name] = view
            except pl.exceptions.PolarsError as why:
                error = error or why
        if not made:
            assert error is not None
            raise error
        frames |= made
        waiting = {name: text for name, text in waiting.items() if name not in made}
    return pl.SQLContext(frames, eager=False).execute(query)


def _format(path: str) -> str | None:
    """The format that a name tells.

    >>> _format("data/x.CSV.gz"), _format("s3://lake/orders/")
    ('csv', None)
    """
    path = path.lower()
    for packed in (".gz", ".zst", ".zstd"):
        path = path.removesuffix(packed)
    found = _SCANS.get(os.path.splitext(path)[1])
    return None if found is None else found[0]


def _fields(name: str, table: Table) -> dict[str, Any]:
    """A table as `spec.tables` has it."""
    if isinstance(table, Mapping):
        fields = dict(table)
    elif isinstance(table, (str, os.PathLike)):
        fields = {"uri": os.fspath(table)}
    else:
        raise TypeError(f"tables: {name} is a {type(table).__name__}, neither a URI nor a frame")
    if not isinstance(fields.get("uri"), str):
        raise ValueError(f"tables: {name} has no uri")
    if "format" not in fields and _format(fields["uri"]) is None:
        fields["format"] = "parquet"
    return fields


def _scan(name: str, table: Table) -> pl.LazyFrame:
    """A table as a frame."""
    if isinstance(table, (pl.LazyFrame, pl.DataFrame)):
        return table.lazy()
    fields = _fields(name, table)
    format = fields.get("format") or _format(fields["uri"])
    scans = {format: scan for format, scan in _SCANS.values()}
    if format not in scans:
        raise ValueError(f"tables: {name} is {format}, which goes with frames only as pl.scan_{format}(…)")
    scan: Any = scans[format]
    frame = scan(fields["uri"], **fields.get("options", {}))
    assert isinstance(frame, pl.LazyFrame)
    return frame


class SqlRemote(LazyFrameRemote):
    """What `floe.sql` gives: a query that is a text, with the methods of `LazyFrame.remote`."""

    def __init__(self, spec: Mapping[str, Any], context: ClientContext | None) -> None:
        super().__init__(pl.LazyFrame(), context)
        self._spec = spec

    def _with(self, **settings: Any) -> ExecuteRemote:
        labels = self._labels | self._lineage
        return ExecuteSql(self._spec, self.context, Settings(labels=labels, **self._common, **settings))

    def __repr__(self) -> str:
        return f"<floe.sql {self._spec['plan']['sql']!r}>"


class ExecuteSql(ExecuteRemote):
    """A text of which it is known how it runs."""

    def __init__(self, spec: Mapping[str, Any], context: ClientContext | None, settings: Settings) -> None:
        super().__init__(pl.LazyFrame(), context, settings)
        self._spec = spec

    def _request(self, optimizations: pl.QueryOptFlags, **more: Any) -> Request:
        _plan.check_optimizations(optimizations)
        return Request(
            sql=self._spec,
            name="sql",
            execution=self._settings.execution(),
            labels=self._settings.labels,
            priority=self._settings.priority,
            min_workers=self._settings.min_workers,
            max_workers=self._settings.max_workers,
            **more,
        )

    def _rows(self, n: int | None, optimizations: pl.QueryOptFlags, silent: bool | None) -> pl.DataFrame:
        query = self._begun(self._request(optimizations))
        query._succeed(silent)
        with query._handed_over():
            return query._frame(n)

    def _begun(self, asked: Request) -> DirectQuery:
        return DirectQuery(pick(self.context)._submit(asked), _no_plan)

    def _start(self, dst: Any, optimizations: pl.QueryOptFlags, sink_to_single_file: bool | None = None) -> DirectQuery:
        if isinstance(dst, ClientDst) and dst.ttl is not None:
            ignored("ttl", "rows stay until they are read, or make room for those of later queries")
        if dst._kind is None:
            if sink_to_single_file is not None:
                raise ValueError(f"sink_to_single_file: {type(dst).__name__} writes no files")
            written = {"sink": dst._sink(), "sinks": True} if isinstance(dst, TableDst) else {}
            asked = self._request(optimizations, keep=isinstance(dst, TmpDst), **written)
        else:
            asked = self._request(optimizations, sinks=True, sink=_sink(dst, sink_to_single_file))
        query = self._begun(asked)
        query._dst = dst
        return CallbackQuery(query, asked, dst) if isinstance(dst, CallbackDst) else query

    def _explained(self, plan_stage: PlanType, optimizations: pl.QueryOptFlags) -> str:
        one_of("plan_stage", plan_stage, "physical", "ir")
        if plan_stage == "ir":
            return _no_plan()
        return pick(self.context)._explain(self._request(optimizations), "text")


def _no_plan() -> str:
    raise UnsupportedPlanError("plan 'ir': a SQL text is resolved by the engine, which shows its stages ('physical')")


def _sink(dst: Any, to_single_file: bool | None) -> dict[str, Any]:
    """`spec.sink` of a destination."""
    if isinstance(dst.uri, PartitionBy):
        raise UnsupportedPlanError(
            "a SQL query writes no PartitionBy: name a file or a directory, or give tables as frames"
        )
    uri = os.fspath(dst.uri)
    if isinstance(_sinks.target_of(uri, to_single_file), PartitionBy):
        uri = uri.rstrip("/") + "/"
    if _plan.is_local(uri) and "://" not in uri:
        uri = os.path.abspath(uri) + ("/" if uri.endswith("/") else "")
    _sinks.refuse_python(dst._kind, dst._arguments())
    # As the sinks of a LazyFrame.
    sink: dict[str, Any] = {"uri": uri, "format": dst._kind, "mode": "overwrite"}
    csv: dict[str, Any] = {}
    default = type(dst)(uri)._arguments()
    for name, value in dst._arguments().items():
        is_default = value is default[name] or value == default[name]
        if name in _SINK and value is not None and not (is_default and dst._kind in _TEXT):
            # What is written if nothing is said differs for Arrow files.
            sink[_SINK[name]] = "none" if value == "uncompressed" else value
        elif name in _CSV and isinstance(dst, CsvDst):
            if not is_default and value is not None:
                csv[_CSV[name]] = value
        elif name == "statistics" and isinstance(dst, ParquetDst) and isinstance(value, bool):
            sink["statistics"] = value
        elif name == "batch_size":
            if not is_default:
                ignored("batch_size", "the engine chooses how many rows of a SQL query it writes at a time")
        elif not is_default and name not in _MEANINGLESS:
            raise UnsupportedPlanError(f"a SQL query writes without {name}: leave it out, or give tables as frames")
    return sink | ({"csv": csv} if csv else {})
