"""The package holds what it says: examples of docstrings and of the documentation run, types are strict, versions agree."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pathlib
import pkgutil
import re
import subprocess
import sys

import pytest

import floe
from tests.python.conftest import PLUGGABLE, REPO

PACKAGE = REPO / "python"
MODULES = sorted(f"floe.{one.name}" for one in pkgutil.iter_modules(floe.__path__)) + ["floe"]


@pytest.mark.parametrize("name", MODULES)
def test_examples_of_docstrings_run(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} does not say what belongs in it"
    failed, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert failed == 0


#: Those whose examples are in docs/python.md, as they need a cluster; and what users make none of.
WITHOUT_EXAMPLES = {"ComputeContext", "Kubernetes", "ClientContext", "Dst"}


def test_everything_public_has_an_example():
    finder = doctest.DocTestFinder(exclude_empty=True)
    without = set()
    for name in floe.__all__:
        thing = getattr(floe, name)
        if callable(thing) and not any(one.examples for one in finder.find(thing, name, inspect.getmodule(thing))):
            without.add(name)
    assert without == WITHOUT_EXAMPLES
    page = (REPO / "docs" / "python.md").read_text()
    assert "floe.ComputeContext(" in page and "floe.Kubernetes(" in page


def test_everything_public_is_documented():
    for name in floe.__all__:
        thing = getattr(floe, name)
        if name.startswith("__") or inspect.ismodule(thing):
            continue
        assert inspect.getdoc(thing), name
        if inspect.isclass(thing):
            for own, member in vars(thing).items():
                if not own.startswith("_") and (callable(member) or isinstance(member, property)):
                    assert inspect.getdoc(getattr(thing, own)), f"{name}.{own}"


def test_types_are_strict():
    pytest.importorskip("mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--cache-dir", os.devnull], cwd=PACKAGE, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (PACKAGE / "src" / "floe" / "py.typed").is_file()


#: Arguments that have no meaning where the rows are not written by this process, or are named otherwise.
NOT_REMOTE = {"self", "path", "lazy", "engine", "retries", "encryption", "sinked_paths_callback"}
WRONG = """
import floe, polars as pl
lf = pl.LazyFrame()
remote = floe.LazyFrameRemote(lf)
floe.Engine().sink_parquet(lf, "x", compresion="zstd")
remote.sink_parquet("x", compresion="zstd")
remote.distributed().sink_csv("x", separator=1)
floe.spawn_many([lf], dst="x", retries=1)
floe.spawn_blocking(lf, dst="x", priority="high")
floe.spawn_many_blocking([lf], dst="x", execute_until="plan")
floe.nothing
remote.sink_ipc("x", compression="lz4", record_batch_size=2)
floe.spawn_many([lf], dst="x", priority=1)
"""


@pytest.mark.parametrize("kind", ["parquet", "csv", "ipc", "ndjson"])
def test_sinks_name_every_argument_of_polars(kind):
    import polars as pl

    theirs = {name for name in inspect.signature(getattr(pl.LazyFrame, f"sink_{kind}")).parameters if name[0] != "_"}
    for cls in (floe.LazyFrameRemote, floe.ExecuteRemote):
        ours = inspect.signature(getattr(cls, f"sink_{kind}")).parameters
        assert theirs - NOT_REMOTE <= set(ours), f"sink_{kind}"
        assert not [one for one in ours.values() if one.kind is one.VAR_KEYWORD]
    ours = inspect.signature(getattr(floe.Engine, f"sink_{kind}")).parameters
    assert theirs - {"engine"} <= set(ours) and not [one for one in ours.values() if one.kind is one.VAR_KEYWORD]


def test_types_tell_wrong_arguments(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "wrong.py").write_text(WRONG)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", os.devnull, tmp_path / "wrong.py"]
    env = {**os.environ, "MYPYPATH": str(PACKAGE / "src")}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, env=env)
    lines = {int(line) for line in re.findall(r"wrong\.py:(\d+): error", done.stdout)}
    assert lines == {5, 6, 7, 8, 9, 10, 11}, done.stdout + done.stderr


def test_versions_agree():
    files = [PACKAGE / "pyproject.toml", REPO / "Cargo.toml"]
    found = {re.search(r'^version = "(.*)"', path.read_text(), re.MULTILINE)[1] for path in files}
    assert found == {floe.__version__}


CLUSTER = "<!-- needs a cluster -->"


def blocks(page: pathlib.Path) -> list[tuple[int, str, bool]]:
    """The Python of a page, with the line that it begins at, and whether it needs a cluster."""
    text = page.read_text()
    found = re.finditer(rf"^({CLUSTER}\n)?```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [(text.count("\n", 0, one.start(2)) + 1, one[2], one[1] is not None) for one in found]


def run_page(page: pathlib.Path) -> tuple[int, int]:
    """Runs the examples of a page in order, in one process, as someone who reads it would; those that need a cluster only have
    to be Python. Counts both."""
    names: dict[str, object] = {}
    ran = of_clusters = 0
    try:
        for line, code, needs_cluster in blocks(page):
            compiled = compile("\n" * (line - 1) + code, str(page), "exec")
            if needs_cluster:
                assert "Kubernetes(" in code or "ComputeContext(" in code, f"{page}:{line} needs no cluster"
                of_clusters += 1
            else:
                exec(compiled, names)
                ran += 1
    finally:
        for thing in names.values():
            if isinstance(thing, floe.Local):
                thing.close()
    return ran, of_clusters


@pytest.fixture
def files_of_the_pages(data, tmp_path, monkeypatch):
    """The current directory as the examples of the pages want it."""
    import polars as pl

    monkeypatch.chdir(tmp_path)
    pdsh = data("0.1")
    (tmp_path / "pdsh").symlink_to(pdsh)
    for directory in ("data/sales", "orders"):
        (tmp_path / directory).mkdir(parents=True)
    for table in ("orders", "lineitem"):
        (tmp_path / "data" / table).symlink_to(pdsh / table)
    (tmp_path / "data" / "days.csv").write_text("day,name\n1,Monday\n2,Tuesday\n")
    for number in range(3):
        orders = {"customer": ["ann", "bob", "ann"], "amount": [number, 2 * number, 5], "day": [1, 2, 3]}
        pl.DataFrame(orders).write_parquet(tmp_path / "data" / f"orders-{number}.parquet")
        sales = {"region": ["north", "south"], "amount": [number, 10]}
        pl.DataFrame(sales).write_parquet(tmp_path / "data" / "sales" / f"{number}.parquet")
        comments = {"status": ["new", "done"], "comment": ["ab" * number, "c"]}
        pl.DataFrame(comments).write_parquet(tmp_path / "orders" / f"{number}.parquet")
    return tmp_path


@pytest.fixture
def lake(s3, files_of_the_pages, monkeypatch):
    """The bucket of the examples in a real S3 server, which the environment names, with its keys."""
    client = s3.client()
    client.create_bucket(Bucket="lake")
    for path in (files_of_the_pages / "data").glob("orders-*.parquet"):
        client.upload_file(str(path), "lake", f"orders/{path.name}")
    for name, value in {**s3.environment, "AWS_ENDPOINT_URL": s3.endpoint, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
    yield
    for found in client.list_objects_v2(Bucket="lake")["Contents"]:
        client.delete_object(Bucket="lake", Key=found["Key"])
    client.delete_bucket(Bucket="lake")


#: Each page with Python that is to be run: how many blocks are, and how many need a cluster.
PAGES = {
    "README.md": (1, 0),
    "python/README.md": (1, 0),
    "docs/python.md": (9, 2),
    "docs/sql.md": (1, 0),
    "docs/functions.md": (2, 0),
}


@pytest.mark.skipif(not PLUGGABLE, reason="this version of Polars has no engines to plug in")
@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_the_page_run(page, lake):
    assert run_page(REPO / page) == PAGES[page]


def test_the_commands_of_the_page_on_sql_run(data, files_of_the_pages):
    """Each with what is shown after it; the shell gets the statements that are shown at its prompt."""
    page = (REPO / "docs" / "sql.md").read_text()
    found = re.findall(r"^```console\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    once, session = [block.removeprefix("$ ") for block in found]
    done = subprocess.run(["sh", "-c", once], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    totals = [[cell.strip() for cell in line.split("┆")] for line in re.findall(r"^│ (.*) │$", done.stdout, re.MULTILINE)]
    assert totals[-2:] == [["south", "30"], ["north", "3"]]

    command, banner, *lines = session.splitlines()
    (files_of_the_pages / "shell").mkdir()
    (files_of_the_pages / "shell" / "data").symlink_to(data("0.1"))
    end = next(at for at, line in enumerate(lines) if line.endswith(";")) + 1
    statement = "\n".join(line.removeprefix("floe> ").strip() for line in lines[:end])
    shell = {"cwd": files_of_the_pages / "shell", "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run(["sh", "-c", command], input=statement, **shell)
    assert done.returncode == 0, done.stderr
    shape, _, summary = lines[end:]
    assert shape in done.stdout.splitlines()
    assert re.search(re.sub(r"\d+ ms$", r"[\\d.]+ m?s$", summary), done.stderr, re.MULTILINE), done.stderr
    listed = subprocess.run(["sh", "-c", f"{command} -o json --sql 'show tables'"], **shell)
    tables = re.fullmatch(r"floe \S+, (\d+) tables; .*", banner)
    assert tables and len(listed.stdout.splitlines()) == int(tables[1]), listed.stdout + listed.stderr


def test_the_table_names_all_of_polars_cloud():
    """Every public method that the page's table speaks of is there."""
    page = (REPO / "docs" / "python.md").read_text()
    for cls in (floe.LazyFrameRemote, floe.DirectQuery, floe.QueryResult):
        for name, _ in inspect.getmembers(cls, callable):
            if not name.startswith("_"):
                assert f"`{name}" in page or f".{name}" in page, f"{cls.__name__}.{name} is not in docs/python.md"
