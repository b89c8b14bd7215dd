"""`floe submit`, `watch` and `cancel`, with the user's own kubeconfig."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess

import pytest
import yaml

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or pathlib.Path(os.environ.get("FLOE_CACHE", "~/.cache/floe")).expanduser() / "target")
FLOE = shutil.which("floe") or shutil.which("floe", path=TARGET / "release")

pytestmark = pytest.mark.skipif(FLOE is None, reason="floe is not built on this machine")


def floe(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([FLOE, *map(str, arguments)], capture_output=True, text=True, timeout=240)


def write(tmp_path: pathlib.Path, queries, name: str, spec: dict) -> pathlib.Path:
    spec["sink"]["uri"] = spec["sink"]["uri"].replace("NAME", name)
    query = {
        "apiVersion": "floe.dev/v1alpha1", "kind": "DistributedQuery",
        "metadata": {"name": name, "namespace": queries.namespace}, "spec": spec,
    }  # fmt: skip
    file = tmp_path / f"{name}.yaml"
    file.write_text(yaml.safe_dump(query))
    return file


def test_submit_follows_to_the_end(queries, tmp_path):
    done = floe("submit", write(tmp_path, queries, "good", queries.spec()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().rstrip("/") == queries.get("good")["spec"]["sink"]["uri"].rstrip("/")
    assert "Succeeded, 100%" in done.stderr and "rows" in done.stderr
    # Another one that looks later hears the same.
    assert floe("watch", "good", "-n", queries.namespace).returncode == 0


def test_a_failure_is_told_and_ends_with_1(queries, tmp_path):
    spec = queries.spec("result = scan('nation').select('no_such_column')")
    done = floe("submit", write(tmp_path, queries, "bad", spec))
    assert done.returncode == 1 and "BadPlan" in done.stderr and "no_such_column" in done.stderr, done.stderr


def test_cancel(queries, tmp_path, slow):
    done = floe("submit", "--detach", write(tmp_path, queries, "long", queries.spec(slow)))
    assert done.returncode == 0, done.stderr
    queries.phase("long", "Running", limit_seconds=120)
    assert floe("cancel", "long", "-n", queries.namespace).returncode == 0
    done = floe("watch", "long", "-n", queries.namespace)
    assert done.returncode == 130 and "Cancelled" in done.stderr, done.stderr
