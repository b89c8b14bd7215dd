"""`floe` as a user calls it: with a kubeconfig, as kubectl's plugin, in a terminal."""

from __future__ import annotations

import json
import os
import pathlib
import shlex
import shutil
import signal
import subprocess
import time
import uuid

import yaml

from tests.e2e import kube

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or pathlib.Path(os.environ.get("FLOE_CACHE", "~/.cache/floe")).expanduser() / "target")
FLOE = shutil.which("floe", path=TARGET / "release") or shutil.which("floe")


def start(*arguments: object, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [FLOE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options
    )


def floe(*arguments: object, input: str | None = None, timeout: float = 240, env: dict | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        [FLOE, *map(str, arguments)], capture_output=True, text=True, timeout=timeout, input=input,
        env=None if env is None else {**os.environ, **env},
    )  # fmt: skip


def good(*arguments: object, **options) -> str:
    """What it prints when it must succeed."""
    done = floe(*arguments, **options)
    assert done.returncode == 0, f"floe {arguments} ended with {done.returncode}\n{done.stderr}\n{done.stdout}"
    return done.stdout


def interrupt(process: subprocess.Popen) -> tuple[int, str]:
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    return process.returncode, err


def write(folder: pathlib.Path, queries, name: str, spec: dict) -> pathlib.Path:
    """A query as a file, in the namespace of `queries`."""
    if spec.get("sink"):
        spec["sink"]["uri"] = spec["sink"]["uri"].replace("NAME", name)
    query = {
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
        "metadata": {"name": name, "namespace": queries.namespace}, "spec": spec,
    }  # fmt: skip
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(query))
    return file


def kubeconfig(folder: pathlib.Path, *, server: str | None = None, token: str | None = None) -> pathlib.Path:
    """The tests' own kubeconfig with another server or another token."""
    config = json.loads(kube.kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
    if server:
        config["clusters"][0]["cluster"]["server"] = server
    if token:
        config["users"][0]["user"] = {"token": token}
    file = folder / f"kubeconfig-{uuid.uuid4().hex[:8]}"
    file.write_text(json.dumps(config))
    return file


class Terminal:
    """A terminal of tmux in which a command runs."""

    def __init__(self, *arguments: object, width: int = 120, height: int = 30):
        self.socket = f"floe-{uuid.uuid4().hex[:8]}"
        command = shlex.join([FLOE, *map(str, arguments)])
        self.tmux("new-session", "-d", "-x", width, "-y", height, f"{command}; echo ended with $?; exec sleep 600")

    def tmux(self, *arguments: object) -> str:
        return subprocess.run(
            ["tmux", "-u", "-L", self.socket, *map(str, arguments)], capture_output=True, text=True, timeout=20, check=True
        ).stdout

    def seen(self) -> str:
        return self.tmux("capture-pane", "-p", "-S", "-200")

    def wait(self, limit_seconds: float, *words: str) -> str:
        """Until the terminal shows all of these; gives what it shows."""
        deadline = time.monotonic() + limit_seconds
        while True:
            seen = self.seen()
            if all(word in seen for word in words):
                return seen
            assert time.monotonic() < deadline, f"not within {limit_seconds} s: {words}\n{seen}"
            time.sleep(0.2)

    def close(self) -> None:
        subprocess.run(["tmux", "-L", self.socket, "kill-server"], capture_output=True, timeout=20)
