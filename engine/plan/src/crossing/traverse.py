"""Reads a LazyFrame of Polars 2.1, resolved by Polars itself, out as plain data: `cross(lf)`.

The plan is walked by the traverser that Polars offers to other engines (`lf._ldf.visit()`), before optimization. What
comes out is a dict of lists, ints and strings with a version of its own (VERSION): `nodes` and `exprs` name each other by
their position, children first, so that no depth is nested. `crossing/data.rs` is the reader. What the traverser cannot
show is not guessed: it is an expression of kind `unknown` with its name, and the reader refuses it.
"""

import base64
import math

VERSION = 2
TRAVERSER = (16, 0)
MAX_NODES = 20_000
MAX_EXPRS = 400_000


class TooLarge(Exception):
    pass


def dtype(pl, dt):
    """A dtype: its name, or a list that begins with it."""
    if isinstance(dt, type):
        dt = dt()
    name = type(dt).__name__
    if name == "Decimal":
        return [name, dt.precision if dt.precision is not None else 38, dt.scale]
    if name == "Datetime":
        return [name, dt.time_unit or "us", dt.time_zone]
    if name == "Duration":
        return [name, dt.time_unit or "us"]
    if name == "List":
        return [name, dtype(pl, dt.inner)]
    if name == "Array":
        return [name, dtype(pl, dt.inner), dt.size]
    if name == "Struct":
        return [name, [[f.name, dtype(pl, f.dtype)] for f in dt.fields]]
    if name == "Enum":
        return [name, dt.categories.to_list()]
    if name == "Categorical":
        return [name]
    return name


def dtype_from(pl, data):
    """The inverse of `dtype`."""
    if isinstance(data, str):
        return getattr(pl, data)()
    name = data[0]
    if name == "Datetime":
        return pl.Datetime(data[1], data[2])
    if name == "List":
        return pl.List(dtype_from(pl, data[1]))
    if name == "Array":
        # Lists of sizes nest from the inside.
        return pl.Array(dtype_from(pl, data[1]), data[2])
    if name == "Struct":
        return pl.Struct([pl.Field(n, dtype_from(pl, d)) for n, d in data[1]])
    return getattr(pl, name)(*data[1:])


def values(pl, series):
    """The values of a series as what JSON holds: numbers of days or units for time, unscaled numbers as text for decimals."""
    dt = series.dtype
    if dt == pl.List or isinstance(dt, pl.Array):
        return [None if item is None else values(pl, item) for item in series]
    if dt == pl.Struct:
        fields = [values(pl, series.struct.field(f.name)) for f in dt.fields]
        rows = [list(row) for row in zip(*fields)] if fields else [[] for _ in range(len(series))]
        return [row if valid else None for row, valid in zip(rows, series.is_not_null())]
    if dt == pl.Decimal:
        return [None if v is None else str(int(v.scaleb(dt.scale))) for v in series]
    if dt.is_temporal():
        return [None if v is None else str(v) for v in series.to_physical()]
    if dt == pl.Binary:
        return [None if v is None else base64.b64encode(v).decode() for v in series]
    if dt.is_float():
        return [v if v is None or math.isfinite(v) else str(v) for v in series]
    if dt in (pl.Categorical, pl.Enum):
        return series.cast(pl.String).to_list()
    if dt.is_integer():
        return [None if v is None else str(v) for v in series]
    if dt in (pl.String, pl.Boolean, pl.Null):
        return series.to_list()
    raise NotImplementedError(f"values of type {dt}")


