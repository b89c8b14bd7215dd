"""A query that is cancelled while its sink is being taken in a store that answers slowly: it ends when it has undone that,
and leaves nothing."""

from __future__ import annotations

import base64
import json
import signal
import socket
import subprocess
import threading
import time

import polars as pl
import pytest

from tests import support

HELD_SECONDS = 2


class SlowWrites:
    """A TCP proxy before a store: the first request that writes `name` is passed on late, even if its sender has gone."""

    def __init__(self, port: int, name: bytes):
        self.store, self.name = port, name
        self.held, self.passed = threading.Event(), threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            store = socket.create_connection(("127.0.0.1", self.store))
            threading.Thread(target=self.carry, args=(client, store, True), daemon=True).start()
            threading.Thread(target=self.carry, args=(store, client, False), daemon=True).start()

    def carry(self, source: socket.socket, target: socket.socket, asks: bool) -> None:
        try:
            while data := source.recv(1 << 16):
                head = data.split(b"\r\n", 1)[0]
                late = asks and not self.held.is_set() and head.startswith(b"PUT ") and self.name in head
                if late:
                    self.held.set()
                    time.sleep(HELD_SECONDS)
                target.sendall(data)
                if late:
                    self.passed.set()
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self) -> None:
        self.listener.close()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT], ids=["terminated", "interrupted"])
def test_a_query_that_is_cancelled_while_its_sink_is_taken_leaves_nothing(end, s3, tmp_path):
    store = SlowWrites(int(s3.endpoint.rsplit(":", 1)[1]), b"/lease")
    prefix = f"cancelled-{end.name.lower()}/"
    job = tmp_path / "job.json"
    spec = {
        "plan": {"dsl": {"inline": base64.b64encode(pl.LazyFrame({"a": [1, 2, 3]}).serialize()).decode()}},
        "sink": {"uri": f"s3://floe/{prefix}out/", "format": "parquet"},
        "storage": s3.storage | {"endpoint": f"http://127.0.0.1:{store.port}"},
    }
    job.write_text(json.dumps({"id": "cancelled", "name": "cancelled", "attempt": 1, "spec": spec}))
    command = [
        support.binary("floe-runner"), "coordinator", "--events", "stdout", "--local-workers", "1",
        "--job", str(job), "--scratch", str(tmp_path),
    ]  # fmt: skip
    environment = s3.environment | {"FLOE_TOKEN": "token", "PATH": "/usr/bin:/bin"}
    log = tmp_path / "log"
    with log.open("w") as errors:
        query = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment)
    try:
        assert store.held.wait(60), log.read_text()
        query.send_signal(end)
        events = [json.loads(line) for line in query.stdout]
        assert query.wait(timeout=60) == 130, events
        assert store.passed.wait(60)
        time.sleep(0.5)
        left = s3.client().list_objects_v2(Bucket="floe", Prefix=prefix).get("Contents", [])
        assert not left, [entry["Key"] for entry in left]
    finally:
        query.kill()
        query.wait()
        store.close()
