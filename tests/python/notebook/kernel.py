"""Runs code in a kernel as a notebook's server does, and interrupts or kills it while a query runs. Run by the interpreter that
`setup` makes: kernel.py interrupt|kill DIRECTORY. Prints what the kernel told, in JSON."""

from __future__ import annotations

import json
import queue
import sys
import time

from jupyter_client.manager import KernelManager

BEGIN = """
import json, os, floe, polars as pl
ctx = floe.Local(workers=2, scratch={scratch!r})
def parent(pid):
    try:
        return int(open(f"/proc/{{pid}}/stat").read().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0
server = ctx._server.pid
workers = [int(p) for p in os.listdir("/proc") if p.isdigit() and parent(int(p)) == server]
side = pl.LazyFrame({{"a": range(400_000)}})
pairs = side.join(side.rename({{"a": "b"}}), how="cross").filter((pl.col("a") * pl.col("b") % 7919) == -1)
print(json.dumps({{"kernel": os.getpid(), "pids": [server, *workers]}}))
"""
ENDLESS = "pairs.select(pl.len()).remote(ctx).distributed().collect()"
AFTER = """
import time
end = time.monotonic() + 30
while "Running" in (phases := [one["phase"] for one in ctx._server.coordinator.json("GET", "/api/v1/queries")]):
    assert time.monotonic() < end, "the query runs on"
    time.sleep(0.1)
works = pl.LazyFrame({"a": [1]}).remote(ctx).collect().item()
ctx.close()
print(json.dumps({"phases": phases, "works": works}))
"""
LIMIT_SECONDS = 60.0


def told(client, request: str) -> tuple[str, str | None]:
    """What a cell printed, and the name of its error."""
    printed, error = "", None
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        message = client.get_iopub_msg(timeout=deadline - time.monotonic())
        if message["parent_header"].get("msg_id") != request:
            continue
        kind, content = message["msg_type"], message["content"]
        if kind == "stream" and content["name"] == "stdout":
            printed += content["text"]
        elif kind == "error":
            error = content["ename"]
        elif kind == "status" and content["execution_state"] == "idle":
            return printed, error


def shows(client, request: str) -> None:
    """Waits until a cell shows a block of progress: its query runs."""
    deadline = time.monotonic() + LIMIT_SECONDS
    while True:
        message = client.get_iopub_msg(timeout=deadline - time.monotonic())
        mine = message["parent_header"].get("msg_id") == request
        if mine and message["msg_type"] in ("display_data", "update_display_data"):
            if "running" in message["content"]["data"].get("text/html", ""):
                return
        if mine and message["msg_type"] == "error":
            raise SystemExit(f"the cell failed: {message['content']}")


def main(how: str, scratch: str) -> None:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=LIMIT_SECONDS)
        printed, error = told(client, client.execute(BEGIN.format(scratch=scratch)))
        assert error is None, error
        print(printed, end="", flush=True)
        running = client.execute(ENDLESS)
        shows(client, running)
        if how == "kill":
            return
        manager.interrupt_kernel()
        _, error = told(client, running)
        printed, after = told(client, client.execute(AFTER))
        print(json.dumps({"error": error, "after": after, **json.loads(printed or "{}")}))
    except queue.Empty:
        raise SystemExit(f"the kernel was silent for {LIMIT_SECONDS:g} s") from None
    finally:
        client.stop_channels()
        # SIGKILL, as a notebook's server does it to a kernel that is restarted and does not end.
        manager.shutdown_kernel(now=True)


main(*sys.argv[1:])