def plain(pl, value):
    """An argument of a function, which is whatever Polars put there."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, (list, tuple)):
        return [plain(pl, item) for item in value]
    if isinstance(value, bytes):
        return {"binary": base64.b64encode(value).decode()}
    if isinstance(value, pl.DataType) or (isinstance(value, type) and issubclass(value, pl.DataType)):
        return {"dtype": dtype(pl, value)}
    raise NotImplementedError(f"an argument of type {type(value).__name__}")


class Crossing:
    def __init__(self, pl, nt):
        self.pl, self.nt = pl, nt
        self.nodes, self.exprs = [], []
        self.node_at, self.expr_at = {}, {}

    def add(self, expr):
        if len(self.exprs) >= MAX_EXPRS:
            raise TooLarge(f"the query has more than {MAX_EXPRS} expressions once it is resolved")
        self.exprs.append(expr)
        return len(self.exprs) - 1

    def literal(self, e):
        pl = self.pl
        if type(e.value).__name__ == "PySeries":
            series = pl.wrap_s(e.value)
            return {"kind": "series", "name": series.name, "dtype": dtype(pl, series.dtype), "values": values(pl, series)}
        dt = e.dtype() if isinstance(e.dtype, type) else e.dtype
        value = e.value
        if dt == pl.Null or value is None:
            return {"kind": "literal", "dtype": dtype(pl, dt), "value": None}
        if type(dt).__name__ == "Unknown" or isinstance(value, list) and not dt.is_nested():
            return {"kind": "dyn", "value": value}
        if type(dt).__name__ == "Duration":
            return {"kind": "literal", "dtype": dtype(pl, dt), "value": str(value)}
        series = pl.Series("", [value], dtype=dt)
        return {"kind": "literal", "dtype": dtype(pl, dt), "value": values(pl, series)[0]}

    def span(self, root, depth=0):
        """The first place in the arena that belongs to the expression at `root`, as it was put there: children before
        their parent, side by side. None where what is seen does not fit that."""
        try:
            e = self.nt.view_expression(root)
        except NotImplementedError:
            return None
        end = root
        for child in reversed(children(e)):
            at = self.original(child, end - 1, root)
            if at is None:
                return None
            first = self.span(at, depth + 1)
            if first is None:
                return None
            end = first
        return end

    def original(self, child, expected, parent):
        """Where a child stood before types were settled: that step puts literals and casts at the end of the arena."""
        if child == expected:
            return child
        if child <= parent:
            return None
        e = self.nt.view_expression(child)
        kind = type(e).__name__
        if kind == "Cast" and e.expr == expected:
            return expected
        if kind == "Literal" and type(self.nt.view_expression(expected)).__name__ == "Literal":
            return expected
        return None

    def row_encode(self, at):
        """The keys of a window's ORDER BY of several keys. Their expression cannot be seen, but it stands right after
        them; `first` is recognized by the mark that was put into the text."""
        roots, end = [], at
        while end > 0 and len(roots) < 64:
            root = end - 1
            first = self.span(root)
            if first is None:
                break
            roots.append(root)
            end = first
            if self.marked(root):
                return {"kind": "row_encode", "input": [self.expr(r) for r in reversed(roots)]}
        raise NotImplementedError("row_encode")

    def evaluated_list(self, at):
        """`list.reverse()` and `list.unique()` are `list.eval(element().reverse())` and so on, which cannot be seen, but
        stand right after their parts: the list's place and the function."""
        if at < 3:
            return None
        kind, e, inputs = self.parts(at - 1)
        known = kind == "Function" and e.function_data[0] in ("reverse", "unique") and inputs == [at - 2]
        if known and self.parts(at - 2)[0] == "element" and self.span(at - 3) is not None:
            return at - 3, e.function_data
        return None

    def needle(self, at):
        """`is_in` of numbers in a list of others cannot be seen, but stands right after these two. That they are is
        checked by their types: its name has the type that the number is cast to."""
        first = self.span(at - 1) if at > 1 else None
        if not first or self.span(first - 1) is None:
            return None
        value, items = self.type_of(first - 1), self.type_of(at - 1)
        if not (value and value.is_numeric() and isinstance(items, self.pl.List) and items.inner.is_numeric()):
            return None
        to = self.parts(at)[0].removeprefix("is_in[needle: ").removesuffix("]")
        alike = to.startswith("decimal[") if items.inner.is_decimal() else to == items.inner._string_repr()
        return (first - 1, at - 1) if alike else None

    def approx_quantile(self, at):
        """`approx_quantile(x, q)` is an estimate from a sketch; neither can be seen, but they stand right after x and q."""
        q = self.span(at - 2) if at > 2 and self.parts(at - 1)[0] == "approx_quantile_sketch" else None
        if not q or self.parts(at - 2)[0] != "Literal" or self.span(q - 1) is None:
            return None
        return q - 1, at - 2

    def marked(self, root):
        e = self.nt.view_expression(root)
        if type(e).__name__ != "Ternary":
            return False
        p = self.nt.view_expression(e.predicate)
        if type(p).__name__ != "Function" or str(p.function_data[0]) != "BooleanFunction.IsNull":
            return False
        mark = self.nt.view_expression(p.input[0])
        return type(mark).__name__ == "Literal" and isinstance(mark.value, str) and mark.value.startswith("__floe_order_")

    def parts(self, at):
        """The kind of one expression, and its children in the order in which `built` wants them."""
        try:
            e = self.nt.view_expression(at)
        except NotImplementedError as error:
            return str(error), None, []
        return type(e).__name__, e, children(e)

    def expr(self, root):
        """The position of an expression, children first; a stack of its own, since texts can nest deeply."""
        stack = [(root, False)]
        while stack:
            at, done = stack.pop()
            if at in self.expr_at:
                continue
            kind, e, inputs = self.parts(at)
            if not done and inputs:
                stack.append((at, True))
                stack.extend((child, False) for child in reversed(inputs) if child not in self.expr_at)
                if len(stack) > MAX_EXPRS:
                    raise TooLarge(f"the query has more than {MAX_EXPRS} expressions once it is resolved")
                continue
            self.expr_at[at] = self.add(self.built(at, kind, e))
        return self.expr_at[root]

    def built(self, at, kind, e):
        X = self.expr_at.__getitem__
        pl = self.pl
        if e is None:
            if kind == "row_encode":
                try:
                    return self.row_encode(at)
                except NotImplementedError:
                    pass
            if kind == "list.eval" and (found := self.evaluated_list(at)) is not None:
                of, function = found
                name, *args = function
                return {"kind": "list_eval", "name": str(name), "args": plain(pl, args), "input": self.expr(of)}
            if kind.startswith("is_in[") and (found := self.needle(at)) is not None:
                args = [False, *self.decimals(found)]
                return {"kind": "function", "name": "BooleanFunction.IsIn", "args": args, "input": [self.expr(i) for i in found]}
            if kind == "approx_quantile_estimate" and (found := self.approx_quantile(at)) is not None:
                return {"kind": "function", "name": "approx_quantile", "args": [], "input": [self.expr(i) for i in found]}
            return {"kind": "unknown", "name": kind}
        if kind == "Column":
            return {"kind": "column", "name": e.name}
        if kind == "Literal":
            try:
                return self.literal(e)
            except NotImplementedError as error:
                return {"kind": "unknown", "name": str(error)}
        if kind == "BinaryExpr":
            return {"kind": "binary", "op": str(e.op).rpartition(".")[2], "left": X(e.left), "right": X(e.right)}
        if kind == "Cast":
            out = {"kind": "cast", "input": X(e.expr), "dtype": dtype(pl, e.dtype), "options": e.options}
            if e.dtype.is_integer() and isinstance(of := self.type_of(e.expr), pl.Decimal):
                out["from"] = dtype(pl, of)
            return out
        if kind == "Ternary":
            return {"kind": "ternary", "predicate": X(e.predicate), "truthy": X(e.truthy), "falsy": X(e.falsy)}
        if kind == "Len":
            return {"kind": "len"}
        if kind == "Agg":
            return {"kind": "agg", "name": e.name, "input": [X(i) for i in e.arguments], "options": plain(pl, e.options)}
        if kind == "Filter":
            return {"kind": "filter", "input": X(e.input), "by": X(e.by)}
        if kind == "Gather":
            return {"kind": "gather", "input": X(e.expr), "index": X(e.idx), "scalar": e.scalar}
        if kind == "Explode":
            return {"kind": "explode", "input": X(e.expr), "options": list(e.options)}
        if kind == "Slice":
            return {"kind": "slice", "input": X(e.input), "offset": X(e.offset), "length": X(e.length)}
        if kind == "Alias":
            return {"kind": "alias", "input": X(e.expr), "name": e.name}
        if kind == "Sort":
            maintain, nulls_last, descending = e.options
            return {"kind": "sort", "input": X(e.expr), "maintain_order": maintain, "nulls_last": nulls_last, "descending": descending}
        if kind == "SortBy":
            maintain, nulls_last, descending = e.sort_options
            return {
                "kind": "sort_by",
                "input": X(e.expr),
                "by": [X(i) for i in e.by],
                "maintain_order": maintain,
                "nulls_last": list(nulls_last),
                "descending": list(descending),
            }
        if kind == "Window":
            return {
                "kind": "over",
                "input": X(e.function),
                "partition_by": [X(i) for i in e.partition_by],
                "order_by": None if e.order_by is None else X(e.order_by),
                "descending": e.order_by_descending,
                "nulls_last": e.order_by_nulls_last,
                "mapping": e.options.kind,
            }
        if kind == "Rolling":
            return {
                "kind": "rolling",
                "input": X(e.function),
                "index": X(e.index_column),
                "period": list(e.period),
                "offset": list(e.offset),
                "closed": e.closed_window,
            }
        if kind == "Function":
            data = e.function_data
            data = data if isinstance(data, tuple) else (data,)
            name = str(data[0])
            try:
                args = [plain(pl, item) for item in data[1:]]
            except NotImplementedError as error:
                return {"kind": "unknown", "name": f"{name} with {error}"}
            if name in WITH_DECIMALS:
                args += self.decimals(e.input)
            out = {"kind": "function", "name": name, "args": args, "input": [X(i) for i in e.input]}
            if name in RETURNS_A_TYPE:
                try:
                    out["dtype"] = dtype(pl, self.nt.get_dtype(at))
                except Exception:
                    return {"kind": "unknown", "name": f"{name} of a type that cannot be told"}
            return out
        return {"kind": "unknown", "name": kind}

    def decimals(self, inputs):
        """The types of the inputs, if one is of decimals: these are what the engine wants alike."""
        types = [self.type_of(i) for i in inputs]
        inner = [dt.inner if isinstance(dt, (self.pl.List, self.pl.Array)) else dt for dt in types]
        if None in inner or not any(isinstance(dt, self.pl.Decimal) for dt in inner):
            return []
        return [{"dtype": dtype(self.pl, dt)} for dt in inner]

    def type_of(self, at):
        """The type of an expression over the columns of the current node; None where it cannot be told."""
        try:
            return self.nt.get_dtype(at)
        except self.pl.exceptions.PolarsError:
            return None

    def named(self, exprs):
        return [[e.output_name, self.expr(e.node)] for e in exprs]

    def schema(self):
        return [[name, dtype(self.pl, dt)] for name, dt in self.nt.get_schema().items()]

    def under(self, inputs, exprs):
        """`exprs` with the schema of `inputs` in place, which tells the types of expressions."""
        here = self.nt.get_node()
        if len(inputs) == 1:
            self.nt.set_node(inputs[0])
        out = exprs()
        self.nt.set_node(here)
        return out

    def node(self, root):
        """The position of a plan node, inputs first."""
        stack = [(root, False)]
        while stack:
            at, done = stack.pop()
            if at in self.node_at:
                continue
            self.nt.set_node(at)
            inputs = list(self.nt.get_inputs())
            if not done and inputs:
                stack.append((at, True))
                stack.extend((child, False) for child in reversed(inputs))
                if len(stack) > MAX_NODES:
                    raise TooLarge(f"the query has more than {MAX_NODES} plan nodes once it is resolved")
                continue
            if len(self.nodes) >= MAX_NODES:
                raise TooLarge(f"the query has more than {MAX_NODES} plan nodes once it is resolved")
            try:
                node = self.described(inputs)
            except NotImplementedError as error:
                # The traverser does not show these two, but their inputs: the anchor and the step, or none.
                recursive = {2: "recursive", 0: "working_table"} if str(error) == "recursive query" else {}
                node = {"kind": recursive[len(inputs)]} if len(inputs) in recursive else {"kind": "unknown", "name": str(error)[:200]}
            node["inputs"] = [self.node_at[i] for i in inputs]
            node["schema"] = self.schema()
            self.nodes.append(node)
            self.node_at[at] = len(self.nodes) - 1
        return self.node_at[root]

    def described(self, inputs):
        v = self.nt.view_current_node()
        kind, E, pl = type(v).__name__, self.named, self.pl
        if kind == "DataFrameScan":
            df = pl.DataFrame._from_pydf(v.df) if not isinstance(v.df, pl.DataFrame) else v.df
            out = {"kind": "frame", "columns": df.columns, "dtypes": [dtype(pl, d) for d in df.dtypes], "height": df.height}
            # Frames that stand for tables are long and empty.
            out["nulls"] = df.height > 1000 and all(s.null_count() == df.height for s in df.iter_columns())
            out["values"] = [values(pl, s) for s in df.iter_columns()] if df.height and not out["nulls"] else []
            return out
        if kind == "Filter":
            return {"kind": "filter", "predicate": self.under(inputs, lambda: self.expr(v.predicate.node))}
        if kind == "Select":
            return {"kind": "select", "exprs": self.under(inputs, lambda: E(v.expr)), "broadcast": v.should_broadcast}
        if kind == "HStack":
            return {"kind": "with_columns", "exprs": self.under(inputs, lambda: E(v.exprs)), "broadcast": v.should_broadcast}
        if kind == "SimpleProjection":
            return {"kind": "project"}
        if kind == "GroupBy":
            if v.options.dynamic is not None or v.options.rolling is not None:
                return {"kind": "unknown", "name": "group_by_dynamic or rolling"}
            keys, aggs = self.under(inputs, lambda: (E(v.keys), E(v.aggs)))
            return {"kind": "group_by", "keys": keys, "aggs": aggs, "maintain_order": v.maintain_order, "slice": v.options.slice}
        if kind == "Join":
            how, nulls_equal, slice_, suffix, coalesce, maintain_order = v.options
            left = self.under(inputs[:1], lambda: [self.expr(e.node) for e in v.left_on])
            right = self.under(inputs[1:], lambda: [self.expr(e.node) for e in v.right_on])
            predicate = None
            if v.predicate is not None:
                predicate = self.expr(v.predicate if isinstance(v.predicate, int) else v.predicate.node)
            return {
                "kind": "join",
                "how": plain(pl, how),
                "left_on": left,
                "right_on": right,
                "predicate": predicate,
                "nulls_equal": nulls_equal,
                "slice": slice_,
                "suffix": suffix,
                "coalesce": coalesce,
                "maintain_order": maintain_order,
            }
        if kind == "Sort":
            maintain, nulls_last, descending = v.sort_options
            return {
                "kind": "sort",
                "by": self.under(inputs, lambda: [e for _, e in E(v.by_column)]),
                "maintain_order": maintain,
                "nulls_last": list(nulls_last),
                "descending": list(descending),
                "slice": list(v.slice)[:2] if v.slice else None,
            }
        if kind == "Slice":
            return {"kind": "slice", "offset": v.offset, "len": v.len}
        if kind == "Union":
            return {"kind": "union", "slice": v.slice, "maintain_order": v.maintain_order}
        if kind == "HConcat":
            return {"kind": "hconcat", "options": plain(pl, v.options)}
        if kind == "Distinct":
            keep, subset, maintain_order, slice_ = v.options
            return {"kind": "distinct", "keep": keep, "subset": subset, "maintain_order": maintain_order, "slice": slice_}
        if kind == "Cache":
            return {"kind": "cache", "id": f"{v.id_:032x}"}
        if kind == "MapFunction":
            name, *args = v.function
            return {"kind": "map", "name": name, "args": plain(pl, args)}
        if kind == "MergeSorted":
            return {"kind": "merge_sorted", "key": plain(pl, v.key)}
        return {"kind": "unknown", "name": kind}


