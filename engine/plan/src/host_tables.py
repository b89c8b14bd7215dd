"""How the tables of a query are scanned: `spec.tables` by the functions `pl.scan_*`. For scripts and SQL alike."""

import os

from traverse import dtype_from


def make_scan(pl, tables, base):
    functions = {
        "parquet": pl.scan_parquet,
        "csv": pl.scan_csv,
        "ndjson": pl.scan_ndjson,
        "ipc": pl.scan_ipc,
    }
    extensions = {"parquet": ("parquet", "pq"), "csv": ("csv", "tsv", "txt"), "ndjson": ("ndjson", "jsonl", "json"), "ipc": ("ipc", "arrow", "feather")}

    def absolute(uri):
        if "://" in uri or uri.startswith(("/", "~", "file:")):
            return uri
        return os.path.join(base, uri)

    def files_of(format, uri):
        """A directory is its files of the table's format; markers and hidden files beside them are not data."""
        path = uri.removeprefix("file://")
        if "://" in path or not os.path.isdir(path):
            return uri
        found = []
        for folder, folders, names in os.walk(path, followlinks=True):
            folders[:] = sorted(f for f in folders if not f.startswith(("_", ".")) or "=" in f)
            found += [os.path.join(folder, n) for n in sorted(names) if not n.startswith(("_", "."))]
        of_format = [f for f in found if f.rpartition(".")[2].lower() in extensions[format]]
        if not of_format and not found:
            raise FileNotFoundError(f"no files in {path}")
        return of_format or found

    def scan(name, **overrides):
        if name not in tables:
            known = ", ".join(sorted(tables)) or "none"
            raise KeyError(f"no table {name!r} in spec.tables (there are: {known})")
        table = tables[name]
        if "error" in table:
            error = table["error"]
            raise type(error["class"], (Exception,), {})(f"table {name!r}: {error['message']}")
        if "stand_in" in table:
            return stand_in(pl, name, table["stand_in"], overrides)
        format = table["format"]
        if format not in functions:
            raise NotImplementedError(f"table {name!r} is {format}: a script scans parquet, csv, ndjson, ipc, delta and iceberg")
        sources = [files_of(format, absolute(uri)) for uri in table["uris"]]
        flat = [f for s in sources for f in (s if isinstance(s, list) else [s])]
        options = {**table["options"], **overrides}
        whole = [uri for uri, s in zip(table["uris"], sources) if isinstance(s, list)]
        if whole and format == "parquet" and "hive_partitioning" not in options:
            options["hive_partitioning"] = any("=" in f[len(absolute(w)) :] for w in whole for f in flat if f.startswith(absolute(w)))
        for key in ("schema", "schema_overrides", "hive_schema"):
            if isinstance(options.get(key), dict):
                options[key] = {column: dtype_of(pl, dtype) for column, dtype in options[key].items()}
        if any("://" in f and not f.startswith("file:") for f in flat):
            options.setdefault("storage_options", table["storage"] or None)
            options.setdefault("credential_provider", None)
        try:
            return functions[format](flat if len(flat) != 1 else flat[0], **options)
        except TypeError as error:
            text = str(error)
            if "unexpected keyword argument" in text:
                option = text.rpartition(" ")[2]
                raise TypeError(f"table {name!r}: {functions[format].__name__} has no option {option}") from None
            raise

    return scan


def stand_in(pl, name, table, overrides):
    """A scan of a file that does not exist, which the engine replaces by that of the table."""
    if overrides:
        raise TypeError(f"table {name!r} takes no options here: write them as spec.tables.{name}.options")
    schema = {column: dtype_from(pl, dtype) for column, dtype in table["columns"]}
    return pl.scan_parquet(table["path"], schema=schema, hive_partitioning=False, glob=False)


def dtype_of(pl, dtype):
    """`Int64`, `Date`, `Datetime('us')`, `List(Int64)` by Polars' own names; nothing else is evaluated."""
    if not isinstance(dtype, str):
        return dtype
    import ast

    def build(node):
        if isinstance(node, ast.Name) or (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)):
            name = node.id if isinstance(node, ast.Name) else node.attr
            found = getattr(pl, name, None)
            if isinstance(found, type) and issubclass(found, pl.DataType):
                return found
            raise ValueError(f"no Polars dtype {name!r}")
        if isinstance(node, ast.Call):
            return build(node.func)(*map(build, node.args), **{k.arg: build(k.value) for k in node.keywords})
        if isinstance(node, ast.List):
            return [build(item) for item in node.elts]
        if isinstance(node, ast.Dict):
            return {build(k): build(v) for k, v in zip(node.keys, node.values)}
        if isinstance(node, ast.Constant):
            return node.value
        raise ValueError(f"not a Polars dtype: {dtype}")

    return build(ast.parse(dtype, mode="eval").body)
