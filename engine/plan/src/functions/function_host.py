"""Calls the Python functions of a plan, with the Polars that this interpreter has.

Started by the engine as `python -I -B function_host.py <bytes of memory>`, with an empty environment and limits on what it
and all that it starts may use. Requests come as the length of their head in eight hexadecimal digits, a line of JSON, a
line with the sizes of bodies, and the bodies; answers go as a length of eight bytes, a byte that is zero unless the call
failed, and their content. Columns are Arrow IPC streams of one column. What functions print goes to where errors go.
"""

import functools
import io
import json
import operator
import os
import sys


def framed(out, failed, content):
    out.write((len(content) + 1).to_bytes(8, "little") + (b"\1" if failed else b"\0"))
    out.write(content)
    out.flush()


def limit_memory(extra_bytes):
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:
            mapped = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + extra_bytes, mapped + extra_bytes))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except Exception:
        pass  # Not Linux: the engine watches memory, too.


def own_streams():
    """The pipes to the engine, out of the functions' reach: they may print, and close what they find."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, sink


def name_of(function):
    """What the user calls it: wrappers of Polars have it inside."""
    for _ in range(8):
        inner = getattr(function, "function", None) or getattr(function, "func", None)
        if inner is None:
            closure = getattr(function, "__closure__", None) or ()
            module = getattr(function, "__module__", None) or ""
            held = [cell.cell_contents for cell in closure if callable(getattr(cell, "cell_contents", None))]
            inner = held[0] if module.startswith("polars.") and held else None
        if inner is None:
            break
        function = inner
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


class Host:
    def __init__(self, pl):
        from polars._utils.wrap import wrap_df, wrap_s

        self.pl, self.wrap_df, self.wrap_s = pl, wrap_df, wrap_s
        self.functions, self.types = {}, {}

    def define(self, head, bodies):
        import pickle

        function = pickle.loads(bodies[0])
        self.functions[head["key"]] = (head["kind"], function, json.loads(head["args"] or "{}"))
        return name_of(function).encode()

    def call(self, head, bodies):
        pl = self.pl
        columns = [pl.read_ipc_stream(io.BytesIO(body)).to_series() for body in bodies]
        if head["type"] == "new":
            self.types[head["key"]] = columns.pop().dtype
        dtype = None if head["type"] == "none" else self.types[head["key"]]
        kind, function, args = self.functions[head["key"]]
        one = functools.partial(getattr(self, "of_" + kind), function, args)
        if groups := head.get("groups"):
            result = self.of_groups(one, columns[0], head["names"], groups == "scalar", dtype)
        else:
            result = one([column.alias(name) for column, name in zip(columns, head["names"])], dtype).to_frame()
        out = io.BytesIO()
        result.rechunk().write_ipc_stream(out)
        return out.getvalue()

    def of_groups(self, one, lists, names, scalar, dtype):
        """Calls a function for each group: its rows are a list, or a struct of one for each column. Gives one row for each
        group, or all rows and the number of the group of each."""
        pl = self.pl
        dtype = dtype if scalar else dtype.inner
        columns = [lists] if len(names) == 1 else lists.struct.unnest().get_columns()
        groups = zip(*map(self.rows_of_lists, columns, names))
        given = [one(list(group), dtype) for group in groups]
        if scalar:
            given = [self.one_row(series) for series in given]
        kinds = {series.dtype for series in given}
        if len(kinds) > 1:
            given = [series.cast(dtype) for series in given]
        rows = pl.concat(given) if given else pl.Series([], dtype=dtype)
        result = rows.alias("rows").to_frame()
        if not scalar:
            lengths = pl.DataFrame({"length": [len(series) for series in given]}, schema={"length": pl.UInt32})
            numbered = lengths.select(pl.int_range(pl.len(), dtype=pl.UInt32).alias("group"), "length").filter(pl.col("length") > 0)
            result = result.with_columns(numbered.select(pl.col("group").repeat_by("length").explode()).to_series())
        return result

    def rows_of_lists(self, lists, name):
        lengths = lists.list.len()
        rows, at = lists.filter(lengths > 0).explode().alias(name), 0
        for length in lengths:
            yield rows.slice(at, length)
            at += length

    def one_row(self, series):
        if len(series) > 1:
            raise self.pl.exceptions.InvalidOperationError(f"expected scalar for expr: python_udf(), got {series}")
        return series if len(series) else self.pl.Series(series.name, [None], dtype=series.dtype)

    def of_columns(self, function, args, columns, dtype):
        return self.wrap_s(function([column._s for column in columns], return_dtype=dtype))

    def of_frame(self, function, args, columns, dtype):
        result = function(columns[0].struct.unnest())
        if not isinstance(result, self.pl.DataFrame):
            raise self.pl.exceptions.ComputeError(
                f"Expected 'LazyFrame.map' to return a 'DataFrame', got a '{type(result)}'"
            )
        return result.to_struct(columns[0].name)

    def of_group(self, function, args, columns, dtype):
        return self.wrap_df(function(columns[0].struct.unnest()._df)).to_struct(columns[0].name)

    def of_fold(self, function, args, columns, dtype):
        result, *others = columns
        for other in others:
            result = self.wrap_s(function((result._s, other._s)))
        return result

    def of_cum_fold(self, function, args, columns, dtype):
        (result, *others), kept = columns, []
        if args["first"]:
            kept.append(result)
        for other in others:
            result = self.wrap_s(function((result._s, other._s)))
            wanted = dtype.fields[len(kept)].dtype
            if args["scalar"] and len(result) != 1:
                raise self.pl.exceptions.InvalidOperationError(
                    f"`{args['name']}` is said to return scalar but returned {len(result)} elements"
                )
            if args["declared"] and result.dtype != wanted:
                raise self.pl.exceptions.ComputeError(
                    f"`{args['name']}` did not return given return_dtype ({wanted} != {result.dtype})"
                )
            result = result.cast(wanted).alias(other.name)
            kept.append(result)
        height = max(len(column) for column in kept)
        whole = [column if len(column) == height else column.new_from_index(0, height) for column in kept]
        return self.pl.DataFrame(whole).to_struct(result.name)

    def of_rolling(self, function, args, columns, dtype):
        from polars._utils.wrap import wrap_expr

        column = columns[0]
        windows = self.pl.col(column.name)._pyexpr.rolling_map(
            function, args["window_size"], args["weights"], args["min_periods"], args["center"]
        )
        return column.to_frame().select(wrap_expr(windows)).to_series()

    def of_names(self, function, args, columns, dtype):
        return self.pl.Series(columns[0].name, [function(name) for name in columns[0]], dtype=self.pl.String)

    def of_schema(self, function, args, columns, dtype):
        schema = function()
        return self.pl.DataFrame(schema=schema).to_struct("schema")

    def of_source(self, function, args, columns, dtype):
        predicate = args.get("predicate")
        predicate = predicate and self.predicate(predicate).meta.serialize()
        given, _ = function(args.get("columns"), predicate, args.get("rows"), None)
        frames, rows = [], 0
        for frame in given:
            if frame.width:
                frames.append(frame)
                rows += frame.height
            if args.get("rows") is not None and rows >= args["rows"]:
                break
        names = [field.name for field in dtype.fields]
        if not frames:
            return self.pl.Series("source", [], dtype=dtype)
        return self.pl.concat(frames).select(names).to_struct("source")

    def predicate(self, said):
        """The expression of a filter that was moved to a source."""
        kind, first, *rest = said
        if kind == "col":
            return self.pl.col(first)
        if kind == "lit":
            return self.literal(first)
        first = self.predicate(first)
        if kind == "is_in":
            return first.is_in([self.value(value)[0] for value in rest[0]])
        if kind in ("is_null", "is_not_null"):
            return getattr(first, kind)()
        if kind == "not":
            return ~first
        return getattr(operator, {"and": "and_", "or": "or_"}.get(kind, kind))(first, self.predicate(rest[0]))

    def literal(self, value):
        value, dtype = self.value(value)
        return self.pl.lit(value, dtype=dtype)

    def value(self, value):
        """A value, and its type where it does not follow from the value."""
        if "plain" in value:
            return value["plain"], None
        if "date" in value:
            return self.pl.Series([value["date"]], dtype=self.pl.Int32).cast(self.pl.Date).item(), None
        dtype = self.pl.Datetime(value["unit"], value["zone"])
        return self.pl.Series([value["datetime"]], dtype=self.pl.Int64).cast(dtype).item(), dtype


def failure(error):
    """The error as the user knows it, with the frames of their own code: not this file's, nor those of Polars, whose wrappers
    may have travelled with a function."""
    import traceback

    lines = []
    for frame in traceback.extract_tb(error.__traceback__):
        travelled = frame.filename.startswith("<")
        if frame.filename == __file__ or f"{os.sep}polars{os.sep}" in frame.filename:
            continue
        if travelled and frame.name in ("_wrap", "wrap_f", "wrapper", "wrap_threading"):
            continue
        lines.append(f"  line {frame.lineno}, in {frame.name}" if travelled else f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}')
        if frame.line:
            lines.append(f"    {frame.line}")
    known = {"class": type(error).__name__, "message": str(error)[:20000], "trace": "\n".join(lines[-40:])}
    return json.dumps(known).encode()


def main():
    source, sink = own_streams()
    # The packages that were asked for, then the client's own modules: never in place of this interpreter's.
    for name in ("FLOE_PACKAGES", "FLOE_PYTHON_PATH"):
        sys.path.extend(part for part in os.environ.pop(name, "").split(os.pathsep) if part)
    import polars as pl

    limit_memory(int(sys.argv[1]))
    host = Host(pl)
    hello = {"python": list(sys.version_info[:3]), "polars": pl.__version__}
    framed(sink, False, json.dumps(hello).encode())
    while length := source.read(8):
        head, sizes = (json.loads(line) for line in source.read(int(length, 16)).splitlines())
        bodies = [source.read(size) for size in sizes]
        try:
            answer = host.define(head, bodies) if head["op"] == "define" else host.call(head, bodies)
        except BaseException as error:  # What the function raised, its exit included.
            framed(sink, True, failure(error))
        else:
            framed(sink, False, answer)


main()