RETURNS_A_TYPE = {
    "StringFunction.Strptime",
    "StringFunction.ToInteger",
    "StringFunction.JsonDecode",
    "ArrayFunction.Dot",
    "replace_strict",
    "as_struct",
    "coalesce",
    "trunc_int_div",
    "trunc_rem",
    "decimal_mul",
    "decimal_div",
}


WITH_DECIMALS = {"BooleanFunction.IsIn", "trunc_int_div"}


def children(e):
    kind = type(e).__name__
    if kind == "BinaryExpr":
        return [e.left, e.right]
    if kind == "Ternary":
        return [e.predicate, e.truthy, e.falsy]
    if kind == "Agg":
        return list(e.arguments)
    if kind == "Function":
        return list(e.input)
    if kind in ("Cast", "Explode", "Sort", "Alias"):
        return [e.expr]
    if kind == "Gather":
        return [e.expr, e.idx]
    if kind == "Filter":
        return [e.input, e.by]
    if kind == "Slice":
        return [e.input, e.offset, e.length]
    if kind == "SortBy":
        return [e.expr, *e.by]
    if kind == "Window":
        # As Polars puts them: the function, the order, the keys.
        return [e.function, *([] if e.order_by is None else [e.order_by]), *e.partition_by]
    if kind == "Rolling":
        return [e.function, e.index_column]
    return []


def cross(pl, lf):
    ldf = lf._ldf.with_optimizations(pl.QueryOptFlags.none()._pyoptflags)
    nt = ldf.visit()
    if nt.version() != TRAVERSER:
        raise RuntimeError(f"the plan traverser of Polars {pl.__version__} is version {nt.version()}, {TRAVERSER} is needed")
    crossing = Crossing(pl, nt)
    root = crossing.node(nt.get_node())
    return {"version": VERSION, "polars": pl.__version__, "root": root, "nodes": crossing.nodes, "exprs": crossing.exprs}
