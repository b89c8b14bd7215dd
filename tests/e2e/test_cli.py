"""`floe submit`, `apply`, `get`, `watch`, `cancel`, `suspend`, `resume` and `delete`, with the user's own kubeconfig."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import time

import pytest
import yaml

from tests.e2e import kube, store
from tests.e2e.command import FLOE, Terminal, floe, good, interrupt, start, write
from tests.e2e.queries import GATED, GROUPS

pytestmark = pytest.mark.skipif(FLOE is None, reason="floe is not built on this machine")


def test_submit_waits_to_the_end(queries, tmp_path):
    done = floe("submit", "--wait", write(tmp_path, queries, "good", queries.spec()))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().rstrip("/") == queries.get("good")["spec"]["sink"]["uri"].rstrip("/")
    assert "Succeeded, 100%" in done.stderr and "rows" in done.stderr
    # Another one that looks later hears the same.
    assert floe("watch", "good", "-n", queries.namespace).returncode == 0


def test_submit_returns_and_says_how_to_go_on(queries, tmp_path):
    done = floe("submit", "-f", write(tmp_path, queries, "quick", queries.spec()), "-n", queries.namespace)
    assert done.returncode == 0 and done.stdout == "", done.stderr
    assert f"query quick created in namespace {queries.namespace}" in done.stderr
    assert f"`floe watch quick -n {queries.namespace}` shows its progress" in done.stderr
    again = floe("submit", tmp_path / "quick.yaml", "-n", queries.namespace)
    assert again.returncode == 2 and "there is one of that name already" in again.stderr, again.stderr
    good("watch", "quick", "-n", queries.namespace)


def test_submit_from_options_alone(queries, tmp_path):
    script = tmp_path / "groups.py"
    script.write_text(GROUPS)
    sink = f"s3://{store.BUCKET}/{queries.prefix}/options/"
    name = good(
        "submit", "-n", queries.namespace, "--script", script, "--table", f"lineitem=s3://{store.BUCKET}/sf0.1/lineitem/*.parquet",
        "--sink", sink, "--sink-mode", "overwrite", "--storage", "s3", "--workers", 2, "--cpus", "50m", "--memory", "384Mi", "-o", "name",
        "--set", f"spec.storage.endpoint={store.ENDPOINT}", "--set", "spec.storage.region=us-east-1",
        "--set", "spec.storage.options={aws_allow_http: 'true', aws_virtual_hosted_style_request: 'false'}",
        "--set", "spec.compute.coordinator={cpus: 50m, memory: 384Mi}",
    ).strip()  # fmt: skip
    assert name.startswith("groups-") and len(name) > len("groups-")
    assert good("watch", name, "-n", queries.namespace).strip() == sink
    spec = queries.get(name)["spec"]
    assert spec["compute"]["workers"] == 2 and spec["storage"]["secretRef"] == {"name": "s3"}


def test_a_failure_is_told_and_ends_with_1(queries, tmp_path):
    spec = queries.spec("result = scan('nation').select('no_such_column')")
    done = floe("submit", "--wait", write(tmp_path, queries, "bad", spec))
    assert done.returncode == 1 and "BadPlan" in done.stderr and "no_such_column" in done.stderr, done.stderr
    described = good("get", "bad", "-n", queries.namespace)
    assert "Phase:     Failed, " in described and "(BadPlan: " in described, described
    assert "Table:     nation = s3://" in described, described
    late = floe("result", "bad", "-n", queries.namespace)
    assert late.returncode == 2 and "has ended without a result (Failed): " in late.stderr, late.stderr


def test_apply_creates_changes_and_tells_what_cannot_change(queries, tmp_path, slow):
    file = write(tmp_path, queries, "held", queries.spec(slow, suspend=True))
    for words, options in [("created", []), ("unchanged", []), ("configured", ["--set", "spec.priority=5"])]:
        done = floe("apply", "-f", file, *options)
        assert done.returncode == 0 and f"query held {words} in namespace" in done.stderr, done.stderr
        # What the operator writes meanwhile would count as a change.
        queries.phase("held", "Suspended")
    assert queries.get("held")["spec"]["priority"] == 5
    # What the user wrote is owned, and no default of the server.
    fields = json.loads(kube.kubectl("get", "dq", "held", "-n", queries.namespace, "--show-managed-fields", "-o", "json"))
    (owned,) = [one["fieldsV1"]["f:spec"] for one in fields["metadata"]["managedFields"] if one["manager"] == "floe"]
    assert "f:suspend" in owned and "f:backoffLimit" not in owned, owned
    # A field that another tool has set is not taken silently.
    queries.change("held", priority=7)
    done = floe("apply", file, "--set", "spec.priority=6")
    assert done.returncode == 2 and "spec.priority" in done.stderr and "--force-conflicts" in done.stderr, done.stderr
    good("apply", file, "--set", "spec.priority=6", "--force-conflicts")
    good("apply", file, "--set", "spec.suspend=false", "--set", "spec.priority=6", "--force-conflicts")
    queries.phase("held", "Running", limit_seconds=120)
    done = floe("apply", file, "--set", "spec.suspend=false", "--set", "spec.priority=6", "--sink", "s3://other/place/")
    assert done.returncode == 2 and "plan, tables and sink cannot change" in done.stderr, done.stderr


def test_suspend_resume_cancel_and_delete(queries, tmp_path, slow):
    done = floe("submit", write(tmp_path, queries, "long", queries.spec(slow)))
    assert done.returncode == 0, done.stderr
    at = ["-n", queries.namespace]
    queries.phase("long", "Running", limit_seconds=120)
    assert "there is nothing to resume" in floe("resume", "long", *at).stderr
    good("suspend", "long", *at)
    queries.phase("long", "Suspended", limit_seconds=60)
    queries.no_pods("long")
    good("resume", "long", *at)
    queries.phase("long", "Running", limit_seconds=120)
    assert queries.status("long")["attempt"] == 2
    good("cancel", "long", *at)
    done = floe("watch", "long", *at)
    assert done.returncode == 130 and "Cancelled" in done.stderr, done.stderr
    late = floe("suspend", "long", *at)
    assert late.returncode == 2 and "it has ended (Cancelled)" in late.stderr, late.stderr
    good("delete", "long", *at)
    assert queries.get("long") is None
    done = floe("delete", "long", "never", *at)
    assert done.returncode == 2 and "there is no query long" in done.stderr and "there is no query never" in done.stderr


def test_get_lists_and_shows(queries, tmp_path):
    at = ["-n", queries.namespace]
    empty = floe("get", *at)
    assert empty.returncode == 0 and f"there are no queries in namespace {queries.namespace}" in empty.stderr
    good("submit", "--wait", write(tmp_path, queries, "one", queries.spec()))
    good("submit", write(tmp_path, queries, "two", queries.spec(suspend=True)))
    head, *rows = good("get", *at).splitlines()
    assert head.split() == ["NAME", "PHASE", "PROGRESS", "WORKERS", "STAGES", "ROWS", "AGE"]
    assert [row.split()[0] for row in rows] == ["one", "two"] and rows[0].split()[1] == "Succeeded"
    wide = good("get", *at, "-o", "wide").splitlines()
    in_kubectl = kube.kubectl("get", "dq", *at, "-o", "wide").splitlines()
    assert wide[0].split() == in_kubectl[0].split() and f"s3://{store.BUCKET}/{queries.prefix}/one/" in wide[1]
    assert good("get", *at, "-o", "name").split() == ["one", "two"]
    listed = json.loads(good("get", *at, "-o", "json"))
    assert listed["kind"] == "List" and [one["metadata"]["name"] for one in listed["items"]] == ["one", "two"]
    one = yaml.safe_load(good("get", "one", *at, "-o", "yaml"))
    assert one["status"]["phase"] == "Succeeded" and "managedFields" not in one["metadata"]
    stages = {stage["id"]: stage for stage in one["status"]["stages"]}
    assert one["status"]["durationMs"] > 0 and all("elapsedMs" in stage for stage in stages.values()), one["status"]
    assert all(stage["attempts"] >= stage["tasksTotal"] > 0 for stage in stages.values()), stages
    assert any(stage["dependsOn"] for stage in stages.values()), stages
    assert all(read in stages for stage in stages.values() for read in stage["dependsOn"]), stages
    everywhere = good("get", "-A").splitlines()
    assert everywhere[0].startswith("NAMESPACE") and any(row.split()[:2] == [queries.namespace, "one"] for row in everywhere)
    shown = good("get", "one", *at)
    assert "Phase:     Succeeded" in shown and "WHAT IT DOES" in shown and "done" in shown, shown
    missing = floe("get", "three", *at)
    assert missing.returncode == 2 and "there is no query three in namespace" in missing.stderr


def test_watch_as_json_has_an_object_on_each_line(queries, tmp_path):
    good("submit", write(tmp_path, queries, "told", queries.spec()))
    lines = good("watch", "told", "-n", queries.namespace, "-o", "json").splitlines()
    told = [json.loads(line) for line in lines]
    assert len(told) > 1 and {one["name"] for one in told} == {"told"}
    assert told[-1]["status"]["phase"] == "Succeeded" and told[-1]["status"]["stages"]


def test_interrupting_leaves_the_query_and_a_timeout_too(queries, tmp_path, slow):
    submitted = start("submit", "--wait", write(tmp_path, queries, "left", queries.spec(slow)), "-n", queries.namespace)
    queries.phase("left", "Running", limit_seconds=120)
    code, err = interrupt(submitted)
    assert code == 130 and f"`floe watch left -n {queries.namespace}` looks again" in err, err
    done = floe("watch", "left", "-n", queries.namespace, "--timeout", "2s")
    assert done.returncode == 6 and "has not ended within 2" in done.stderr and "goes on" in done.stderr, done.stderr
    assert queries.status("left")["phase"] == "Running"
    # One that is deleted meanwhile ends the watch.
    watched = start("watch", "left", "-n", queries.namespace)
    time.sleep(1)
    queries.delete("left")
    _, err = watched.communicate(timeout=30)
    assert watched.returncode == 2 and "was deleted before it ended" in err, err


@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
def test_a_terminal_shows_bars(queries, tmp_path):
    good("submit", write(tmp_path, queries, "bars", queries.spec(GATED)))
    terminal = Terminal("watch", "bars", "-n", queries.namespace)
    try:
        running = terminal.wait(150, "bars: Running", "workers 2/2", "✔", "─")
        pathlib.Path(os.environ.get("FLOE_E2E_CAPTURES", tmp_path)).joinpath("watch.txt").write_text(running)
        queries.open()
        ended = terminal.wait(200, "ended with 0", "✔")
        assert "bars: Succeeded, 100%" in ended and "─" not in ended, ended
        # Every stage once, and nothing of the bars left.
        stages = len(queries.status("bars")["stages"])
        assert ended.count("✔") == stages, ended
    finally:
        terminal.close()


def test_kubectl_has_it_as_a_plugin(queries, tmp_path):
    plugins = tmp_path / "bin"
    plugins.mkdir()
    for link in ("kubectl-floe", "kubectl_complete-floe"):
        (plugins / link).symlink_to(FLOE)
    os.environ["PATH"] = f"{plugins}:{os.environ['PATH']}"
    try:
        listed = kube.run("floe", "get", "-n", queries.namespace)
        assert listed.returncode == 0 and "there are no queries" in listed.stderr, listed.stderr
        assert "Usage: kubectl floe watch" in kube.run("floe", "watch", "--help").stdout
        good("submit", write(tmp_path, queries, "known", queries.spec(suspend=True)))
        proposed = kube.run("__complete", "floe", "watch", "-n", queries.namespace, "kn").stdout.split()
        assert proposed[0] == "known" and proposed[1] == ":4", proposed
        missing = kube.run("floe", "get", "none", "-n", queries.namespace)
        assert missing.returncode == 2 and f"`kubectl floe get -n {queries.namespace}`" in missing.stderr, missing.stderr
    finally:
        os.environ["PATH"] = os.environ["PATH"].removeprefix(f"{plugins}:")
