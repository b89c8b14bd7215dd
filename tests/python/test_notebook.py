"""A notebook as its users have it: run by Jupyter, shown by a browser, its kernel interrupted and killed."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess

import floe
import pytest
from tests.python.conftest import REPO
from tests.python.test_life import gone, nothing_is_left

HERE = REPO / "tests" / "python" / "notebook"
SOURCE = pathlib.Path(floe.__file__).parents[1]
#: The colour of a bar that is full.
DONE = (0x2E, 0x9E, 0x5B)


@pytest.fixture(scope="session")
def jupyter() -> tuple[str, str]:
    """An interpreter with Jupyter's programs, and a browser."""
    done = subprocess.run([HERE / "setup"], capture_output=True, text=True, timeout=900)
    if done.returncode == 3:
        pytest.skip(done.stderr.strip().splitlines()[-1])
    assert done.returncode == 0, done.stderr
    python, browser = done.stdout.strip().splitlines()[-2:]
    return python, browser


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """Nothing of the user's own settings of Jupyter and IPython."""
    home = tmp_path_factory.mktemp("jupyter")
    own = {name: str(home / name.lower()) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")}
    return {**os.environ, **own, "PYTHONPATH": str(SOURCE), "JUPYTER_PLATFORM_DIRS": "1"}


@pytest.fixture(scope="session")
def ran(jupyter, environment, tmp_path_factory) -> tuple[dict, pathlib.Path]:
    """The notebook after all of its cells have run, and as a page."""
    made = tmp_path_factory.mktemp("notebook")
    convert = [jupyter[0], "-m", "nbconvert", "--output-dir", made]
    for command in (
        [*convert, "--to", "notebook", "--execute", "--ExecutePreprocessor.timeout=120", HERE / "local.ipynb"],
        [*convert, "--to", "html", made / "local.ipynb"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert done.returncode == 0, done.stderr[-6000:]
    return json.loads((made / "local.ipynb").read_text()), made / "local.html"


def outputs(notebook: dict, cell: str) -> list[dict]:
    [found] = [one for one in notebook["cells"] if one["id"] == cell]
    return found["outputs"]


def html(notebook: dict, cell: str) -> str:
    return "".join("".join(one["data"].get("text/html", "")) for one in outputs(notebook, cell) if "data" in one)


def test_the_cells_show_what_they_should(ran):
    notebook, _ = ran
    assert "floe.Local" in html(notebook, "context") and "running" in html(notebook, "context")
    # One block of progress, which was replaced until the end; nothing on stderr.
    progress = outputs(notebook, "progress")
    assert len(progress) == 1 and progress[0]["output_type"] == "display_data", progress
    block = html(notebook, "progress")
    assert "Floe query" in block and "success" in block and "5 rows" in block and "2 workers" in block
    result = html(notebook, "result")
    assert "QueryResult" in result and "SUCCESS" in result and "mean of n" in result
    assert "success" in html(notebook, "query")
    [picture] = outputs(notebook, "graph")
    assert "<svg" in "".join(picture["data"]["image/svg+xml"])
    # After its block, if it took long enough to have one.
    failed = outputs(notebook, "error")[-1]
    assert (failed["output_type"], failed["ename"]) == ("error", "ColumnNotFoundError")
    assert "not running" in html(notebook, "close")


def test_a_browser_shows_the_page(ran, jupyter, tmp_path):
    plt = pytest.importorskip("matplotlib.pyplot")
    _, page = ran
    picture = tmp_path / "page.png"
    # Root's browser needs to run without its sandbox, and the page is our own.
    command = [jupyter[1], "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={tmp_path / 'browser'}"]
    shot = [*command, "--window-size=1100,2400", f"--screenshot={picture}", page.as_uri()]
    done = subprocess.run(shot, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and picture.is_file(), done.stderr
    pixels = (plt.imread(picture)[:, :, :3] * 255).round().astype(int)
    rows = [row for row in range(pixels.shape[0]) if (abs(pixels[row] - DONE).sum(axis=1) <= 6).sum() >= 80]
    # Bars of every stage, as long as they are when all is done.
    assert len(rows) >= 2 * 6, f"{len(rows)} rows of pixels with a full bar in {picture}"
    # What does not fit its block would be cut or lie over what is beside it.
    script = "<script>onload=()=>document.title=[...document.querySelectorAll('.jp-RenderedHTMLCommon>div')].map(e=>e.scrollWidth-e.clientWidth).join()</script>"
    (tmp_path / "page.html").write_text(page.read_text().replace("</head>", script + "</head>"))
    dump = [*command, "--window-size=1100,2400", "--dump-dom", (tmp_path / "page.html").as_uri()]
    dom = subprocess.run(dump, capture_output=True, text=True, timeout=120).stdout
    over = dom.partition("<title>")[2].partition("</title>")[0]
    assert over and set(over.split(",")) == {"0"}, over


def kernel(jupyter, environment, how: str, scratch: pathlib.Path) -> list[dict]:
    command = [jupyter[0], HERE / "kernel.py", how, scratch]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_nothing_is_left_of_a_killed_kernel(jupyter, environment, tmp_path):
    [told] = kernel(jupyter, environment, "kill", tmp_path)
    assert len(told["pids"]) == 3
    assert gone(told["kernel"])
    nothing_is_left(tmp_path, told)


def test_interrupting_the_kernel_cancels_the_query_and_leaves_the_context(jupyter, environment, tmp_path):
    begun, ended = kernel(jupyter, environment, "interrupt", tmp_path)
    assert ended == {"error": "KeyboardInterrupt", "after": None, "phases": ["Cancelled"], "works": 1}
    nothing_is_left(tmp_path, begun)
