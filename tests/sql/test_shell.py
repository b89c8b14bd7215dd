"""`floe shell`: statements from standard input and at a prompt, over one warm engine."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import select
import signal
import subprocess
import time

import pytest

from tests import support


@pytest.fixture(scope="module")
def folder(small) -> pathlib.Path:
    """The directory whose directories are the tables."""
    return pathlib.Path(small["emp"]).parents[1]


def shell(*arguments: str, text: str | None = None, code: int = 0, cwd: pathlib.Path | None = None):
    done = subprocess.run(
        [support.binary("floe"), "shell", *arguments], input=text, capture_output=True, text=True, timeout=120, cwd=cwd
    )
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def rows(done) -> list:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_statements_come_from_standard_input(folder):
    text = """
    -- a comment; with a semicolon
    select count(*) as n from emp; select name
      from dept where city = 'Paris' order by name;
    select ';' as semicolon
    """
    done = shell("-o", "json", str(folder), text=text)
    assert rows(done) == [{"n": 20}, {"name": "sales"}, {"name": "support"}, {"semicolon": ";"}]
    assert re.search(r"^1 row in .*(ms|s)", done.stderr, re.M)
    assert shell("-q", str(folder), text="select 1 as a;").stderr == ""


def test_results_are_tables(folder):
    done = shell(str(folder), "--sql", "select id, name from emp order by id; select id from sales", "--rows", "5")
    assert "shape: (5, 2)" in done.stdout and "Cleo" in done.stdout
    assert "first 5 of 120 rows" in done.stdout


def test_tables_are_named_by_options_directories_and_commands(folder, small):
    text = "\\d\nshow tables;\n\\table again=%s\nselect count(*) as n from again;\n\\d dept\n" % small["dept"]
    done = shell("--table", f"people={small['emp']}", str(folder), text=text)
    listed = done.stdout.splitlines()
    assert listed[0].split() == ["name", "kind", "where"]
    assert any(line.split()[:2] == ["people", "parquet"] for line in listed)
    assert any(line.split()[0] == "nest" for line in listed)
    assert "people" in done.stdout and "again" not in "".join(listed[:8])
    assert "column_type" in done.stdout and "budget" in done.stdout
    for arguments, part in [
        ([str(folder / "nowhere")], "is no directory"),
        (["--table", "t="], "spec.tables.t.uri"),
        (["--set", "spec.nonsense=1"], "unknown field"),
    ]:
        assert part in shell(*arguments, text="select 1", code=2).stderr


def test_statements_about_statements(folder):
    done = shell(str(folder), text="explain select count(*) from emp, dept where emp.dept_id = dept.id;\nsummarize dept;\n")
    assert "stage 0" in done.stdout and "│ stage" not in done.stdout
    assert "null_count" in done.stdout


def test_views_last_for_the_session(folder):
    text = """
    create view paris as select * from dept where city = 'Paris';
    create view names as select name from paris;
    select count(*) as n from names;
    create or replace view paris as select * from dept where city = 'Oslo';
    select count(*) as n from names;
    drop view if exists nothing;
    drop view names;
    select 3 as n;
    """
    assert rows(shell("-o", "json", str(folder), text=text)) == [{"n": 2}, {"n": 1}, {"n": 3}]
    assert rows(shell("-o", "json", text="drop view if exists nothing; select 1 as n;")) == [{"n": 1}]
    view = ["--view", "paris=select * from dept where city = 'Paris'"]
    assert rows(shell("-o", "json", *view, str(folder), text="select count(*) as n from paris")) == [{"n": 2}]
    for text, part in [
        ("create view emp as select 1;", "emp is there already"),
        ("create view a as select 1; create view a as select 2;", "CREATE OR REPLACE VIEW"),
        ("drop view nothing;", "there is no view nothing"),
        ("create view v as select zz from dept;\nselect * from v;", "view v, line 1, column 8: there is no column zz"),
        ("create view a as select * from b; create view b as select * from a; select * from a;", "a -> b -> a"),
        ("create table t as select 1;", "CREATE is no query"),
    ]:
        done = shell(str(folder), text=text, code=2)
        assert part in done.stderr, done.stderr


def test_a_failure_ends_a_script_unless_told_otherwise(folder):
    text = "select nme from emp; select 1 as a;"
    done = shell("-o", "json", str(folder), text=text, code=2)
    assert done.stdout == "" and "did you mean name?" in done.stderr and "       ^" in done.stderr
    done = shell("-o", "json", "--keep-going", str(folder), text=text, code=2)
    assert rows(done) == [{"a": 1}]
    assert "\\? lists them" in shell(text="\\nonsense", code=2).stderr


def test_files_are_included(folder, tmp_path):
    (tmp_path / "a.sql").write_text("select 1 as a;\n\\i b.sql\n")
    (tmp_path / "b.sql").write_text("select 2 as b")
    assert rows(shell("-o", "json", text="\\i a.sql\nselect 3 as c", cwd=tmp_path)) == [{"a": 1}, {"b": 2}, {"c": 3}]
    assert rows(shell("-o", "json", "--sql", "b.sql", cwd=tmp_path)) == [{"b": 2}]
    (tmp_path / "round.sql").write_text("\\i round.sql")
    assert "include each other" in shell(text="\\i round.sql", code=2, cwd=tmp_path).stderr


def test_the_engine_is_warm_after_the_first_query(folder):
    text = "select count(*) as n from emp join dept on emp.dept_id = dept.id;" * 6
    done = shell("-o", "json", str(folder), text=text)
    took = [float(n) * (1000 if unit == "s" else 1) for n, unit in re.findall(r"in ([\d.]+) (ms|s)$", done.stderr, re.M)]
    assert len(took) == 6
    # A process for each would take a second or so.
    assert min(took[1:]) < 300, took


def test_no_process_is_left(folder):
    done = shell("-q", str(folder), text="select 1 as a;")
    assert done.stdout
    mine = subprocess.run(["pgrep", "-f", f"floe-runner serve --parent"], capture_output=True, text=True).stdout.split()
    for pid in mine:
        command = pathlib.Path(f"/proc/{pid}/cmdline")
        parent = command.read_bytes().split(b"\0")[3].decode() if command.exists() else None
        assert parent is None or pathlib.Path(f"/proc/{parent}").exists(), "an engine outlived its shell"


SLOW = "select count(*) as n from range_a, range_b where (range_a.a * range_b.b) % 7919 = -1;"


@pytest.fixture(scope="module")
def slow(tmp_path_factory) -> pathlib.Path:
    """Tables whose product takes minutes."""
    import polars as pl

    folder = tmp_path_factory.mktemp("slow")
    pl.DataFrame({"a": range(300_000)}).write_parquet(folder / "range_a.parquet")
    pl.DataFrame({"b": range(300_000)}).write_parquet(folder / "range_b.parquet")
    return folder


def test_ctrl_c_cancels_a_script(slow):
    process = subprocess.Popen(
        [support.binary("floe"), "shell", str(slow)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdin.write("select 1 as a;\n" + SLOW + "\nselect 2 as a;\n")
    process.stdin.close()
    deadline = time.monotonic() + 60
    first = ""
    while "shape" not in first:
        first += os.read(process.stdout.fileno(), 4096).decode()
        assert time.monotonic() < deadline
    time.sleep(1.5)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert "cancelled" in process.stderr.read()


class Prompt:
    """A shell in a terminal of its own."""

    def __init__(self, *arguments: str, history: pathlib.Path):
        pid, self.fd = pty.fork()
        if pid == 0:
            os.environ.update(FLOE_HISTORY=str(history), TERM="xterm")
            os.execv(support.binary("floe"), ["floe", "shell", *arguments])
        self.pid, self.seen = pid, ""

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def wait(self, for_what: str, seconds: float = 60) -> str:
        """What comes up to a text, without the control sequences."""
        until = time.monotonic() + seconds
        while True:
            plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.seen).replace("\r", "")
            if for_what in plain:
                # What came after it in the same read is for the next wait.
                before, found, self.seen = plain.partition(for_what)
                return before + found
            assert time.monotonic() < until, f"{for_what!r} does not come: {plain[-2000:]!r}"
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 65536).decode(errors="replace")
                except OSError:
                    raise AssertionError(f"it ended: {plain[-2000:]!r}") from None

    def end(self, seconds: float = 30) -> int:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with_output = select.select([self.fd], [], [], 0.1)[0]
            try:
                if with_output:
                    os.read(self.fd, 65536)
            except OSError:
                pass
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                os.close(self.fd)
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("the shell does not end")


def test_a_prompt_with_history_completion_and_cancellation(folder, slow, tmp_path):
    history = tmp_path / "history"
    prompt = Prompt(str(folder), "--table", f"range_a={slow}/range_a.parquet", "--table", f"range_b={slow}/range_b.parquet", history=history)
    prompt.wait("floe> ")
    # A statement of several lines, ended by its semicolon.
    prompt.type("select 41 + 1\r")
    prompt.type("as answer;\r")
    assert "42" in prompt.wait("1 row in")
    # A word that Tab completes, tables and columns.
    prompt.type("select bud\tfrom dep\torder by id limit 1;\r")
    seen = prompt.wait("1 row in")
    assert "100000.00" in seen, seen
    # An error stays at the prompt.
    prompt.type("select nme from emp;\r")
    prompt.wait("did you mean name?")
    prompt.wait("floe> ")
    # A text that is thrown away.
    prompt.type("select 'never run'\x03")
    prompt.wait("^C")
    prompt.wait("floe> ")
    # A query that is cancelled; the shell stays, and so does the engine.
    prompt.type(SLOW + "\r")
    prompt.wait("tasks")
    prompt.type("\x03")
    prompt.wait("cancelled")
    # The last statement but one, from the history.
    prompt.type("\x1b[A\x1b[A")
    prompt.wait("nme")
    prompt.type("\x03")
    prompt.type("\x04")
    assert prompt.end() == 0
    kept = history.read_text().splitlines()
    assert kept[0] == "select 41 + 1\\nas answer;" and "never run" not in history.read_text()
    # The next session has it.
    prompt = Prompt(str(folder), history=history)
    prompt.wait("floe> ")
    prompt.type("\x1b[A")
    prompt.wait("range_a")
    prompt.type("\x03\\q\r")
    assert prompt.end() == 0
